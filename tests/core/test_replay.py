"""Nondeterminism: found at the right decision, and named."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import pytest

from tests.core.world import World, registry_of
from wfq.core.context import WorkflowContext
from wfq.core.instance import Instance
from wfq.core.tasks import when_all
from wfq.errors import NonDeterministicWorkflow
from wfq.registry import Registry

Flow = Generator[Any, Any, Any]


def original(ctx: WorkflowContext) -> Flow:
    one = yield ctx.call_activity("one", input=1)
    ctx.create_timer(timedelta(seconds=5))
    two = yield ctx.wait_for_external_event("go", timeout=timedelta(seconds=5))
    ctx.send_event("other-1", "hello")
    three = yield ctx.call_child_workflow("child")
    return [one, two, three]


def history(turns: int) -> World:
    world = World(original)
    world.start()
    if turns > 1:
        world.turn(world.done(0, 1))
    if turns > 2:
        world.turn(["E", "inc1", None, "go", 2])
    if turns > 3:
        world.turn(world.done(3, 3))
    return world


def code(function: Callable[..., Any]) -> Registry:
    registry = Registry()
    registry.register_workflow(function, name="original")
    return registry


def mismatch(world: World, function: Callable[..., Any]) -> NonDeterministicWorkflow:
    with pytest.raises(NonDeterministicWorkflow) as caught:
        Instance.load(world.id, world.records, code(function))
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_the_same_code_replays(turns: int) -> None:
    world = history(turns)
    instance = Instance.load(world.id, world.records, code(original))

    assert instance.status == ("COMPLETED" if turns == 4 else "RUNNING")


def test_another_activity_in_its_place() -> None:
    def changed(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("uno", input=1)

    error = mismatch(history(1), changed)

    assert error.expected == "ScheduleTask 'one' (task 0)"
    assert error.found == "ScheduleTask 'uno' (task 0)"
    assert (error.task_id, error.turn) == (0, 1)
    assert error.source is not None
    assert error.source.startswith(__file__)
    assert error.source.endswith("in changed")
    assert error.expected in str(error)
    assert error.found in str(error)
    assert error.source in str(error)
    assert "is_patched" in str(error)


def test_another_kind_in_its_place() -> None:
    def changed(ctx: WorkflowContext) -> Flow:
        yield ctx.create_timer(timedelta(seconds=1))

    error = mismatch(history(1), changed)

    assert (error.expected, error.found) == (
        "ScheduleTask 'one' (task 0)",
        "CreateTimer (task 0)",
    )


def test_an_action_less() -> None:
    def changed(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("one")
        yield ctx.wait_for_external_event("go", timeout=timedelta(seconds=5))

    error = mismatch(history(2), changed)

    assert error.expected == "CreateTimer (task 1)"
    assert error.found == "WaitForEvent 'go' (task 1)"
    assert error.turn == 2


def test_an_action_more() -> None:
    def changed(ctx: WorkflowContext) -> Flow:
        ctx.call_activity("one")
        yield ctx.call_activity("extra")

    error = mismatch(history(1), changed)

    assert error.expected == "no further action in this turn"
    assert error.found == "ScheduleTask 'extra' (task 1)"


def test_code_that_waits_where_history_went_on() -> None:
    def changed(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("one")
        yield when_all([ctx.create_timer(timedelta(seconds=5))])

    error = mismatch(history(2), changed)

    assert error.expected == "WaitForEvent 'go' (task 2)"
    assert error.found == "nothing and waits for <when_all of 1 tasks, 1 pending>"
    assert error.source is not None
    assert error.source.endswith("in changed")


def test_code_that_ends_earlier() -> None:
    def changed(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("one")
        return "done"

    error = mismatch(history(2), changed)

    assert error.found == "CompleteWorkflow"
    assert error.expected == "CreateTimer (task 1)"


def test_code_that_ends_later() -> None:
    def changed(ctx: WorkflowContext) -> Flow:
        yield from original(ctx)
        yield ctx.call_activity("more")

    error = mismatch(history(4), changed)

    assert error.expected == "CompleteWorkflow"
    assert error.found == "ScheduleTask 'more' (task 4)"


def test_code_that_fails_where_history_went_on() -> None:
    def changed(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("one")
        raise KeyError("new bug")

    error = mismatch(history(2), changed)

    assert error.found == "FailWorkflow with KeyError: 'new bug'"


def test_an_input_that_does_not_decode_any_more() -> None:
    def changed(ctx: WorkflowContext, value: int) -> Flow:
        yield ctx.call_activity("one")

    def before(ctx: WorkflowContext, value: str) -> Flow:
        yield ctx.call_activity("one")

    world = World("original", "text", registry=code(before))
    world.start()
    error = mismatch(world, changed)

    assert "PayloadError" in error.found


def test_a_plain_function_that_became_a_waiting_one() -> None:
    def original(ctx: WorkflowContext) -> str:
        return "at once"

    def changed(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("one")

    world = World(original)
    world.start()
    error = mismatch(world, changed)

    assert error.expected == "CompleteWorkflow"
    assert error.found == "ScheduleTask 'one' (task 0)"


@pytest.mark.parametrize("swallow", [Exception, BaseException])
def test_a_workflow_cannot_swallow_it(swallow: type[BaseException]) -> None:
    def changed(ctx: WorkflowContext) -> Flow:
        while True:
            try:
                yield ctx.call_activity("uno")
            except swallow:
                try:
                    yield ctx.wait_for_external_event("never")
                except swallow:
                    return "swallowed"

    assert mismatch(history(1), changed).found == "ScheduleTask 'uno' (task 0)"


def test_the_code_is_dropped_when_it_does_not_fit() -> None:
    acted: list[str] = []

    def changed(ctx: WorkflowContext) -> Flow:
        try:
            yield ctx.call_activity("one")
            yield ctx.call_activity("wrong")
        finally:
            acted.append("finally")
            ctx.call_activity("cleanup")
            acted.append("cleaned")

    mismatch(history(2), changed)

    assert acted == ["finally"]


def test_what_may_change_without_harm() -> None:
    def changed(ctx: WorkflowContext) -> Flow:
        ctx.set_custom_status("new line")
        one = yield ctx.call_activity("one", input="other input", timeout=timedelta(seconds=9))
        ctx.create_timer(timedelta(seconds=77))
        two = yield ctx.wait_for_external_event("GO", timeout=timedelta(hours=9))
        ctx.send_event("other-1", "hello", "other data")
        three = yield ctx.call_child_workflow("child", instance_id="another")
        return [three, two, one]

    world = history(4)
    instance = Instance.load(world.id, world.records, code(changed))
    assert instance.status == "COMPLETED"

    world = history(2)
    due = [
        o.action[-1] for o in Instance.load(world.id, world.records, code(changed)).open.values()
    ]
    assert due == [o.action[-1] for o in world.instance.open.values()]


def test_a_custom_status_that_was_removed_does_no_harm() -> None:
    def original(ctx: WorkflowContext) -> Flow:
        ctx.set_custom_status("a")
        yield ctx.call_activity("one")
        ctx.set_custom_status("b")

    def changed(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("one")

    world = World(original)
    world.start()
    world.turn(world.done(0))

    assert Instance.load(world.id, world.records, code(changed)).status == "COMPLETED"


def test_it_resumes_when_the_code_fits_again() -> None:
    def changed(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity("uno")

    world = history(1)
    completion = world.done(0, 1)
    error = mismatch(world, changed)
    world.reload(stalled=str(error))
    turn = world.turn(completion)
    assert turn.stalled == str(error)

    world.reload(code(original))
    turn = world.turn(["W", "inc1"])
    assert turn.status == "RUNNING"
    assert [action[0] for action in turn.actions] == ["T", "E"]


def test_replay_is_silent_and_live_is_not() -> None:
    seen: list[bool] = []

    def workflow(ctx: WorkflowContext) -> Flow:
        seen.append(ctx.is_replaying)
        yield ctx.call_activity("a")
        seen.append(ctx.is_replaying)

    registry = registry_of(workflow)
    world = World(workflow, registry=registry)
    records = list(world.records)
    live = Instance.load("x", records, registry)
    records.append(live.apply([["S", "inc1"]], 1, "n0").record())
    later = Instance.load("x", records, registry)
    later.apply([["C", 0, "n0", None]], 2, "n1")

    assert seen == [False, True, False]
