"""History as users read it."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.core.world import START_MS, World, command, raised, registry_of
from wfq.core.context import WorkflowContext
from wfq.core.history import expand_history
from wfq.core.retry import RetryPolicy

Flow = Generator[Any, Any, Any]


def everything(ctx: WorkflowContext, value: int) -> Flow:
    ctx.set_custom_status("begun")
    ctx.is_patched("p")
    policy = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=2)
    yield ctx.call_activity("pay", input=value, retry_policy=policy, queue="gpu")
    try:
        yield ctx.call_activity("fail")
    except Exception:
        ctx.send_event("other-1", "failed", 1)
    yield ctx.create_timer(timedelta(seconds=1))
    try:
        yield ctx.wait_for_external_event("never", timeout=timedelta(seconds=1))
    except TimeoutError:
        yield ctx.wait_for_external_event("go")
    try:
        yield ctx.call_child_workflow("child", instance_id="c1")
    except Exception:
        return (yield ctx.call_child_workflow("child", input=2))


def test_every_record_expands_to_named_events() -> None:
    world = World(everything, 7, extra={"tags": {"k": "v"}}, parent=["p-1", "pinc", 0, "pn"])
    world.start()
    world.turn(world.done(0, "paid"))
    world.turn(["U", 1, world.nonce(1), "no worker"])
    world.turn(world.failed(1))
    world.turn(command("suspend", reason="lunch"))
    world.turn(world.fired(2))
    world.turn(command("resume"))
    world.turn(world.fired(3))
    world.turn(raised("go", 5, "e1"))
    world.turn(world.failed(5))
    world.turn(world.done(6, "end"))
    events = expand_history(world.records)

    assert [event.type for event in events] == [
        "ExecutionStarted",
        "CustomStatusSet",
        "PatchMarked",
        "TaskScheduled",
        "TaskCompleted",
        "TaskScheduled",
        "TaskStalled",
        "TaskFailed",
        "EventSent",
        "TimerCreated",
        "ExecutionSuspended",
        "TimerFired",
        "ExecutionResumed",
        "EventAwaited",
        "EventTimedOut",
        "EventAwaited",
        "EventRaised",
        "ChildWorkflowScheduled",
        "ChildWorkflowFailed",
        "ChildWorkflowScheduled",
        "ChildWorkflowCompleted",
        "ExecutionCompleted",
    ]
    assert [event.index for event in events] == list(range(len(events)))
    assert [event.time_ms for event in events] == sorted(event.time_ms for event in events)
    assert events[-1].turn == len(world.records) - 1
    fields = [event.fields for event in events]
    assert fields[0] == {
        "name": "everything",
        "input": 7,
        "parent_instance_id": "p-1",
        "tags": {"k": "v"},
    }
    assert fields[3] == {
        "task_id": 0,
        "name": "pay",
        "input": 7,
        "queue": "gpu",
        "retry_policy": [1000, 2, 1.0, None, None, 0.0, []],
    }
    assert fields[4] == {"task_id": 0, "name": "pay", "result": "paid", "attempts": 1}
    assert fields[5] == {"task_id": 1, "name": "fail"}
    assert fields[6] == {"task_id": 1, "name": "fail", "reason": "no worker"}
    assert fields[7]["failure"]["type"] == "ValueError"
    assert fields[8] == {"instance_id": "other-1", "name": "failed", "data": 1}
    assert fields[10] == {"reason": "lunch"}
    assert fields[13]["timeout_at_ms"] == events[13].time_ms + 1_000
    assert fields[14] == {"task_id": 3, "name": "never"}
    assert fields[16] == {"name": "go", "data": 5, "event_id": "e1"}
    assert fields[18]["instance_id"] == "c1"
    assert fields[20]["result"] == "end"
    assert fields[21] == {"output": "end"}


def test_the_other_ends() -> None:
    def failing(ctx: WorkflowContext) -> None:
        raise ValueError("no")

    def again(ctx: WorkflowContext, n: int) -> None:
        ctx.continue_as_new(n + 1)

    failed, terminated = World(failing), World(again, 1)
    failed.start()
    terminated.turn(command("terminate", output="x"))
    continued = World(again, 1)
    birth = continued.records[0]
    turn = continued.start()

    assert expand_history(failed.records)[-1].fields["failure"]["message"] == "no"
    assert [(e.type, e.fields) for e in expand_history(terminated.records)[1:]] == [
        ("ExecutionTerminated", {"output": "x"})
    ]
    assert expand_history([birth, turn.record()])[-1].type == "ContinuedAsNew"
    assert expand_history(continued.records)[0].fields["continued_as_new_count"] == 1


def test_carried_and_deferred_events_say_so() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.wait_for_external_event("a")
        ctx.continue_as_new(None, save_events=True)

    world = World(workflow, registry=registry_of(workflow))
    world.start()
    world.turn(raised("b", 1), raised("a"), command("suspend"))
    carried = expand_history(world.records)[1:]
    assert [(e.type, e.fields.get("carried_over")) for e in carried] == [
        ("EventRaised", True),
        ("ExecutionSuspended", True),
    ]

    world.reload(stalled="no code")
    world.turn(world.started(), raised("c", 2))
    last = expand_history(world.records)[-1]
    assert (last.type, last.fields) == ("EventRaised", {"name": "c", "data": 2, "deferred": True})


def test_a_wait_that_timed_out_at_once_says_so() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.wait_for_external_event("a", timeout=timedelta(0))

    world = World(workflow)
    world.start()

    assert expand_history(world.records)[1].fields == {
        "task_id": 0,
        "name": "a",
        "timed_out": True,
    }


def test_times_are_aware() -> None:
    def workflow(ctx: WorkflowContext) -> None: ...

    world = World(workflow)

    first = expand_history(world.records)[0]
    assert first.time_ms == START_MS
    assert first.time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert first.fields == {"name": "workflow"}
