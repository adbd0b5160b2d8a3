"""Child workflows: ids, outcomes, retries."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from tests.core.world import INC, World, registry_of
from wfq.core.context import WorkflowContext
from wfq.core.retry import RetryPolicy
from wfq.core.tasks import when_all
from wfq.errors import TaskFailedError

Flow = Generator[Any, Any, Any]
PARENT = ["parent-1", "pinc", 4, "pn0"]


def child(ctx: WorkflowContext, value: Any) -> Any:
    return value


def family(workflow: Any) -> World:
    registry = registry_of(workflow, child)
    return World(workflow, registry=registry)


def test_a_child_gets_an_id_of_the_engine() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        return (yield ctx.call_child_workflow(child, input=1))

    world = family(workflow)
    world.start()
    action = world.actions()[0]
    world.turn(world.done(0, "result"))

    assert action[:3] == ["W", 0, "child"]
    assert action[3].startswith("order-7~")
    assert action[3].endswith("0")
    assert len(action[3]) == len("order-7~") + 6 + 1
    assert action[4:] == [1, None]
    assert world.output == "result"


def test_engine_ids_differ_between_tasks_generations_and_incarnations() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield when_all([ctx.call_child_workflow("child"), ctx.call_child_workflow("child")])
        ctx.continue_as_new(None)

    ids = set()
    world = family(workflow)
    for _ in range(2):
        world.start()
        ids |= {action[3] for action in world.actions()}
        world.turn(world.done(0), world.done(1))
    other = family(workflow)
    other.records[0][2] = "another-life"
    other.reload()
    other.start()
    other.turn(["S", "another-life"])
    ids |= {action[3] for action in other.actions()}

    assert len(ids) == 6


def test_a_child_can_have_an_id_an_app_and_no_input() -> None:
    def workflow(ctx: WorkflowContext) -> None:
        ctx.call_child_workflow("child", instance_id="my-child:1", app_id="other-app")

    world = family(workflow)
    world.start()

    assert world.actions()[0] == [
        "W", 0, "child", "my-child:1", None, {"q": "other-app", "n": True},
    ]  # fmt: skip


@pytest.mark.parametrize("bad", ["", "a~b", "a b", "x" * 201, "a\n", 5])
def test_an_id_outside_the_alphabet_is_refused(bad: Any) -> None:
    def workflow(ctx: WorkflowContext) -> None:
        ctx.call_child_workflow("child", instance_id=bad)

    world = family(workflow)
    world.start()

    assert world.output["type"] == "InvalidIdentifier"


def test_a_failed_child_raises_in_the_parent() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            yield ctx.call_child_workflow(child)
        except TaskFailedError as e:
            return [str(e), e.details.error_type]

    world = family(workflow)
    world.start()
    world.turn(world.failed(0, "id taken", "InstanceAlreadyExists"))

    assert world.output == ["child workflow 'child' failed: id taken", "InstanceAlreadyExists"]


def test_the_outcome_is_told_to_the_parent() -> None:
    def workflow(ctx: WorkflowContext, value: Any) -> Any:
        if value == "fail":
            raise KeyError("k")
        return value

    good = World(workflow, "x", parent=PARENT)
    bad = World(workflow, "fail", parent=PARENT)

    assert good.start().parent_event == ["C", 4, "pn0", "x"]
    event = bad.start().parent_event
    assert event is not None
    assert event[:3] == ["X", 4, "pn0"]
    assert event[3]["type"] == "KeyError"


def test_a_child_that_is_terminated_fails_for_its_parent_for_good() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.wait_for_external_event("never")

    world = World(workflow, parent=PARENT)
    world.start()
    event = world.turn(["L", INC, "c1", "terminate", {"output": 1}]).parent_event

    assert event is not None
    assert event[:3] == ["X", 4, "pn0"]
    assert event[3]["type"] == "WorkflowTerminated"
    assert event[3]["non_retryable"] is True


ADOPTED = ["parent-1", "pinc", 4, "pn7"]


@pytest.mark.parametrize("between", ["nothing", "suspension", "continue as new", "no code"])
def test_a_child_that_is_adopted_tells_its_new_parent(between: str) -> None:
    def workflow(ctx: WorkflowContext, value: Any) -> Flow:
        name = yield ctx.wait_for_external_event("go")
        if name == "again":
            ctx.continue_as_new("next", save_events=True)
        return name

    world = World(workflow, "x", parent=PARENT)
    world.start()
    adoption = ["L", INC, "adopt.pn7", "adopt", ADOPTED]
    if between == "suspension":
        world.turn(["L", INC, "c1", "suspend", {}])
        world.turn(adoption)
        world.turn(["L", INC, "c2", "resume", {}])
    elif between == "continue as new":
        # The command comes in the very turn that ends the generation.
        world.turn(["E", INC, "e1", "go", "again"], adoption)
        assert world.records[0][6] == PARENT
        world.start()
    elif between == "no code":
        world.reload(stalled="gone")
        world.turn(adoption)
        world.reload()
    else:
        world.turn(adoption)
        world.turn(adoption)  # sent twice

    assert world.turn(["E", INC, "e2", "go", "end"]).parent_event == ["C", 4, "pn7", "end"]


def test_one_without_a_parent_is_not_adopted() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        return (yield ctx.wait_for_external_event("go"))

    world = World(workflow)
    world.start()
    world.turn(["L", INC, "adopt.pn7", "adopt", ADOPTED])

    assert world.turn(["E", INC, "e1", "go", 1]).parent_event is None


def test_a_child_knows_its_parent_over_continue_as_new() -> None:
    def workflow(ctx: WorkflowContext, n: int) -> str | None:
        if n < 2:
            ctx.continue_as_new(n + 1)
        return ctx.parent_instance_id

    world = World(workflow, 0, parent=PARENT)
    assert world.start().parent_event is None
    assert world.start().parent_event is None

    assert world.start().parent_event == ["C", 4, "pn0", "parent-1"]


def retrying(policy: RetryPolicy, instance_id: str | None = None) -> World:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            task = ctx.call_child_workflow(
                child, input=[1], retry_policy=policy, instance_id=instance_id, app_id="q1"
            )
            return (yield task)
        except TaskFailedError as e:
            return str(e)

    return family(workflow)


def test_a_failed_child_is_started_again_after_its_backoff() -> None:
    policy = RetryPolicy(
        first_retry_interval=timedelta(seconds=1),
        max_number_of_attempts=3,
        backoff_coefficient=2,
    )
    world = retrying(policy)
    world.start()
    first = world.actions()[0]
    world.turn(world.failed(0))
    assert world.actions() == [["T", 1, world.now_ms + 1_000]]
    world.turn(world.fired(1))
    second = world.actions()[0]
    world.turn(world.failed(2))
    assert world.actions() == [["T", 3, world.now_ms + 2_000]]
    world.turn(world.fired(3))
    world.turn(world.failed(4, "third"))

    assert first[2:3] + first[4:] == second[2:3] + second[4:]
    assert first[3] != second[3]
    assert world.output == "child workflow 'child' failed: third"


def test_a_child_that_succeeds_at_the_second_attempt_gives_its_result() -> None:
    policy = RetryPolicy(first_retry_interval=timedelta(0), max_number_of_attempts=2)
    world = retrying(policy)
    world.start()
    world.turn(world.failed(0))
    world.turn(world.fired(1))
    world.turn(world.done(2, "ok"))

    assert world.output == "ok"


def test_a_retry_under_an_id_of_the_user_may_replace_the_failed_child() -> None:
    policy = RetryPolicy(first_retry_interval=timedelta(0), max_number_of_attempts=2)
    world = retrying(policy, "mine")
    world.start()
    first = world.actions()[0]
    world.turn(world.failed(0))
    world.turn(world.fired(1))
    second = world.actions()[0]

    assert first[3] == second[3] == "mine"
    assert "x" not in first[5]
    assert second[5] == {**first[5], "x": True}


@pytest.mark.parametrize(
    "policy",
    [
        RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=1),
        RetryPolicy(
            first_retry_interval=timedelta(seconds=1),
            max_number_of_attempts=9,
            retry_timeout=timedelta(milliseconds=500),
        ),
        RetryPolicy(
            first_retry_interval=timedelta(seconds=1),
            max_number_of_attempts=9,
            non_retryable=[ValueError],
        ),
    ],
)
def test_some_failures_of_children_are_final(policy: RetryPolicy) -> None:
    world = retrying(policy)
    world.start()
    world.turn(world.failed(0))

    assert world.output == "child workflow 'child' failed: boom"


def test_jitter_is_the_same_in_every_replay() -> None:
    policy = RetryPolicy(
        first_retry_interval=timedelta(seconds=100), max_number_of_attempts=-1, jitter=1.0
    )
    world = retrying(policy)
    world.start()
    delays = []
    for attempt in range(5):
        world.turn(world.failed(2 * attempt))
        delays.append(world.actions()[0][2] - world.now_ms)
        world.turn(world.fired(2 * attempt + 1))

    assert len(set(delays)) == 5
    assert all(0 <= delay <= 100_000 for delay in delays)


def test_a_retry_in_flight_survives_suspend_and_is_cancelled_by_terminate() -> None:
    policy = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)
    world = retrying(policy)
    world.start()
    world.turn(world.failed(0))
    world.turn(["L", INC, "c1", "suspend", {}])
    world.turn(world.fired(1))
    assert world.actions() == []
    world.turn(["L", INC, "c2", "resume", {}])
    assert world.actions()[0][:2] == ["W", 2]
    world.turn(world.failed(2))
    turn = world.turn(["L", INC, "c3", "terminate", {"recursive": True}])

    assert turn.cancel_timers == [(3, "n5")]
    assert not turn.children_to_terminate


def test_a_thousand_children() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        results = yield when_all([ctx.call_child_workflow(child, input=n) for n in range(1_000)])
        return sum(results)

    world = family(workflow)
    world.start()
    ids = {action[3] for action in world.actions()}
    world.turn(*[world.done(n, n) for n in range(1_000)])

    assert len(ids) == 1_000
    assert world.output == 499_500
