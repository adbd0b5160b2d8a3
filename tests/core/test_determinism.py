"""What ctx gives that would otherwise differ between runs."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Generator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.core.world import START_MS, World
from wfq.core.context import WorkflowContext

Flow = Generator[Any, Any, Any]


def test_facts_about_the_instance() -> None:
    def workflow(ctx: WorkflowContext) -> list[Any]:
        return [
            ctx.instance_id,
            ctx.workflow_name,
            ctx.parent_instance_id,
            ctx.version,
            ctx.continued_as_new_count,
            ctx.is_replaying,
            ctx.is_suspended,
        ]

    world = World(workflow)
    world.start()

    assert world.output == ["order-7", "workflow", None, None, 0, world.output[5], False]


def test_the_time_is_that_of_the_turn_and_naive() -> None:
    seen: list[datetime] = []

    def workflow(ctx: WorkflowContext) -> Flow:
        seen.append(ctx.current_utc_datetime)
        yield ctx.call_activity("a")
        seen.append(ctx.current_utc_datetime)

    world = World(workflow)
    world.start()
    world.turn(world.done(0), after_ms=2_500)

    assert seen[0].tzinfo is None
    assert min(seen) == datetime(2023, 11, 14, 22, 13, 20, 10_000)
    assert max(seen) - min(seen) == timedelta(milliseconds=2_500)


def test_ids_and_random_numbers_are_the_same_in_every_replay() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        found: list[Any] = [ctx.new_uuid(), ctx.random.random()]
        yield ctx.call_activity("a")
        found += [ctx.new_uuid(), ctx.random.randint(1, 10**9)]
        return found

    world, other = World(workflow), World(workflow, instance_id="order-8")
    for w in (world, other):
        w.start()
        w.turn(w.done(0))

    assert uuid.UUID(world.output[0]).version == 5
    assert len({*world.output, *other.output}) == 8


def test_each_generation_draws_other_numbers() -> None:
    def workflow(ctx: WorkflowContext, before: list[Any] | None) -> Any:
        drawn = [ctx.new_uuid(), ctx.random.random()]
        if before is None:
            ctx.continue_as_new(drawn)
        return [before, drawn]

    world = World(workflow, None)
    world.start()
    world.start()
    before, after = world.output

    assert not set(before) & set(after)


def test_a_rerun_can_keep_the_numbers_of_the_run_it_repeats() -> None:
    def workflow(ctx: WorkflowContext) -> list[Any]:
        return [ctx.new_uuid(), ctx.random.random()]

    world = World(workflow)
    world.start()
    rerun = World(workflow, instance_id="again", extra={"seed": "order-7:inc1:0"})
    rerun.start()

    assert rerun.output == world.output


def test_the_logger_speaks_once(caplog: pytest.LogCaptureFixture) -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        ctx.logger.info("begun %s", 1)
        yield ctx.call_activity("a")
        ctx.logger.warning("went on", extra={"more": 1})

    caplog.set_level(logging.INFO, logger="wfq.workflow")
    world = World(workflow)
    live = world.instance
    live.apply([["S", "inc1"]], START_MS, "n0")
    live.apply([["C", 0, "n0", None]], START_MS, "n1")
    said = [(r.getMessage(), r.__dict__["instance_id"]) for r in caplog.records]
    assert said == [("begun 1", "order-7"), ("went on", "order-7")]
    assert caplog.records[1].__dict__["more"] == 1

    caplog.clear()
    other = World(workflow)
    other.start()
    other.reload()
    # One line each from the live run and from the fresh one that checks it; none from replays.
    assert [r.getMessage() for r in caplog.records] == ["begun 1", "begun 1"]


def test_the_custom_status_is_the_last_one_set() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        ctx.set_custom_status("a")
        ctx.call_activity("x")
        status = {"step": 1}
        ctx.set_custom_status(status)
        status["step"] = 2
        yield ctx.wait_for_external_event("go")
        ctx.set_custom_status(None)

    world = World(workflow)
    turn = world.start()
    assert world.actions()[0] == ["U", {"step": 1}]
    assert [action[0] for action in turn.actions] == ["U", "A", "E"]
    turn = world.turn(["E", "inc1", None, "go", None])
    assert turn.custom is None
