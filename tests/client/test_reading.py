"""States and histories: what a client shows of an instance."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

import wfq as wf
from tests.client.kit import Hand
from wfq.errors import InstanceNotFound, InvalidIdentifier, PayloadError, TaskFailedError


def test_an_unknown_instance_is_none(client: wf.WorkflowClient) -> None:
    assert client.get_workflow_state("nobody") is None
    assert client.get_workflow_state("a~b1") is None


def test_an_id_that_cannot_be_is_an_error(client: wf.WorkflowClient) -> None:
    with pytest.raises(InvalidIdentifier):
        client.get_workflow_state("no body")


def test_a_completed_instance_shows_its_result(client: wf.WorkflowClient, hand: Hand) -> None:
    instance_id = client.schedule_new_workflow("w", input=1)
    hand.turn(instance_id, actions=[["U", "half"]], custom="half")
    hand.complete(instance_id, {"sum": [1, 2.5, None]})

    state = client.get_workflow_state(instance_id)

    assert state is not None
    assert state.runtime_status is wf.WorkflowStatus.COMPLETED
    assert state.serialized_output == '{"sum":[1,2.5,null]}'
    assert state.output() == {"sum": [1, 2.5, None]}
    assert (state.serialized_custom_status, state.custom_status()) == ('"half"', "half")
    assert state.failure_details is None
    state.raise_if_failed()


def test_a_result_of_none_is_no_output(client: wf.WorkflowClient, hand: Hand) -> None:
    instance_id = client.schedule_new_workflow("w")
    hand.complete(instance_id, None)

    state = client.get_workflow_state(instance_id)

    assert state is not None
    assert (state.serialized_output, state.output()) == (None, None)


def test_a_failed_instance_shows_why(client: wf.WorkflowClient, hand: Hand) -> None:
    instance_id = client.schedule_new_workflow("w")
    hand.fail(instance_id, "ValueError", "no stock")

    state = client.get_workflow_state(instance_id)

    assert state is not None
    assert state.failure_details is not None
    assert (state.failure_details.error_type, state.failure_details.message) == (
        "ValueError", "no stock",
    )  # fmt: skip
    assert state.serialized_output is None
    with pytest.raises(TaskFailedError, match="no stock"):
        state.raise_if_failed()


def test_a_terminated_instance_shows_what_it_was_given(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    instance_id = client.schedule_new_workflow("w")
    hand.turn(instance_id, actions=[["Q", {"by": "me"}]], status="TERMINATED")

    state = client.get_workflow_state(instance_id)

    assert state is not None
    assert (state.runtime_status.name, state.output()) == ("TERMINATED", {"by": "me"})


def test_what_an_instance_was_terminated_with_is_not_of_its_functions_type(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    def count(ctx: wf.WorkflowContext) -> int:
        return 1

    instance_id = client.schedule_new_workflow(count)
    hand.turn(instance_id, actions=[["Q", {"by": "me"}]], status="TERMINATED")

    state = client.get_workflow_state(instance_id)

    assert state is not None
    output: Any = state.output()
    assert output == {"by": "me"}
    with pytest.raises(PayloadError):
        state.output(int)


@pytest.mark.parametrize("status", ["SUSPENDED", "STALLED"])
def test_other_statuses_show(client: wf.WorkflowClient, hand: Hand, status: str) -> None:
    instance_id = client.schedule_new_workflow("w")
    hand.turn(instance_id, status=status)

    state = client.get_workflow_state(instance_id)

    assert state is not None
    assert state.runtime_status is wf.WorkflowStatus[status]


def test_without_payloads_there_are_none(client: wf.WorkflowClient, hand: Hand) -> None:
    instance_id = client.schedule_new_workflow("w", input=1)
    hand.turn(instance_id, custom="half")
    hand.complete(instance_id, 2)

    state = client.get_workflow_state(instance_id, fetch_payloads=False)

    assert state is not None
    assert state.runtime_status.name == "COMPLETED"
    assert (
        state.serialized_input, state.serialized_output, state.serialized_custom_status,
    ) == (None, None, None)  # fmt: skip


def test_times_are_those_of_the_start_and_the_last_turn(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    instance_id = client.schedule_new_workflow("w")
    hand.turn(instance_id, at_ms=1_800_000_000_123)

    state = client.get_workflow_state(instance_id)

    assert state is not None
    assert state.last_updated_at == datetime(2027, 1, 15, 8, 0, 0, 123000)
    assert state.last_updated_at > state.created_at


def test_a_state_prints_and_dumps_as_daprs_does(client: wf.WorkflowClient, hand: Hand) -> None:
    instance_id = client.schedule_new_workflow("w", input=1, instance_id="a")
    hand.fail(instance_id)

    state = client.get_workflow_state(instance_id)

    assert state is not None
    document = state.to_json()
    assert document["runtime_status"] == "FAILED"
    assert document["failure_details"]["message"] == "boom"
    assert json.loads(str(state))["serialized_input"] == "1"
    assert repr(state) == "<WorkflowState 'a' 'w' FAILED>"


def test_statuses_have_daprs_numbers() -> None:
    names = ["UNKNOWN", "RUNNING", "COMPLETED", "FAILED", "TERMINATED", "PENDING", "SUSPENDED"]

    assert [wf.WorkflowStatus[name].value for name in names] == list(range(7))
    assert wf.WorkflowStatus.parse("completed").is_final
    assert not wf.WorkflowStatus.STALLED.is_final
    with pytest.raises(ValueError, match="no workflow status 'done'"):
        wf.WorkflowStatus.parse("done")


# --- history


def test_a_history_is_numbered_and_says_what_happened(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    instance_id = client.schedule_new_workflow("w", input=[1])
    failure = {"type": "E", "message": "m", "stack": "", "cause": None}
    actions: list[Any] = [
        ["A", 0, "charge", {"x": 1}, None],
        ["T", 1, 1_800_000_000_000],
        ["E", 2, "Approval", 1_800_000_000_000],
        ["W", 3, "child", "c-1", None, {"n": True}],
        ["M", "other", "ping", 1],
        ["U", "half"],
        ["P", "p1", True],
    ]
    hand.turn(instance_id, events=[["S", "x"]], actions=actions)
    inc = hand.fields(instance_id)["inc"]
    events: list[Any] = [
        ["C", 0, "n", "paid", 2],
        ["F", 1, "n"],
        ["E", inc, "id-1", "approval", True],
        ["F", 2, "n"],
        ["X", 3, "n", failure],
        ["L", inc, "c1", "suspend", {"reason": "tea"}],
        ["L", inc, "c2", "resume", {}],
        ["U", 0, "n", "nobody knows it"],
        ["L", inc, "c3", "terminate", {"output": 5, "recursive": True}],
    ]
    hand.turn(instance_id, events=events, actions=[["Q", 5]], status="TERMINATED")

    history = client.get_workflow_history(instance_id)

    assert [event.index for event in history] == list(range(17))
    assert [event.event_type.value for event in history] == [
        "ExecutionStarted",
        "TaskScheduled",
        "TimerCreated",
        "EventAwaited",
        "ChildWorkflowScheduled",
        "EventSent",
        "CustomStatusSet",
        "PatchMarked",
        "TaskCompleted",
        "TimerFired",
        "EventRaised",
        "EventTimedOut",
        "ChildWorkflowFailed",
        "ExecutionSuspended",
        "ExecutionResumed",
        "TaskStalled",
        "ExecutionTerminated",
    ]
    completed = history[8]
    assert (completed.name, completed.value, completed.attempts, completed.turn) == (
        "charge", "paid", 2, 2,
    )  # fmt: skip
    assert (completed.task_scheduled_id, history[1].task_scheduled_id) == (0, None)
    assert [event.index for event in history if event.is_rerunnable] == [1, 4]
    assert history[2].due_at == datetime(2027, 1, 15, 8)
    assert history[4].target_id == "c-1"
    assert history[12].failure_details is not None
    assert history[12].failure_details.message == "m"
    assert (history[10].value, history[13].details, history[16].value) == (
        True, {"reason": "tea"}, 5,
    )  # fmt: skip
    json.dumps([event.to_json() for event in history])


def test_the_history_of_an_unknown_instance_is_an_error(client: wf.WorkflowClient) -> None:
    with pytest.raises(InstanceNotFound, match="no workflow instance 'nobody'"):
        client.get_workflow_history("nobody")


def test_times_far_away_do_not_break_a_history(client: wf.WorkflowClient, hand: Hand) -> None:
    instance_id = client.schedule_new_workflow("w")
    hand.turn(instance_id, actions=[["T", 0, 10**17]])

    assert client.get_workflow_history(instance_id)[1].due_at == datetime(9999, 12, 31, 23, 59, 59)
