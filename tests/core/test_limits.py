"""A history at its limit: the workflow may end or continue as new, and nothing else."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.core.world import World, raised
from wfq.core.context import WorkflowContext
from wfq.core.ports import Limits
from wfq.core.tasks import when_all
from wfq.errors import HistoryTooLong
from wfq.registry import Registry

Flow = Generator[Any, Any, Any]

MOST = 10


def world_of(workflow: Any, most: int = MOST) -> World:
    world = World(workflow, registry=limited(workflow, most))
    world.start()
    return world


def limited(workflow: Any, most: int) -> Registry:
    registry = Registry(limits=Limits(history_events=most))
    registry.register_workflow(workflow)
    return registry


def listen(ctx: WorkflowContext) -> Flow:
    while True:
        yield ctx.wait_for_external_event("tick")


def test_the_next_action_after_the_limit_fails_the_workflow_at_its_line() -> None:
    world = world_of(listen)
    for n in range(MOST - 1):  # the start is an event too
        world.turn(raised("tick", n))
    assert world.status == "RUNNING"

    world.turn(raised("tick", "last"))

    assert world.status == "FAILED"
    assert world.output["type"] == "HistoryTooLong"
    assert "has consumed 10 events" in world.output["message"]
    assert "continue_as_new" in world.output["message"]
    assert "in listen" in world.output["stack"]


def test_the_workflow_may_still_continue_as_new() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            while True:
                yield ctx.wait_for_external_event("tick")
        except HistoryTooLong:
            ctx.set_custom_status("long")
            ctx.continue_as_new("fresh")

    world = world_of(workflow)
    for n in range(MOST):
        world.turn(raised("tick", n))

    assert world.records[0][3:6] == [1, "workflow", "fresh"]
    world.start()
    assert world.status == "RUNNING"


def test_a_fan_out_wider_than_the_limit_may_end() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        results = yield when_all([ctx.call_activity("a", input=n) for n in range(3 * MOST)])
        return sum(results)

    world = world_of(workflow)
    for n in range(3 * MOST):
        world.turn(world.done(n, 1))

    assert world.output == 3 * MOST


@pytest.mark.parametrize("later", [5, 1_000])
def test_another_limit_does_not_change_what_was_decided(later: int) -> None:
    world = world_of(listen)
    for n in range(5):
        world.turn(raised("tick", n))

    world.reload(limited(listen, later))
    world.turn(raised("tick"))

    assert world.status == ("FAILED" if later == 5 else "RUNNING")


@pytest.mark.parametrize("later", [5, 1_000])
def test_a_failed_one_replays_under_any_limit(later: int) -> None:
    world = world_of(listen)
    for n in range(MOST):
        world.turn(raised("tick", n))

    world.reload(limited(listen, later))

    assert world.status == "FAILED"


def test_events_that_came_while_suspended_count_and_are_delivered() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        found = []
        for _ in range(MOST):
            found.append(ctx.wait_for_external_event("tick"))
        yield when_all(found)
        return "all"

    world = world_of(workflow)
    world.turn(["L", "inc1", "c1", "suspend", None])
    for n in range(MOST):
        world.turn(raised("tick", n))
    world.turn(["L", "inc1", "c2", "resume", None])

    assert world.output == "all"
