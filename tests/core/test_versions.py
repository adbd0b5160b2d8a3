"""Changing workflows while instances run: patches and versions."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from tests.core.world import World
from wfq.core.context import WorkflowContext
from wfq.registry import Registry

Flow = Generator[Any, Any, Any]


def old(ctx: WorkflowContext) -> Flow:
    yield ctx.call_activity("prepare")
    yield ctx.call_activity("pay")
    yield ctx.call_activity("ship")


def patched(ctx: WorkflowContext) -> Flow:
    yield ctx.call_activity("prepare")
    if ctx.is_patched("pay-twice"):
        yield ctx.call_activity("pay-new")
    else:
        yield ctx.call_activity("pay")
    assert ctx.is_patched("pay-twice") == ctx.is_patched("pay-twice")
    yield ctx.call_activity("ship")


def named(function: Callable[..., Any]) -> Registry:
    registry = Registry()
    registry.register_workflow(function, name="order")
    return registry


def scheduled(world: World) -> list[str]:
    return [action[2] for record in world.records[1:] for action in record[4] if action[0] == "A"]


def finish(world: World) -> list[str]:
    while world.status == "RUNNING":
        world.turn(world.done(next(iter(world.instance.open))))
    return scheduled(world)


def test_a_new_instance_takes_the_new_branch_and_records_so() -> None:
    world = World("order", registry=named(patched))
    world.start()

    assert finish(world) == ["prepare", "pay-new", "ship"]
    assert world.records[2][4][0] == ["P", "pay-twice", True]


def test_an_instance_that_has_not_passed_the_point_takes_the_new_branch() -> None:
    world = World("order", registry=named(old))
    world.start()
    world.reload(named(patched))

    assert finish(world) == ["prepare", "pay-new", "ship"]


def test_an_instance_that_has_passed_the_point_keeps_the_old_branch() -> None:
    world = World("order", registry=named(old))
    world.start()
    world.turn(world.done(0))
    world.reload(named(patched))

    assert finish(world) == ["prepare", "pay", "ship"]


def test_the_answer_stays_the_same_in_a_loop() -> None:
    def loop(ctx: WorkflowContext) -> Flow:
        answers = []
        for _ in range(3):
            yield ctx.call_activity("step")
            answers.append(ctx.is_patched("p"))
        return answers

    def loop_before(ctx: WorkflowContext) -> Flow:
        for _ in range(3):
            yield ctx.call_activity("step")
        return []

    passed = World("order", registry=named(loop_before))
    passed.start()
    passed.turn(passed.done(0))
    passed.reload(named(loop))
    finish(passed)
    fresh = World("order", registry=named(loop))
    fresh.start()
    finish(fresh)

    assert passed.output == [False, False, False]
    assert fresh.output == [True, True, True]


def test_several_patches_at_one_point_keep_apart() -> None:
    def two(ctx: WorkflowContext) -> Flow:
        answers = [ctx.is_patched("a"), ctx.is_patched("b")]
        yield ctx.call_activity("x")
        return answers

    def swapped(ctx: WorkflowContext) -> Flow:
        answers = [ctx.is_patched("b"), ctx.is_patched("a"), ctx.is_patched("c")]
        yield ctx.call_activity("x")
        return answers

    world = World("order", registry=named(two))
    world.start()
    world.reload(named(swapped))
    world.turn(world.done(0))

    assert world.output == [True, True, False]


def test_a_patch_can_be_removed_when_nobody_needs_the_old_branch() -> None:
    def clean(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("prepare")
        yield ctx.call_activity("pay-new")
        yield ctx.call_activity("ship")

    world = World("order", registry=named(patched))
    world.start()
    world.turn(world.done(0))
    world.reload(named(clean))

    assert finish(world) == ["prepare", "pay-new", "ship"]


def test_a_patch_is_asked_anew_in_each_generation() -> None:
    def workflow(ctx: WorkflowContext, n: int) -> Flow:
        yield ctx.call_activity("a" if not ctx.is_patched("p") else "b")
        ctx.continue_as_new(n + 1)

    def before(ctx: WorkflowContext, n: int) -> Flow:
        yield ctx.call_activity("a")
        ctx.continue_as_new(n + 1)

    world = World("order", 0, registry=named(before))
    world.start()
    world.reload(named(workflow))
    world.turn(world.done(0))
    world.start()

    assert world.actions()[-1][2] == "b"


def v1(ctx: WorkflowContext) -> Flow:
    yield ctx.call_activity("one")
    return ctx.version


def v2(ctx: WorkflowContext) -> Flow:
    yield ctx.call_activity("two")
    return ctx.version


def both() -> Registry:
    registry = only_v1()
    registry.register_workflow(v2, name="order", version="2", is_latest=True)
    return registry


def only_v1() -> Registry:
    registry = Registry()
    registry.register_workflow(v1, name="order", version="1")
    return registry


def test_an_instance_starts_on_the_latest_version_and_stays_with_it() -> None:
    world = World("order", registry=only_v1())
    turn = world.start()
    assert turn.version == "1"
    assert turn.extra == {"version": "1"}
    world.reload(both())
    world.turn(world.done(0))
    newer = World("order", registry=both())
    newer.start()
    newer.turn(newer.done(0))

    assert world.output == "1"
    assert newer.output == "2"


def test_a_version_that_no_worker_has_is_named() -> None:
    world = World("order", registry=both())
    world.start()
    completion = world.done(0)
    world.reload(only_v1())
    turn = world.turn(completion)

    assert turn.stalled == "no worker has the workflow 'order' version '2'"
    world.reload(both())
    world.turn(["W", "inc1"])
    assert world.output == "2"


def test_an_instance_without_version_stays_with_the_function_without() -> None:
    unversioned = Registry()
    unversioned.register_workflow(v1, name="order")
    world = World("order", registry=unversioned)
    world.start()
    with_versions = Registry()
    with_versions.register_workflow(v1, name="order")
    with_versions.register_workflow(v2, name="order", version="2", is_latest=True)
    world.reload(with_versions)
    world.turn(world.done(0))
    fresh = World("order", registry=with_versions)
    fresh.start()

    assert world.output is None
    assert fresh.actions()[0][2] == "two"


def test_a_start_can_ask_for_a_version() -> None:
    world = World("order", registry=both(), extra={"version": "1"})
    world.start()
    world.turn(world.done(0))

    assert world.output == "1"


def test_continue_as_new_goes_to_the_latest_version() -> None:
    def first(ctx: WorkflowContext, n: int) -> Flow:
        yield ctx.call_activity("one")
        ctx.continue_as_new(n + 1)

    def second(ctx: WorkflowContext, n: int) -> Flow:
        yield ctx.call_activity("two")

    registry = Registry()
    registry.register_workflow(first, name="order", version="1")
    world = World("order", 0, registry=registry)
    world.start()
    registry.register_workflow(second, name="order", version="2", is_latest=True)
    world.turn(world.done(0))
    world.start()

    assert world.actions()[0][2] == "two"
