"""Activities: scheduling, results, failures, and what is not awaited."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.core.world import World, registry_of
from wfq.core.context import WorkflowContext
from wfq.core.retry import RetryPolicy
from wfq.errors import TaskFailedError

Flow = Generator[Any, Any, Any]


@dataclass
class Receipt:
    number: int
    total: Decimal


def chain(ctx: WorkflowContext, value: int) -> Flow:
    try:
        one = yield ctx.call_activity("step1", input=value)
        two = yield ctx.call_activity("step2", input=one)
        three = yield ctx.call_activity("step3", input=two)
    except Exception as e:
        yield ctx.call_activity("error_handler", input=str(e))
        raise
    return [one, two, three]


async def chain_async(ctx: WorkflowContext, value: int) -> list[int]:
    one = await ctx.call_activity("step1", input=value)
    two = await ctx.call_activity("step2", input=one)
    three = await ctx.call_activity("step3", input=two)
    return [one, two, three]


@pytest.mark.parametrize("workflow", [chain, chain_async])
def test_a_chain_runs_one_step_a_turn(workflow: Any) -> None:
    world = World(workflow, 42)

    world.start()
    assert world.actions() == [["A", 0, "step1", 42, None]]
    world.turn(world.done(0, 43))
    assert world.actions() == [["A", 1, "step2", 43, None]]
    world.turn(world.done(1, 86))
    turn = world.turn(world.done(2, 84))

    assert world.status == turn.status == "COMPLETED"
    assert world.output == [43, 86, 84]
    assert not world.instance.open


def test_a_failed_step_is_compensated_and_the_failure_kept() -> None:
    world = World(chain, 42)
    world.start()

    world.turn(world.failed(0, "no stock", "OutOfStock"))
    assert world.actions() == [["A", 1, "error_handler", "activity 'step1' failed: no stock", None]]
    world.turn(world.done(1))

    assert world.status == "FAILED"
    assert world.output["type"] == "TaskFailedError"
    assert world.output["cause"]["type"] == "OutOfStock"
    assert "step1" in world.output["stack"]


def test_the_error_of_a_failed_task_tells_all_of_it() -> None:
    seen: list[TaskFailedError] = []

    def workflow(ctx: WorkflowContext) -> Flow:
        task = ctx.call_activity("pay")
        try:
            yield task
        except TaskFailedError as e:
            seen.append(e)
        assert task.is_complete
        assert task.is_failed
        assert isinstance(task.get_exception(), TaskFailedError)

    world = World(workflow)
    world.start()
    failure = {
        "type": "PaymentError",
        "message": "",
        "stack": "line 1",
        "cause": {"type": "OSError", "message": "net", "stack": "", "cause": None},
    }
    world.turn(["X", 0, world.nonce(0), failure, 3])

    details = seen[0].details
    assert (details.error_type, details.message, details.stack_trace) == (
        "PaymentError",
        "",
        "line 1",
    )
    assert details.cause is not None
    assert details.cause.error_type == "OSError"
    assert str(seen[0]) == "activity 'pay' failed: PaymentError"
    assert world.status == "COMPLETED"


def test_a_task_that_nobody_awaits_is_scheduled_all_the_same() -> None:
    def workflow(ctx: WorkflowContext) -> str:
        ctx.call_activity("send_alert", input="fire")
        return "done"

    world = World(workflow)
    turn = world.start()

    assert world.actions() == [["A", 0, "send_alert", "fire", None], ["K", "done"]]
    assert not turn.drop_tasks


def test_an_activity_that_is_open_at_the_end_is_reported_for_dropping() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        ctx.call_activity("slow")
        yield ctx.call_activity("fast")

    world = World(workflow)
    world.start()
    turn = world.turn(world.done(1))

    assert [(i, n) for i, n, _ in turn.drop_tasks] == [(0, "n0")]
    assert turn.drop_tasks[0][2][2] == "slow"


def test_the_same_task_can_be_awaited_again() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        task = ctx.call_activity("a")
        first = yield task
        second = yield task
        return [first, second, task.get_result(), task.result]

    world = World(workflow)
    world.start()
    world.turn(world.done(0, "x"))

    assert world.output == ["x"] * 4


def test_a_failed_task_fails_each_time_it_is_awaited() -> None:
    async def workflow(ctx: WorkflowContext) -> int:
        task = ctx.call_activity("a")
        failures = 0
        for _ in range(3):
            try:
                await task
            except TaskFailedError:
                failures += 1
        return failures

    world = World(workflow)
    world.start()
    world.turn(world.failed(0))

    assert world.output == 3


def test_results_do_not_depend_on_how_completions_are_batched() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        first = ctx.call_activity("a")
        second = ctx.call_activity("b")
        late = yield second
        early = yield first
        return [early, late]

    together, apart = World(workflow), World(workflow)
    together.start()
    together.turn(together.done(1, "b"), together.done(0, "a"))
    apart.start()
    apart.turn(apart.done(1, "b"))
    apart.turn(apart.done(0, "a"))

    assert together.output == apart.output == ["a", "b"]


def test_late_and_repeated_completions_are_dropped() -> None:
    world = World(chain, 1)
    world.start()
    stale = ["C", 0, "another-turn", 9]
    unknown = ["C", 5, "n0", 9]
    of_a_timer = ["F", 0, "n0"]

    assert world.turn(stale, unknown, of_a_timer).empty
    turn = world.turn(world.done(0, 2), world.done(0, 3))

    assert [event[3] for event in turn.events] == [2]
    assert world.actions() == [["A", 1, "step2", 2, None]]


def test_options_travel_with_the_action() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity(
            "a",
            input=None,
            retry_policy=RetryPolicy(
                first_retry_interval=timedelta(seconds=1),
                max_number_of_attempts=5,
                backoff_coefficient=2,
                max_retry_interval=timedelta(seconds=8),
                retry_timeout=timedelta(minutes=1),
                jitter=0.5,
                non_retryable=(KeyError, "Mine"),
            ),
            timeout=timedelta(seconds=30),
            schedule_to_start_timeout=timedelta(seconds=2),
            heartbeat_timeout=timedelta(milliseconds=1.5),
            queue="gpu",
        )

    world = World(workflow)
    world.start()

    assert world.actions() == [
        [
            "A",
            0,
            "a",
            None,
            {
                "q": "gpu",
                "r": [1000, 5, 2.0, 8000, 60000, 0.5, ["KeyError", "Mine"]],
                "t": 30000,
                "s": 2000,
                "h": 2,
            },
        ]
    ]


def test_no_input_is_told_apart_from_none() -> None:
    def workflow(ctx: WorkflowContext) -> None:
        ctx.call_activity("a")
        ctx.call_activity("b", input=None)
        ctx.call_activity("c", input="")

    world = World(workflow)
    world.start()

    assert world.actions()[:3] == [
        ["A", 0, "a", None, {"n": True}],
        ["A", 1, "b", None, None],
        ["A", 2, "c", "", None],
    ]


def test_inputs_are_a_snapshot_of_the_moment_of_the_call() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        basket = ["apple"]
        task = ctx.call_activity("ship", input=basket)
        basket.append("pear")
        yield task
        return basket

    world = World(workflow)
    world.start()

    assert world.actions() == [["A", 0, "ship", ["apple"], None]]


def test_changing_a_result_does_not_change_history() -> None:
    def workflow(ctx: WorkflowContext, batch: list[int]) -> Flow:
        batch.append(0)
        items = yield ctx.call_activity("get")
        items.append(4)
        return items + batch

    world = World(workflow, [9])
    world.start()
    world.turn(world.done(0, [1, 2, 3]))

    assert world.output == [1, 2, 3, 4, 9, 0]
    assert world.records[0][5] == [9]
    assert world.records[2][3][0][3] == [1, 2, 3]


def test_activities_are_called_by_function_name_or_alternate_name() -> None:
    def local(ctx: Any, value: int) -> int:
        return value

    def workflow(ctx: WorkflowContext) -> None:
        ctx.call_activity(local, input=1)
        ctx.call_activity("elsewhere", input=1)
        ctx.call_activity(renamed, input=1)

    def renamed(ctx: Any, value: int) -> int:
        return value

    registry = registry_of(workflow)
    registry.register_activity(renamed, name="other")
    world = World(workflow, registry=registry)
    world.start()

    assert [a[2] for a in world.actions()[:3]] == ["local", "elsewhere", "other"]


def test_a_typed_result_is_a_real_object() -> None:
    def charge(ctx: Any, amount: int) -> Receipt:
        raise NotImplementedError

    def workflow(ctx: WorkflowContext) -> Flow:
        task = ctx.call_activity(charge, input=1)
        receipt = yield task
        assert isinstance(receipt, Receipt)
        assert task.get_result() is receipt
        return receipt.total + 1

    registry = registry_of(workflow)
    registry.register_activity(charge)
    world = World(workflow, registry=registry)
    world.start()
    world.turn(world.done(0, {"number": 7, "total": "1.50"}))

    assert world.output == "2.50"


def test_a_result_that_does_not_fit_its_type_is_an_error_at_the_await() -> None:
    def count(ctx: Any) -> int:
        raise NotImplementedError

    def workflow(ctx: WorkflowContext) -> Flow:
        yield ctx.call_activity(count)

    registry = registry_of(workflow)
    registry.register_activity(count)
    world = World(workflow, registry=registry)
    world.start()
    world.turn(world.done(0, "many"))

    assert world.status == "FAILED"
    assert world.output["type"] == "PayloadError"
    assert "result of activity 'count'" in world.output["message"]
