"""when_all and when_any, nested and repeated."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from tests.core.world import World, raised
from wfq.core.context import WorkflowContext
from wfq.core.tasks import Task, when_all, when_any
from wfq.errors import TaskFailedError, WorkflowMisuse

Flow = Generator[Any, Any, Any]
#: What a type checker would refuse.
NO_TASKS: Any = [1]
NOTHING: Any = None
SEVEN: Any = 7


def fan_out(ctx: WorkflowContext, count: int) -> Flow:
    tasks = [ctx.call_activity("work", input=n) for n in range(count)]
    results = yield when_all(tasks)
    return sum(results)


async def fan_out_async(ctx: WorkflowContext, count: int) -> int:
    return sum(await when_all([ctx.call_activity("work", input=n) for n in range(count)]))


@pytest.mark.parametrize("workflow", [fan_out, fan_out_async])
def test_when_all_gives_the_results_in_task_order(workflow: Any) -> None:
    world = World(workflow, 3)
    world.start()
    world.turn(world.done(2, 100), world.done(0, 1))
    assert world.status == "RUNNING"
    world.turn(world.done(1, 10))

    assert world.output == 111


def test_when_all_waits_for_every_task_and_raises_the_first_failure_in_task_order() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        tasks = [ctx.call_activity(n) for n in "abc"]
        both = when_all(tasks)
        try:
            yield both
        except TaskFailedError as e:
            return [
                e.details.message,
                [t.is_complete for t in tasks],
                [t.is_failed for t in tasks],
                both.is_failed,
                str(both.get_exception()),
            ]

    world = World(workflow)
    world.start()
    world.turn(world.failed(2, "third"))
    world.turn(world.failed(1, "second"))
    assert world.status == "RUNNING"
    world.turn(world.done(0))

    assert world.output == [
        "second",
        [True, True, True],
        [False, True, True],
        True,
        "activity 'b' failed: second",
    ]


def test_when_all_of_nothing_completes_at_once() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        result = yield when_all([])
        return result

    world = World(workflow)
    world.start()

    assert world.output == []


def test_when_all_counts_a_task_that_is_listed_twice() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        task = ctx.call_activity("a")
        result = yield when_all([task, task])
        return result

    world = World(workflow)
    world.start()
    world.turn(world.done(0, 1))

    assert world.output == [1, 1]


def test_when_all_takes_tasks_that_have_ended() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        first = ctx.call_activity("a")
        yield first
        both = when_all([first, ctx.call_activity("b")])
        assert both.pending_tasks == 1
        assert both.get_completed_tasks() == 1
        assert len(both.get_tasks()) == 2
        yield both
        return (yield when_all([first]))

    world = World(workflow)
    world.start()
    world.turn(world.done(0, 1))
    world.turn(world.done(1, 2))

    assert world.output == [1]


def test_when_any_returns_the_task_that_was_passed_in() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        approval = ctx.wait_for_external_event("approval")
        timeout = ctx.create_timer(timedelta(hours=1))
        winner = yield when_any([approval, timeout])
        return [winner == timeout, winner is approval, winner.get_result()]

    world = World(workflow)
    world.start()
    turn = world.turn(raised("approval", "yes"))

    assert world.output == [False, True, "yes"]
    assert turn.cancel_timers == [(1, "n0")]


def test_when_any_does_not_raise_for_a_winner_that_failed() -> None:
    async def workflow(ctx: WorkflowContext) -> Any:
        bad, slow = ctx.call_activity("bad"), ctx.call_activity("slow")
        race = when_any([slow, bad])
        winner = await race
        assert winner is bad
        assert winner.is_failed
        assert not race.is_failed
        try:
            winner.get_result()
        except TaskFailedError as e:
            return [str(e), await slow]

    world = World(workflow)
    world.start()
    world.turn(world.failed(0, "no"))
    world.turn(world.done(1, "late"))

    assert world.output == ["activity 'bad' failed: no", "late"]


def test_among_ended_tasks_the_first_of_the_list_wins() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        a, b = ctx.call_activity("a"), ctx.call_activity("b")
        yield when_all([a, b])
        winner = yield when_any([b, a])
        return winner is b

    world = World(workflow)
    world.start()
    world.turn(world.done(0))
    world.turn(world.done(1))

    assert world.output is True


def test_of_two_completions_in_one_turn_the_earlier_wins() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        a, b = ctx.call_activity("a"), ctx.call_activity("b")
        winner = yield when_any([a, b])
        return "a" if winner is a else "b"

    world = World(workflow)
    world.start()
    world.turn(world.done(1), world.done(0))

    assert world.output == "b"


def test_the_loser_of_a_race_can_win_the_next() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        pending: list[Task[Any]] = [ctx.call_activity(n) for n in "abc"]
        order = []
        while pending:
            winner = yield when_any(pending)
            pending.remove(winner)
            order.append(winner.get_result())
        return order

    world = World(workflow)
    world.start()
    world.turn(world.done(1, "b"))
    world.turn(world.done(2, "c"), world.done(0, "a"))

    assert world.output == ["b", "c", "a"]


def test_composites_nest() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        pair = when_all([ctx.call_activity("a"), ctx.call_activity("b")])
        timer = ctx.create_timer(timedelta(seconds=5))
        winner = yield when_any([pair, timer])
        assert winner is pair
        race = when_any([ctx.call_activity("c"), ctx.call_activity("d")])
        all_of_it = yield when_all([pair, race])
        return [all_of_it[0], all_of_it[1].get_result()]

    world = World(workflow)
    world.start()
    world.turn(world.done(0, "a"), world.done(1, "b"))
    world.turn(world.done(4, "d"))

    assert world.output == [["a", "b"], "d"]


def test_a_deep_nest_completes_without_recursion() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        task: Task[Any] = ctx.call_activity("a")
        for _ in range(5_000):
            task = when_any([task])
        yield task
        return "through"

    world = World(workflow)
    world.start()
    world.turn(world.done(0))

    assert world.output == "through"


def test_a_loop_over_when_any_does_not_pile_up_composites() -> None:
    tasks: list[Any] = []

    def workflow(ctx: WorkflowContext) -> Flow:
        forever = ctx.wait_for_external_event("never")
        tasks.append(forever)
        for _ in range(50):
            yield when_any([ctx.wait_for_external_event("tick"), forever])

    world = World(workflow)
    world.start()
    for _ in range(20):
        world.turn(raised("tick"))

    assert len(tasks[0]._parents) <= 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: when_any([]), "when_any needs at least one task"),
        (lambda _: when_any(NO_TASKS), "when_any: element 0 is 1 (int), not a task"),
        (lambda ctx: when_all([ctx.call_activity("a"), NOTHING]), "when_all: element 1 is None"),
        (lambda ctx: when_all(ctx.call_activity("a")), "takes a list of tasks; it got one task"),
        (lambda _: when_all(SEVEN), "takes a list of tasks, not 7 (int)"),
    ],
)
def test_what_cannot_be_awaited_is_refused_by_name(make: Any, said: str) -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield make(ctx)

    world = World(workflow)
    world.start()

    assert world.status == "FAILED"
    assert world.output["type"] == "WorkflowMisuse"
    assert said in world.output["message"]


def test_results_are_refused_before_the_end() -> None:
    def workflow(ctx: WorkflowContext) -> list[str]:
        one = ctx.call_activity("a")
        said = []
        for task in (one, when_all([one]), when_any([one])):
            for ask in (task.get_result, task.get_exception):
                try:
                    ask()
                except WorkflowMisuse as e:
                    said.append(type(e).__name__)
            assert not task.is_complete
            assert not task.is_failed
        return said

    world = World(workflow)
    world.start()

    assert world.output == ["WorkflowMisuse"] * 6


def test_a_wide_fan_out_is_linear() -> None:
    world = World(fan_out, 2_000)
    world.start()
    turn = world.turn(*[world.done(n, 1) for n in range(2_000)])

    assert turn.status == "COMPLETED"
    assert world.output == 2_000


def test_at_most_k_of_n_run_at_a_time() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        todo, results = list(range(6)), []
        running: list[Task[Any]] = []
        while todo or running:
            while todo and len(running) < 2:
                running.append(ctx.call_activity("work", input=todo.pop(0)))
            winner = yield when_any(running)
            running.remove(winner)
            results.append(winner.get_result())
        return results

    world = World(workflow)
    world.start()
    done = 0
    while world.status == "RUNNING":
        assert len(world.instance.open) == min(2, 6 - done)
        task_id = next(iter(world.instance.open))
        world.turn(world.done(task_id, task_id * 10))
        done += 1

    assert world.output == [0, 10, 20, 30, 40, 50]
