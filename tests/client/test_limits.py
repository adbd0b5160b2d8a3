"""Limits of a turn and of a history, with workers on a real server."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from typing import Any

import pytest

import wfq as wf
from tests.client.kit import NAMESPACE
from tests.servers import poll
from wfq.settings import load_settings

Flow = Generator[Any, Any, Any]

TURN_BYTES = 4_096
HISTORY_EVENTS = 20


def runtime(url: str, turn_bytes: int = TURN_BYTES) -> wf.WorkflowRuntime:
    settings = load_settings(
        redis_url=url,
        namespace=NAMESPACE,
        lease_s=1.0,
        limits={"turn_bytes": turn_bytes, "history_events": HISTORY_EVENTS},
    )
    wfr = wf.WorkflowRuntime(settings=settings)

    @wfr.activity
    def length(text: str) -> int:
        return len(text)

    @wfr.workflow
    def wide(ctx: wf.WorkflowContext, count: int) -> Flow:
        tasks = [ctx.call_activity(length, input="x" * 1_000) for _ in range(count)]
        return sum((yield wf.when_all(tasks)))

    @wfr.workflow
    def loops(ctx: wf.WorkflowContext, count: int) -> Flow:
        for _ in range(count):
            ctx.call_activity(length, input="x" * 1_000)
        yield ctx.wait_for_external_event("go")
        ctx.continue_as_new(0)

    @wfr.workflow
    def listens(ctx: wf.WorkflowContext) -> Flow:
        while True:
            yield ctx.wait_for_external_event("tick")

    return wfr


@pytest.fixture
def client(valkey_url: str) -> Iterator[wf.WorkflowClient]:
    with wf.WorkflowClient(redis_url=valkey_url, namespace=NAMESPACE) as client:
        yield client


def stalled_reason(client: wf.WorkflowClient, instance_id: str) -> str:
    state = client.get_workflow_state(instance_id)
    assert state is not None
    return state.stalled_reason or ""


def test_a_turn_that_decides_too_much_stalls_until_the_limit_is_raised(
    valkey_url: str, client: wf.WorkflowClient
) -> None:
    with runtime(valkey_url):
        instance_id = client.schedule_new_workflow("wide", input=8)
        beside = client.schedule_new_workflow("wide", input=2)

        reason = poll(lambda: stalled_reason(client, instance_id), 20)

        assert "decided 8 actions" in reason
        assert f"limits.turn_bytes ({TURN_BYTES})" in reason
        assert len(reason) < 400
        state = client.wait_for_workflow_completion(beside, timeout_in_seconds=20)
        assert state is not None
        assert state.output() == 2_000

    with runtime(valkey_url, turn_bytes=100_000):
        state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=20)
        assert state is not None
        assert state.output() == 8_000


def test_events_for_such_an_instance_are_kept_and_it_can_be_terminated(
    valkey_url: str, client: wf.WorkflowClient
) -> None:
    with runtime(valkey_url):
        instance_id = client.schedule_new_workflow("loops", input=8)
        poll(lambda: stalled_reason(client, instance_id), 20)
        client.raise_workflow_event(instance_id, "go")
        client.raise_workflow_event(instance_id, "go")
        client.terminate_workflow(instance_id, output="enough")

        state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=20)

    assert state is not None
    assert state.runtime_status is wf.WorkflowStatus.TERMINATED
    assert state.output() == "enough"


def test_a_long_history_is_warned_of_and_then_fails(
    valkey_url: str, client: wf.WorkflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "wfq.orchestrator"), runtime(valkey_url):
        instance_id = client.schedule_new_workflow("listens")
        for n in range(HISTORY_EVENTS // 2):
            client.raise_workflow_event(instance_id, "tick", data=n)
        poll(lambda: warnings(caplog), 20)
        state = poll(lambda: ended_after_another(client, instance_id), 20)

    assert state.runtime_status is wf.WorkflowStatus.FAILED
    assert state.failure_details is not None
    assert state.failure_details.error_type == "HistoryTooLong"
    assert len(warnings(caplog)) == 1


def ended_after_another(
    client: wf.WorkflowClient, instance_id: str
) -> wf.WorkflowState[Any] | None:
    """The final state, if one more event ends the instance."""
    try:
        client.raise_workflow_event(instance_id, "tick")
    except wf.InstanceFinished:
        return client.get_workflow_state(instance_id)
    return None


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings of a long history."""
    lines = [record.getMessage() for record in caplog.records]
    return [line for line in lines if "of at most 20: call ctx.continue_as_new()" in line]
