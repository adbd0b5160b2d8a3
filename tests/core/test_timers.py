"""Timers: by time and by duration, past, zero and far ahead."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.core.world import START_MS, World
from wfq.core.context import WorkflowContext

Flow = Generator[Any, Any, Any]
NOW = START_MS + 10
NAIVE_NOW = datetime(1970, 1, 1) + timedelta(milliseconds=NOW)
INDIA = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("fire_at", "due_ms"),
    [
        (timedelta(seconds=5), NOW + 5_000),
        (timedelta(0), NOW),
        (timedelta(seconds=-5), NOW - 5_000),
        (timedelta(microseconds=1), NOW + 1),
        (timedelta(days=365 * 100), NOW + 365 * 100 * 86_400_000),
        (timedelta.max, 253_402_300_799_999),
        (timedelta.min, 0),
        (NAIVE_NOW + timedelta(seconds=1), NOW + 1_000),
        ((NAIVE_NOW + timedelta(seconds=1)).replace(tzinfo=UTC), NOW + 1_000),
        (datetime(2024, 1, 1, 5, 30, tzinfo=INDIA), 1_704_067_200_000),
        (datetime(1960, 1, 1), 0),
        (datetime.max, 253_402_300_799_999),
    ],
)
def test_a_timer_is_due_when_it_says(fire_at: Any, due_ms: int) -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.create_timer(fire_at)

    world = World(workflow)
    world.start()

    assert world.actions() == [["T", 0, due_ms]]
    assert abs(int(float(due_ms)) - due_ms) == 0


def test_a_timer_wakes_the_workflow_with_nothing() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        before = ctx.current_utc_datetime
        result = yield ctx.create_timer(fire_at=before + timedelta(seconds=1))
        return [result, (ctx.current_utc_datetime - before).total_seconds()]

    world = World(workflow)
    world.start()
    turn = world.turn(world.fired(0), after_ms=1_250)

    assert world.output == [None, 1.25]
    assert not turn.cancel_timers


def test_a_timer_fires_once() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.create_timer(timedelta(seconds=1))
        yield ctx.create_timer(timedelta(seconds=1))

    world = World(workflow)
    world.start()
    world.turn(world.fired(0), ["F", 0, "n0"])

    assert world.turn(["F", 0, "n0"]).empty
    assert world.status == "RUNNING"


def test_timers_that_are_open_at_the_end_are_cancelled() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        ctx.create_timer(timedelta(days=1))
        yield ctx.call_activity("a")
        ctx.create_timer(timedelta(days=2))

    world = World(workflow)
    world.start()
    turn = world.turn(world.done(1))

    # The one that this very turn created is never set: the turn says that it has ended.
    assert turn.cancel_timers == [(0, "n0")]
    assert turn.ended


@pytest.mark.parametrize("fire_at", [5, 1.5, "tomorrow", None, True])
def test_what_is_no_time_is_refused(fire_at: Any) -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.create_timer(fire_at)

    world = World(workflow)
    world.start()

    assert world.output["type"] == "WorkflowMisuse"
    assert "fire_at must be a datetime or a timedelta" in world.output["message"]


def test_time_does_not_go_back() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        times = [ctx.current_utc_datetime]
        for _ in range(3):
            yield ctx.wait_for_external_event("tick")
            times.append(ctx.current_utc_datetime)
        return [str(t) for t in times]

    world = World(workflow)
    world.start()
    for after_ms in (100, -5_000, 200):
        world.turn(["E", "inc1", None, "tick", None], after_ms=after_ms)

    assert world.output == sorted(world.output)
    assert world.output[1] == world.output[2]
    assert world.records[3][1] == world.records[2][1]


@pytest.mark.parametrize("waits_for", ["timer", "event"])
def test_a_turn_that_fires_a_timer_is_no_earlier_than_the_timer_was_due(waits_for: str) -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        before = ctx.current_utc_datetime
        try:
            if waits_for == "timer":
                yield ctx.create_timer(timedelta(seconds=1))
            else:
                yield ctx.wait_for_external_event("tick", timeout=timedelta(seconds=1))
        except TimeoutError:
            pass
        return (ctx.current_utc_datetime - before).total_seconds()

    world = World(workflow)
    world.start()
    # The clock of whoever runs the turn lags behind the one by which the timer fired.
    world.turn(world.fired(0), after_ms=20)

    assert world.output == 1.0
