"""Workflows started by a workflow that are no children of it, and Dapr's deterministic helpers."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.core.world import World, raised
from wfq.core.context import WorkflowContext

Flow = Generator[Any, Any, Any]


def test_it_opens_no_task_and_tells_the_id_at_once() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        ids = [
            ctx.schedule_new_workflow("audit", input={"n": 1}),
            ctx.schedule_new_workflow("audit", instance_id="audit-7", app_id="books"),
        ]
        yield ctx.wait_for_external_event("go")
        return ids

    world = World(workflow)
    turn = world.start()

    made = turn.actions[0][1]
    assert [a[:3] for a in turn.actions[:2]] == [["D", made, "audit"], ["D", "audit-7", "audit"]]
    assert turn.actions[0][4] is None
    assert turn.actions[1][3:] == [None, {"q": "books", "n": True}]
    assert list(world.instance.open) == [0]
    world.turn(raised("go"))
    assert world.output == [made, "audit-7"]


def test_ids_that_are_made_differ() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        found = {ctx.schedule_new_workflow("w") for _ in range(3)}
        yield ctx.wait_for_external_event("go")
        return sorted(found | {ctx.schedule_new_workflow("w")})

    world = World(workflow)
    world.start()
    world.turn(raised("go"))

    assert len(world.output) == 4
    assert all(len(one) == 32 for one in world.output)


@pytest.mark.parametrize("instance_id", ["", "a b", "a~b", 5])
def test_an_id_that_is_not_allowed_is_refused(instance_id: Any) -> None:
    def workflow(ctx: WorkflowContext) -> None:
        ctx.schedule_new_workflow("w", instance_id=instance_id)

    world = World(workflow)
    world.start()

    assert world.output["type"] == "InvalidIdentifier"


def test_daprs_helpers_give_the_same_in_every_replay() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        assert ctx.now() == ctx.current_utc_datetime
        first = [str(ctx.uuid4()), str(ctx.new_guid()), ctx.random_string(8), ctx.random().random()]
        yield ctx.wait_for_external_event("go")
        return [*first, ctx.random_string(4, alphabet="ab"), ctx.random.random()]

    world = World(workflow)
    world.start()
    world.reload()
    world.turn(raised("go"))

    assert len({str(value) for value in world.output}) == 6
    assert set(world.output[4]) <= set("ab")
