"""Workflow functions that misbehave: a clear failure, never a stuck or broken engine."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from tests.core.world import World, registry_of
from wfq.core.context import WorkflowContext
from wfq.core.ports import Limits
from wfq.core.tasks import when_all
from wfq.registry import Registry

Flow = Generator[Any, Any, Any]


def failure_of(workflow: Any, value: Any = None) -> Any:
    world = World(workflow, value)
    world.start()
    assert world.status == "FAILED"
    return world.output


def sub(ctx: WorkflowContext) -> Flow:
    yield ctx.call_activity("a")


async def sub_async(ctx: WorkflowContext) -> None:
    await ctx.call_activity("a")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda ctx: 5, "yielded 5 (int), which is not a task"),
        (lambda ctx: None, "yielded None (NoneType)"),
        (lambda ctx: [ctx.call_activity("a")], "use when_all(tasks)"),
        (sub, "use 'yield from'"),
        (lambda ctx: "x" * 500, "..."),
    ],
)
def test_yielding_what_is_not_a_task(value: Any, said: str) -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield value(ctx)

    failure = failure_of(workflow)

    assert failure["type"] == "WorkflowMisuse"
    assert said in failure["message"]
    assert "in workflow" in failure["stack"]
    assert len(failure["message"]) < 300


def test_the_workflow_may_catch_it_and_go_on() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            yield "what"
        except ValueError:
            yield ctx.call_activity("a")
        return "went on"

    world = World(workflow)
    world.start()
    world.turn(world.done(0))

    assert world.output == "went on"


def test_yielding_a_coroutine() -> None:
    coroutines: list[Any] = []

    def workflow(ctx: WorkflowContext) -> Flow:
        coroutines.append(sub_async(ctx))
        yield coroutines[-1]

    failure = failure_of(workflow)
    for coroutine in coroutines:
        coroutine.close()

    assert "await it in an async def workflow" in failure["message"]


def test_asyncio_without_its_loop_is_told_what_to_use_instead() -> None:
    async def workflow(ctx: WorkflowContext) -> None:
        await asyncio.sleep(0.1)

    failure = failure_of(workflow)

    assert failure["type"] == "RuntimeError"
    assert "use ctx.create_timer, wf.when_all and wf.when_any" in failure["message"]


def test_awaiting_what_belongs_to_asyncio() -> None:
    async def workflow(ctx: WorkflowContext) -> None:
        await asyncio.sleep(0)

    failure = failure_of(workflow)

    assert "awaited None (NoneType), which is not a task" in failure["message"]
    assert "asyncio" in failure["message"]


def test_awaiting_a_task_of_another_instance() -> None:
    stolen: list[Any] = []

    def thief(ctx: WorkflowContext) -> Flow:
        yield stolen[0]

    def mixed(ctx: WorkflowContext) -> Flow:
        yield when_all([ctx.call_activity("b"), stolen[0]])

    def victim(ctx: WorkflowContext) -> Flow:
        stolen.append(ctx.call_activity("a"))
        yield stolen[-1]

    other = World(victim)
    other.start()

    failure = failure_of(thief)
    assert other.status == "RUNNING"
    assert failure["message"] == "<Task activity 'a' pending> belongs to another workflow instance"
    assert "different workflow instances" in failure_of(mixed)["message"]


def test_using_the_context_of_another_instance() -> None:
    stolen: list[WorkflowContext] = []

    def victim(ctx: WorkflowContext) -> Flow:
        stolen.append(ctx)
        yield ctx.call_activity("a")

    def thief(ctx: WorkflowContext) -> None:
        stolen[0].call_activity("b")

    world = World(victim)
    world.start()
    # That of the copy that was discarded, and that of the instance that lives.
    for _ in range(len(stolen)):
        failure = failure_of(thief)
        stolen.pop(0)
    assert world.status == "RUNNING"

    assert failure["type"] == "WorkflowMisuse"
    assert "outside of its own turn" in failure["message"]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, {"b": object()}]}, "$.a[1].b"),
        (float("nan"), "$"),
        ({"n": 1 << 64}, "$.n"),
        ("\ud800", "$"),
        (lambda: None, "$"),
    ],
)
def test_returning_what_cannot_be_encoded(value: Any, path: str) -> None:
    def workflow(ctx: WorkflowContext) -> Any:
        return value

    failure = failure_of(workflow)

    assert failure["type"] == "PayloadError"
    assert failure["message"].startswith("output of workflow 'workflow': ")
    assert failure["message"].endswith(f" at {path}")


def test_returning_a_task_is_an_error() -> None:
    def workflow(ctx: WorkflowContext) -> Any:
        return ctx.call_activity("a")

    assert "<Task activity 'a' pending>" in failure_of(workflow)["message"]


def test_an_input_that_cannot_be_encoded_is_an_error_at_the_call() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            yield ctx.call_activity("a", input={1: {2: [3, object()]}})
        except ValueError as e:
            return str(e)

    world = World(workflow)
    world.start()

    assert "input of activity 'a'" in world.output
    assert world.actions()[0][0] == "K"
    assert not world.instance.open


def test_a_payload_over_the_limit_is_an_error_at_the_call() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("a", input="x" * 1_100_000)

    assert failure_of(workflow)["type"] == "PayloadTooLarge"


@pytest.mark.parametrize("exc", [SystemExit, KeyboardInterrupt, GeneratorExit, ValueError])
def test_whatever_it_raises_fails_the_instance_alone(exc: type[BaseException]) -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("a")
        raise exc(3)

    async def workflow_async(ctx: WorkflowContext) -> None:
        await ctx.call_activity("a")
        raise exc(3)

    def plain(ctx: WorkflowContext) -> None:
        raise exc(3)

    for function in (workflow, workflow_async):
        world = World(function)
        world.start()
        world.turn(world.done(0))
        assert world.status == "FAILED"
        assert world.output["type"] == exc.__name__
    assert failure_of(plain)["type"] == exc.__name__


def test_stop_iteration_fails_it_too() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("a")
        raise StopIteration("sneaky")

    world = World(workflow)
    world.start()
    world.turn(world.done(0))

    assert world.output["type"] == "RuntimeError"
    assert world.output["cause"]["type"] == "StopIteration"


def test_raising_in_finally_fails_with_both() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            yield ctx.call_activity("a")
        finally:
            raise KeyError("in finally")

    world = World(workflow)
    world.start()
    world.turn(world.failed(0))

    assert world.output["type"] == "KeyError"
    assert world.output["cause"]["type"] == "TaskFailedError"
    assert world.output["cause"]["cause"]["type"] == "ValueError"


def test_an_error_raised_later_has_no_cause_that_was_handled() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            yield ctx.call_activity("a")
        except Exception:
            ctx.logger.debug("handled")
        raise ValueError("fresh")

    world = World(workflow)
    world.start()
    world.turn(world.failed(0))

    assert world.output["message"] == "fresh"
    assert world.output["cause"] is None


@pytest.mark.parametrize("catches", [False, True])
def test_more_actions_than_a_turn_may_have(catches: bool) -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        for n in range(12):
            try:
                ctx.call_activity("a", input=n)
            except ValueError:
                if not catches:
                    raise
        yield ctx.wait_for_external_event("never")

    registry = Registry(limits=Limits(actions_per_turn=10))
    registry.register_workflow(workflow)
    world = World(workflow, registry=registry)
    world.start()

    assert world.status == "FAILED"
    assert world.output["type"] == "WorkflowMisuse"
    assert "more than 10 actions in one turn" in world.output["message"]


@pytest.mark.parametrize(
    "call",
    [
        lambda ctx: ctx.call_activity(5),
        lambda ctx: ctx.call_activity(""),
        lambda ctx: ctx.call_activity(None),
        lambda ctx: ctx.call_activity(failure_registered),
        lambda ctx: ctx.call_child_workflow(5),
        lambda ctx: ctx.call_activity("a", retry_policy=3),
        lambda ctx: ctx.call_activity("a", timeout=3),
        lambda ctx: ctx.set_custom_status and ctx.is_patched(""),
        lambda ctx: ctx.send_event("a b", "x"),
        lambda ctx: ctx.call_activity("a", queue="no spaces"),
        lambda ctx: ctx.call_activity([]),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(call: Any) -> None:
    def workflow(ctx: WorkflowContext) -> None:
        call(ctx)

    registry = registry_of(workflow, failure_registered)
    world = World(workflow, registry=registry)
    world.start()

    assert world.output["type"] in ("WorkflowMisuse", "InvalidIdentifier")


def failure_registered(ctx: WorkflowContext) -> None:
    """A workflow, which is no activity."""


def test_a_timed_out_or_unknown_input_type_does_not_reach_the_function() -> None:
    def workflow(ctx: WorkflowContext, count: int) -> int:
        return count

    failure = failure_of(workflow, "many")

    assert failure["type"] == "PayloadError"
    assert failure["message"].startswith("input of workflow 'workflow': ")
