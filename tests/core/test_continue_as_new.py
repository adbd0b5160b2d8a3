"""continue_as_new: what crosses into the next generation and what does not."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from tests.core.world import INC, START_MS, World, command, raised
from wfq.core.context import WorkflowContext

Flow = Generator[Any, Any, Any]


def test_the_function_begins_anew_with_the_new_input() -> None:
    def workflow(ctx: WorkflowContext, n: int) -> Any:
        if n < 3:
            ctx.continue_as_new(n + 1)
            return "ignored"
        return [n, ctx.continued_as_new_count]

    world = World(workflow, 0, extra={"tags": {"a": "b"}})
    statuses = [world.start().status for _ in range(4)]

    assert statuses == ["CONTINUED"] * 3 + ["COMPLETED"]
    assert world.output == [3, 3]
    birth = world.records[0]
    assert birth[:5] == ["B", world.now_ms - 10, INC, 3, "workflow"]
    assert birth[7]["tags"] == {"a": "b"}
    assert birth[7]["created"] == START_MS


def test_an_eternal_workflow_stays_flat() -> None:
    def workflow(ctx: WorkflowContext, n: int) -> Flow:
        yield ctx.create_timer(timedelta(seconds=1))
        ctx.continue_as_new(n + 1)

    world = World(workflow, 0)
    size = 0
    for generation in range(200):
        world.start()
        world.turn(world.fired(0))
        assert world.instance.gen == generation + 1
        size = max(size, len(repr(world.records)))

    assert size < 1_000
    assert world.instance.size < 10_000


def test_the_last_call_counts_and_the_function_goes_on_to_its_end() -> None:
    def workflow(ctx: WorkflowContext, value: str) -> Flow:
        ctx.continue_as_new("first", save_events=True)
        yield ctx.call_activity("cleanup")
        ctx.continue_as_new("second")

    world = World(workflow, "start")
    world.start()
    assert world.status == "RUNNING"
    turn = world.turn(world.done(0), raised("unseen"))

    assert turn.status == "CONTINUED"
    assert world.records[0][5] == "second"
    assert turn.actions == [["N", "second", [raised("unseen")], False]]


def test_an_error_after_continue_as_new_is_not_swallowed() -> None:
    def workflow(ctx: WorkflowContext, value: str) -> None:
        ctx.continue_as_new("next")
        raise ValueError("after")

    world = World(workflow, "start")
    world.start()

    assert world.status == "FAILED"
    assert world.output["message"] == "after"


def test_what_was_scheduled_beside_it_still_runs() -> None:
    def workflow(ctx: WorkflowContext, value: str) -> None:
        ctx.call_activity("alert")
        ctx.continue_as_new("next")

    turn = World(workflow, "start").start()

    assert [action[0] for action in turn.actions] == ["A", "N"]
    assert not turn.drop_tasks


def collect(ctx: WorkflowContext, state: dict[str, Any]) -> Flow:
    got = list(state["got"])
    if len(got) == 3:
        return got
    got.append((yield ctx.wait_for_external_event("item")))
    ctx.continue_as_new({"got": got, "save": state["save"]}, save_events=state["save"])


def test_save_events_keeps_what_nobody_took_in_order() -> None:
    world = World(collect, {"got": [], "save": True})
    world.start()
    turn = world.turn(raised("other", "o"), raised("item", 1), raised("item", 2), raised("item", 3))

    assert turn.delivered == 1
    assert [event[4] for event in world.records[0][7]["carried"]] == ["o", 2, 3]
    world.start()
    world.start()
    world.start()
    assert world.output == [1, 2, 3]


def test_without_save_events_what_was_seen_is_dropped() -> None:
    world = World(collect, {"got": [], "save": False})
    world.start()
    world.turn(raised("other"))
    turn = world.turn(raised("item", 1))

    assert turn.delivered == 2
    assert "carried" not in world.records[0][7]


def test_events_that_the_ended_generation_never_saw_are_kept_anyway() -> None:
    world = World(collect, {"got": [], "save": False})
    world.start()
    turn = world.turn(raised("seen"), raised("item", 1), raised("item", 2), raised("late", 3))

    assert turn.delivered == 2
    assert [event[4] for event in world.records[0][7]["carried"]] == [2, 3]
    assert [event[3] for event in turn.events] == ["seen", "item"]


def test_event_ids_are_remembered_over_generations() -> None:
    world = World(collect, {"got": [], "save": True})
    world.start()
    world.turn(raised("item", 1, "a"), raised("item", 2, "b"), raised("item", 2, "b"))

    assert world.records[0][7]["ids"] == ["a", "b"]
    world.start()
    turn = world.start()
    assert turn.status == "RUNNING"
    assert world.turn(raised("item", 9, "a"), raised("item", 9, "b")).empty
    world.turn(raised("item", 3, "c"))
    world.start()
    assert world.output == [1, 2, 3]


def test_completions_do_not_cross_generations() -> None:
    def workflow(ctx: WorkflowContext, n: int) -> Flow:
        ctx.create_timer(timedelta(seconds=1))
        ctx.call_child_workflow("child")
        ctx.call_activity("slow")
        yield ctx.wait_for_external_event("go")
        ctx.continue_as_new(n + 1)

    world = World(workflow, 0)
    world.start()
    late = [world.fired(0), world.done(1), world.done(2)]
    world.turn(raised("go"), *late)
    world.start()

    assert world.instance.gen == 1
    assert world.turn(*late).empty


def test_what_is_open_is_given_up() -> None:
    def workflow(ctx: WorkflowContext, n: int) -> Flow:
        ctx.create_timer(timedelta(seconds=1))
        ctx.call_activity("slow")
        ctx.wait_for_external_event("never", timeout=timedelta(days=1))
        yield ctx.wait_for_external_event("go")
        ctx.continue_as_new(n + 1)

    world = World(workflow, 0)
    world.start()
    turn = world.turn(raised("go"))

    assert turn.cancel_timers == [(0, "n0"), (2, "n0")]
    assert [task[0] for task in turn.drop_tasks] == [1]


def test_a_suspend_in_the_same_turn_reaches_the_next_generation() -> None:
    world = World(collect, {"got": [], "save": True})
    world.start()
    turn = world.turn(raised("item", 1), command("suspend"))
    assert turn.status == "CONTINUED"

    begun = world.start()
    assert (begun.status_before, begun.status) == ("RUNNING", "SUSPENDED")
    assert begun.actions == []
    world.turn(raised("item", 2))
    resumed = world.turn(command("resume"))
    assert resumed.status == "CONTINUED"
    world.start()
    world.turn(raised("item", 3))
    world.start()
    assert world.output == [1, 2, 3]


def test_a_terminate_in_the_same_turn_reaches_the_next_generation() -> None:
    world = World(collect, {"got": [], "save": True})
    world.start()
    world.turn(raised("item", 1), command("terminate", output="enough"))
    turn = world.start()

    assert turn.status == "TERMINATED"
    assert world.output == "enough"
    assert not turn.ran


def test_a_repeated_command_does_not_reach_the_next_generation() -> None:
    world = World(collect, {"got": [], "save": True})
    world.start()
    world.turn(command("suspend", "c1"))
    world.turn(command("resume", "c2"))
    world.turn(raised("item", 1), command("suspend", "c1"))

    assert world.start().status == "RUNNING"


def test_a_new_input_that_cannot_be_encoded_is_an_error_at_the_call() -> None:
    def workflow(ctx: WorkflowContext) -> str:
        try:
            ctx.continue_as_new({"x": [object()]})
        except ValueError as e:
            return str(e)
        return "encoded"

    world = World(workflow)
    world.start()

    assert "input of continue_as_new" in world.output
    assert "$.x[0]" in world.output


@pytest.mark.parametrize("value", [None, 0, [], {}])
def test_any_input_is_passed_on(value: Any) -> None:
    def workflow(ctx: WorkflowContext, given: Any = "default") -> Any:
        if ctx.continued_as_new_count == 0:
            ctx.continue_as_new(value)
        return given

    world = World(workflow)
    world.start()
    world.start()

    assert world.output == ("default" if value is None else value)


def test_a_generation_tells_when_the_last_ones_before_it_began_and_ended() -> None:
    def count(ctx: WorkflowContext, number: int) -> Flow:
        yield ctx.call_activity("work")
        ctx.continue_as_new(number + 1)

    world = World(count, 0)
    sizes = []
    for _ in range(25):
        world.start()
        world.turn(world.done(0))
        sizes.append(len(world.records[0][7]["gens"]))

    told = world.records[0][7]["gens"]
    assert sizes == [*range(1, 11), *[10] * 15]
    assert [gen for gen, *_ in told] == list(range(15, 25))
    assert all(turns == 2 for *_, turns in told)
    # Each began when the one before it ended.
    assert [began for _, began, *_ in told[1:]] == [ended for _, _, ended, _ in told[:-1]]
