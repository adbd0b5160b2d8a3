"""Suspend, resume and terminate, at every point."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import pytest

from tests.core.world import INC, World, command, raised, registry_of
from wfq.core.context import WorkflowContext
from wfq.core.tasks import when_all

Flow = Generator[Any, Any, Any]


def steps(ctx: WorkflowContext) -> Flow:
    one = yield ctx.call_activity("one")
    timer = ctx.create_timer(timedelta(seconds=5))
    event = ctx.wait_for_external_event("go", timeout=timedelta(seconds=9))
    child = ctx.call_child_workflow("child")
    yield timer
    return [one, (yield event), (yield child)]


#: What happens to `steps`, in order; with the task that must be open for it.
SCRIPT: list[tuple[int | None, Callable[[World], Any]]] = [
    (None, lambda world: world.started()),
    (0, lambda world: world.done(0, 1)),
    (1, lambda world: world.fired(1)),
    (None, lambda _: raised("go", 2, "the-event")),
    (3, lambda world: world.done(3, 3)),
]


@pytest.mark.parametrize("suspend_at", range(len(SCRIPT)))
@pytest.mark.parametrize("length", range(len(SCRIPT)))
def test_a_suspension_at_any_point_changes_nothing_but_the_time(
    suspend_at: int, length: int
) -> None:
    world = World(steps)
    waiting = list(SCRIPT)
    for step in range(3 * len(SCRIPT)):
        if step == suspend_at:
            assert world.turn(command("suspend")).status == "SUSPENDED"
        if step == suspend_at + length:
            world.turn(command("resume"))
        # What answers a task that is not scheduled yet cannot happen yet.
        ready = next((s for s in waiting if s[0] is None or s[0] in world.instance.open), None)
        if ready is None:
            continue
        waiting.remove(ready)
        turn = world.turn(ready[1](world))
        assert turn.actions == [] or turn.status_before != "SUSPENDED"

    assert world.status == "COMPLETED"
    assert world.output == [1, 2, 3]


def test_held_events_are_delivered_in_their_order_in_the_turn_of_the_resume() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        tasks = [ctx.call_activity("a"), ctx.call_activity("b")]
        order: list[str] = []
        order.append((yield ctx.wait_for_external_event("x")))
        order.extend((yield when_all(tasks)))
        order.append((yield ctx.wait_for_external_event("x")))
        return order

    world = World(workflow)
    world.start()
    world.turn(command("suspend"))
    world.turn(raised("x", "first"), world.done(1, "b"))
    world.turn(world.done(0, "a"), raised("x", "second"))
    turn = world.turn(command("resume"))

    assert world.output == ["first", "a", "b", "second"]
    assert turn.delivered == 2


def test_events_of_one_batch_on_both_sides_of_a_suspension() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        one = yield ctx.wait_for_external_event("x")
        two = yield ctx.wait_for_external_event("x")
        return [one, two]

    world = World(workflow)
    world.start()
    turn = world.turn(raised("x", 1), command("suspend"), raised("x", 2))
    assert turn.status == "SUSPENDED"
    assert turn.delivered == 1
    world.turn(command("resume"))

    assert world.output == [1, 2]


def test_suspend_and_resume_in_one_batch_leave_a_running_instance() -> None:
    world = World(steps)
    turn = world.turn(world.started(), command("suspend"), command("resume"))

    assert turn.status == "RUNNING"
    assert [event[0] for event in turn.events] == ["S", "L", "L"]


def test_a_command_that_changes_nothing_is_not_recorded() -> None:
    world = World(steps)
    world.start()

    assert world.turn(command("resume")).empty
    world.turn(command("suspend"))
    assert world.turn(command("suspend")).empty


def test_a_command_that_comes_twice_counts_once() -> None:
    world = World(steps)
    world.start()
    world.turn(command("suspend", "c1"))
    world.turn(command("resume", "c2"))

    assert world.turn(command("suspend", "c1")).empty
    assert world.status == "RUNNING"


def test_a_command_for_another_incarnation_is_dropped() -> None:
    world = World(steps)
    world.start()

    assert world.turn(command("terminate", inc="an-older-life")).empty


def test_an_instance_can_be_suspended_before_its_start() -> None:
    world = World(steps)
    world.turn(command("suspend"))
    assert world.start().actions == []
    world.turn(command("resume"))

    assert world.actions() == [["A", 0, "one", None, {"n": True}]]


def test_of_a_held_event_and_a_held_timeout_the_earlier_counts() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            return (yield ctx.wait_for_external_event("go", timeout=timedelta(seconds=1)))
        except TimeoutError:
            return "late"

    first, second = World(workflow), World(workflow)
    for world in (first, second):
        world.start()
        world.turn(command("suspend"))
        events = [raised("go", "event"), world.fired(0)]
        world.turn(*(events if world is first else reversed(events)))
        world.turn(command("resume"))

    assert first.output == "event"
    assert second.output == "late"


def test_terminate_ends_the_instance_with_its_output() -> None:
    world = World(steps)
    world.start()
    turn = world.turn(command("terminate", output={"why": "enough"}))

    assert turn.status == world.status == "TERMINATED"
    assert world.output == {"why": "enough"}
    assert [(i, n) for i, n, _ in turn.drop_tasks] == [(0, "n0")]
    assert turn.parent_event is None


def test_terminate_lists_the_open_children_if_it_is_recursive() -> None:
    recursive, alone = World(steps), World(steps)
    for world in (recursive, alone):
        world.start()
        world.turn(world.done(0))
    child_id = recursive.actions()[2][3]
    wide = recursive.turn(command("terminate", recursive=True))
    narrow = alone.turn(command("terminate", recursive=False))

    assert wide.children_to_terminate == [(child_id, "n1.3")]
    assert not narrow.children_to_terminate
    assert wide.cancel_timers == [(1, "n1"), (2, "n1")]


def test_terminate_before_the_first_turn() -> None:
    world = World(steps)
    turn = world.turn(command("terminate", output="never"), world.started())

    assert turn.status == "TERMINATED"
    assert not turn.ran
    assert world.output == "never"
    assert [event[0] for event in turn.events] == ["L"]


def test_terminate_while_suspended_drops_what_is_held() -> None:
    world = World(steps)
    world.start()
    world.turn(command("suspend"))
    world.turn(world.done(0, 1), raised("go"))
    turn = world.turn(command("terminate"))

    assert turn.status == "TERMINATED"
    assert turn.delivered == 1
    assert world.output is None


def test_terminate_twice_counts_once() -> None:
    world = World(steps)
    world.start()
    turn = world.turn(command("terminate", output=1), command("terminate", output=2))

    assert world.output == 1
    assert len(turn.events) == 1
    assert world.instance.apply([command("terminate", output=3)], world.now_ms, "x").empty


def test_what_comes_after_the_end_is_dropped() -> None:
    world = World(steps)
    world.start()
    late = [world.done(0, 1), ["S", INC], command("suspend"), raised("go")]
    turn = world.turn(command("terminate"), *late)

    assert len(turn.events) == 1
    assert turn.delivered == 1


def test_a_finally_clause_cannot_act_on_terminate() -> None:
    acted: list[str] = []

    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            yield ctx.call_activity("a")
        finally:
            acted.append("finally")
            ctx.call_activity("cleanup")
            acted.append("scheduled")

    world = World(workflow, registry=registry_of(workflow))
    world.start()
    turn = world.turn(command("terminate"))

    assert "scheduled" not in acted
    assert [action[0] for action in turn.actions] == ["Q"]
