"""Stalled instances and instances without code: nothing is lost, and it goes on when it can."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

from tests.core.world import World, command, raised, registry_of, state_of
from wfq.core.context import WorkflowContext
from wfq.core.instance import Instance
from wfq.registry import Registry

Flow = Generator[Any, Any, Any]
NOTHING = Registry()


def steps(ctx: WorkflowContext) -> Flow:
    one = yield ctx.call_activity("one")
    two = yield ctx.wait_for_external_event("go", timeout=timedelta(seconds=5))
    three = yield ctx.call_child_workflow("child")
    return [one, two, three]


CODE = registry_of(steps)


def test_a_start_without_code_waits_for_it() -> None:
    world = World("steps", registry=NOTHING)
    turn = world.start()

    assert (turn.status_before, turn.status) == ("RUNNING", "STALLED")
    assert turn.extra == {"deferred": True}
    assert turn.stalled == world.instance.why == "no worker has the workflow 'steps'"
    assert not world.instance.has_code
    assert turn.actions == []

    world.reload(CODE)
    turn = world.turn(["W", "inc1"])
    assert (turn.status_before, turn.status) == ("STALLED", "RUNNING")
    assert turn.actions == [["A", 0, "one", None, {"n": True}]]


def test_events_that_came_without_code_are_delivered_in_order() -> None:
    world = World("steps", registry=CODE)
    world.start()
    completion = world.done(0, 1)
    world.reload(NOTHING)
    world.turn(completion)
    world.turn(raised("go", 2))
    assert world.status == "STALLED"
    world.reload(CODE)
    turn = world.turn(["W", "inc1"])
    world.turn(world.done(2, 3))

    assert [action[0] for action in turn.actions] == ["E", "W"]
    assert turn.events == []
    assert turn.delivered == 1
    assert world.output == [1, 2, 3]


def test_held_events_come_before_those_of_the_turn() -> None:
    world = World("steps", registry=CODE)
    world.start()
    completion = world.done(0, 1)
    world.reload(NOTHING)
    world.turn(raised("go", "first"))
    world.reload(CODE)
    world.turn(raised("go", "second"), completion)
    world.turn(world.done(2, 3))

    assert world.output == [1, "first", 3]


def test_the_books_are_kept_without_code() -> None:
    world = World("steps", registry=CODE)
    world.start()
    world.turn(world.done(0, 1))
    open_before = {i: (o.kind, o.nonce, o.action) for i, o in world.instance.open.items()}
    world.reload(NOTHING)

    assert {i: (o.kind, o.nonce, o.action) for i, o in world.instance.open.items()} == open_before
    assert world.turn(["C", 0, "n0", "again"], ["C", 9, "n0", 1]).events == []
    world.turn(raised("go", 1, "id1"))
    assert world.turn(raised("go", 1, "id1")).events == []


def test_the_first_turn_without_code_is_recorded_even_if_every_event_is_dropped() -> None:
    world = World("steps", registry=CODE)
    world.start()
    world.reload(NOTHING)
    turn = world.turn(["W", "inc1"])

    assert not turn.empty
    assert turn.events == []
    assert world.turn(["W", "inc1"]).empty


def test_terminate_works_without_code() -> None:
    world = World("steps", registry=CODE)
    world.start()
    world.turn(world.done(0, 1))
    world.turn(raised("go", 2))
    world.reload(NOTHING)
    turn = world.turn(command("terminate", output="gone", recursive=True))

    assert turn.status == "TERMINATED"
    assert [inc for _, inc in turn.children_to_terminate] == ["n2.2"]
    assert turn.extra == {"deferred": True}
    assert world.output == "gone"


def test_terminate_without_code_drops_timers_and_tasks() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        ctx.create_timer(timedelta(days=1))
        ctx.call_activity("slow")
        yield ctx.wait_for_external_event("go", timeout=timedelta(days=1))

    world = World(workflow)
    world.start()
    world.reload(NOTHING)
    turn = world.turn(command("terminate"))

    assert turn.cancel_timers == [(0, "n0"), (2, "n0")]
    assert [task[0] for task in turn.drop_tasks] == [1]


def test_suspend_and_resume_work_without_code() -> None:
    world = World("steps", registry=CODE)
    world.start()
    completion = world.done(0, 1)
    world.reload(NOTHING)
    assert world.turn(command("suspend")).status == "SUSPENDED"
    world.turn(completion)
    world.reload(CODE)
    assert world.turn(raised("go", 2)).status == "SUSPENDED"
    world.reload(NOTHING)
    assert world.turn(command("resume")).status == "STALLED"
    world.reload(CODE)
    turn = world.turn(["W", "inc1"])

    assert (turn.status_before, turn.status) == ("STALLED", "RUNNING")
    assert [action[0] for action in turn.actions] == ["E", "W"]


def test_an_instance_can_be_stalled_on_purpose() -> None:
    world = World("steps", registry=CODE)
    world.start()
    completion = world.done(0, 1)
    world.reload(stalled="it killed its worker twice")
    turn = world.turn(completion)

    assert turn.status == "STALLED"
    assert turn.stalled == "it killed its worker twice"
    world.reload()
    assert world.turn(["W", "inc1"]).status == "RUNNING"


def test_an_activity_that_no_worker_knows_stalls_until_it_completes() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        a, b = ctx.call_activity("a"), ctx.call_activity("b")
        other = yield ctx.wait_for_external_event("x")
        ctx.set_custom_status(other)
        return [(yield a), (yield b)]

    world = World(workflow)
    world.start()
    turn = world.turn(["U", 0, "n0", "no worker knows 'a'"])
    assert (turn.status, turn.stalled) == ("STALLED", "no worker knows 'a'")
    assert world.turn(["U", 0, "n0", "no worker knows 'a'"]).empty

    turn = world.turn(raised("x", 1))
    assert turn.custom == 1
    assert turn.status == "STALLED"
    turn = world.turn(world.done(0, 1))
    assert (turn.status_before, turn.status) == ("STALLED", "RUNNING")
    world.turn(world.done(1, 2))
    assert world.output == [1, 2]


def test_two_unknown_activities_stall_until_both_complete() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        a, b = ctx.call_activity("a"), ctx.call_activity("b")
        return [(yield a), (yield b)]

    world = World(workflow)
    world.start()
    world.turn(["U", 0, "n0", "no a"], ["U", 1, "n0", "no b"])
    assert world.turn(world.done(0, 1)).stalled == "no b"
    world.turn(world.failed(1))

    assert world.status == "FAILED"


def test_a_note_about_a_task_that_has_ended_is_dropped() -> None:
    world = World("steps", registry=CODE)
    world.start()
    note = ["U", 0, world.nonce(0), "?"]
    world.turn(world.done(0, 1))

    assert world.turn(note).empty


def test_a_long_history_loads_without_code_as_with_it() -> None:
    world = World("steps", registry=CODE)
    world.start()
    world.turn(world.done(0, 1))
    world.turn(raised("go", 2))
    with_code = state_of(world.instance)
    without = state_of(Instance.load(world.id, world.records, NOTHING))

    for key in ("turns", "now_ms", "next_id", "suspended", "recent"):
        assert with_code[key] == without[key]
    # Without code nobody can tell which wait an event was for: it stays open till its timeout.
    assert [task[0] for task in without["open"]] == [1, 2]
    assert [task[0] for task in with_code["open"]] == [2]
