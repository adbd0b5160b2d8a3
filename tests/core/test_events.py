"""External events: buffered, matched without case, first in first out, deduplicated."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.core.world import World, raised
from wfq.core.context import WorkflowContext
from wfq.core.ports import Limits
from wfq.core.tasks import when_all, when_any
from wfq.registry import Registry

Flow = Generator[Any, Any, Any]


def wait_once(ctx: WorkflowContext) -> Flow:
    return (yield ctx.wait_for_external_event("approval"))


async def wait_once_async(ctx: WorkflowContext) -> Any:
    return await ctx.wait_for_external_event("approval")


@pytest.mark.parametrize("workflow", [wait_once, wait_once_async])
def test_an_event_is_handed_to_the_waiter(workflow: Any) -> None:
    world = World(workflow)
    world.start()
    assert world.actions() == [["E", 0, "approval", None]]
    turn = world.turn(raised("approval", {"by": "Jane"}))

    assert world.output == {"by": "Jane"}
    assert turn.delivered == 1


def test_an_event_before_the_wait_is_kept() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("a")
        return (yield ctx.wait_for_external_event("approval"))

    world = World(workflow)
    world.start()
    assert world.turn(raised("approval", 1)).delivered == 0
    turn = world.turn(world.done(0))

    assert turn.delivered == 1
    assert world.output == 1
    assert world.actions() == [["E", 1, "approval", None], ["K", 1]]


def test_an_event_before_the_start_is_kept() -> None:
    world = World(wait_once)
    world.turn(raised("approval", "early"))
    assert world.status == "RUNNING"
    world.start()

    assert world.output == "early"


def test_an_event_in_the_batch_of_the_start_is_kept() -> None:
    world = World(wait_once)
    world.turn(raised("approval", "early"), world.started())

    assert world.output == "early"


def test_names_match_without_case_in_any_script() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        first = yield ctx.wait_for_external_event("Approval_Received")
        second = yield ctx.wait_for_external_event("STRASSE")
        return [first, second]

    world = World(workflow)
    world.start()
    world.turn(raised("APPROVAL_received", 1), raised("straße", 2))

    assert world.output == [1, 2]


def test_several_events_of_one_name_come_in_order() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        found = []
        for _ in range(3):
            found.append((yield ctx.wait_for_external_event("item")))
        return found

    world = World(workflow)
    world.start()
    world.turn(raised("item", 1), raised("other", 9), raised("ITEM", 2))
    world.turn(raised("Item", 3))

    assert world.output == [1, 2, 3]


def test_two_waiters_of_one_name_are_served_first_in_first_out() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        first = ctx.wait_for_external_event("go")
        second = ctx.wait_for_external_event("GO")
        winner = yield when_any([second, first])
        assert winner is first
        return (yield when_all([first, second]))

    world = World(workflow)
    world.start()
    world.turn(raised("go", 1))
    world.turn(raised("go", 2))

    assert world.output == [1, 2]


def test_a_wait_times_out() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        task = ctx.wait_for_external_event("go", timeout=timedelta(seconds=5))
        try:
            yield task
        except TimeoutError as e:
            return [str(e), task.is_failed, type(task.get_exception()).__name__]

    world = World(workflow)
    world.start()
    assert world.actions() == [["E", 0, "go", world.now_ms + 5_000]]
    turn = world.turn(world.fired(0))

    assert world.output == ["no event 'go' came in time", True, "TimeoutError"]
    assert not turn.cancel_timers


def test_an_uncaught_timeout_fails_the_workflow_as_timeout_error() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.wait_for_external_event("go", timeout=timedelta(seconds=5))

    world = World(workflow)
    world.start()
    world.turn(world.fired(0))

    assert world.output["type"] == "TimeoutError"


def test_an_event_in_time_cancels_the_timeout() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        got = yield ctx.wait_for_external_event("go", timeout=timedelta(seconds=5))
        yield ctx.call_activity("a")
        return got

    world = World(workflow)
    world.start()
    turn = world.turn(raised("go", 1))

    assert turn.cancel_timers == [(0, "n0")]
    assert world.turn(["F", 0, "n0"]).empty


def test_an_event_in_the_very_turn_of_the_wait_needs_no_timer() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        got = yield ctx.wait_for_external_event("go", timeout=timedelta(seconds=5))
        yield ctx.call_activity("a", input=got)

    world = World(workflow)
    turn = world.turn(world.started(), raised("go", 1))

    assert world.actions() == [["E", 0, "go", None], ["A", 1, "a", 1, None]]
    assert not turn.cancel_timers


def test_of_event_and_timeout_in_one_turn_the_earlier_counts() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            return (yield ctx.wait_for_external_event("go", timeout=timedelta(seconds=5)))
        except TimeoutError:
            return "late"

    first = World(workflow)
    first.start()
    first.turn(raised("go", "event"), first.fired(0))
    second = World(workflow)
    second.start()
    second.turn(second.fired(0), raised("go", "event"))

    assert first.output == "event"
    assert second.output == "late"


@pytest.mark.parametrize("limit", [timedelta(0), datetime(2001, 1, 1)])
def test_a_wait_without_time_takes_what_is_there_or_times_out_at_once(
    limit: timedelta | datetime,
) -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("a")
        got = []
        for _ in range(2):
            try:
                got.append((yield ctx.wait_for_external_event("go", timeout=limit)))
            except TimeoutError:
                got.append("nothing")
        return got

    world = World(workflow)
    world.start()
    world.turn(raised("go", 1))
    turn = world.turn(world.done(0))

    assert world.output == [1, "nothing"]
    assert world.actions()[:2] == [["E", 1, "go", None], ["E", 2, "go", 0]]
    assert not turn.cancel_timers


def test_a_negative_timeout_waits_for_ever_as_in_dapr() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        return (yield ctx.wait_for_external_event("go", timeout=timedelta(seconds=-1)))

    world = World(workflow)
    world.start()

    assert world.actions() == [["E", 0, "go", None]]
    world.turn(raised("go", 1))
    assert world.output == 1


def test_a_timed_out_waiter_takes_no_later_event() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            yield ctx.wait_for_external_event("go", timeout=timedelta(seconds=5))
        except TimeoutError:
            return (yield ctx.wait_for_external_event("go"))

    world = World(workflow)
    world.start()
    world.turn(world.fired(0))
    world.turn(raised("go", 7))

    assert world.output == 7


def test_a_deadline_can_be_a_time() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        when = ctx.current_utc_datetime + timedelta(seconds=3)
        yield ctx.wait_for_external_event("go", timeout=when)

    world = World(workflow)
    world.start()

    assert world.actions() == [["E", 0, "go", world.now_ms + 3_000]]


def test_an_event_id_counts_once() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        one = yield ctx.wait_for_external_event("go")
        two = yield ctx.wait_for_external_event("go")
        return [one, two]

    world = World(workflow)
    world.start()
    first = world.turn(raised("go", 1, "id-a"), raised("go", "again", "id-a"))
    second = world.turn(raised("go", "again", "id-a"))
    third = world.turn(raised("go", 2, "id-b"))

    assert world.output == [1, 2]
    assert (first.delivered, second.delivered, third.delivered) == (2, 1, 1)
    assert second.empty


def test_only_so_many_event_ids_are_remembered() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.wait_for_external_event("never")

    registry = Registry(limits=Limits(recent_event_ids=3))
    registry.register_workflow(workflow)
    world = World(workflow, registry=registry)
    world.start()
    world.turn(*[raised("x", None, f"id{n}") for n in range(5)])

    assert not world.turn(raised("x", None, "id0")).empty
    assert world.turn(raised("x", None, "id4")).empty


def test_events_without_id_are_never_duplicates() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        one = yield ctx.wait_for_external_event("go")
        two = yield ctx.wait_for_external_event("go")
        return [one, two]

    world = World(workflow)
    world.start()
    world.turn(raised("go", 1), raised("go", 1))

    assert world.output == [1, 1]


def test_an_event_of_another_incarnation_is_dropped() -> None:
    world = World(wait_once)
    world.start()

    assert world.turn(raised("approval", 1, inc="an-older-life")).empty


def test_events_that_nobody_took_leave_the_inbox_at_the_end() -> None:
    world = World(wait_once)
    world.start()
    world.turn(raised("noise", 1), raised("noise", 2))
    turn = world.turn(raised("approval"), raised("late"))

    assert turn.delivered == 4
    assert [event[3] for event in turn.events] == ["approval"]


def test_an_event_for_an_ended_instance_is_dropped_and_counted() -> None:
    world = World(wait_once)
    world.start()
    world.turn(raised("approval"))
    turn = world.instance.apply([raised("approval")], world.now_ms, "later")

    assert turn.empty
    assert turn.delivered == 1


def test_changing_the_data_does_not_change_history() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        data = yield ctx.wait_for_external_event("go")
        data["more"] = 1
        return data

    world = World(workflow)
    world.start()
    world.turn(raised("go", {}))

    assert world.output == {"more": 1}
    assert world.records[2][3][0][4] == {}


def test_a_workflow_can_raise_events_for_others() -> None:
    def workflow(ctx: WorkflowContext) -> None:
        ctx.send_event("order-8", "ready", {"n": 1})
        ctx.send_event("order-7~abc1", "go")

    world = World(workflow)
    world.start()

    assert world.actions()[:2] == [
        ["M", "order-8", "ready", {"n": 1}],
        ["M", "order-7~abc1", "go", None],
    ]


@pytest.mark.parametrize("name", ["", None, 5, "\ud800", "x" * 501])
def test_an_event_name_that_cannot_be_is_refused(name: Any) -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.wait_for_external_event(name)

    world = World(workflow)
    world.start()

    assert world.output["type"] == "WorkflowMisuse"
    assert "the event name" in world.output["message"]
