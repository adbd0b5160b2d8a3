"""What becomes of activities on a worker: results, failures, retries, on every server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import wfq.activity_context as wf
from tests.servers import poll
from tests.workers.activity_kit import Shop, retry
from wfq.errors import NonRetryableError


@pytest.fixture
def shop(redis_url: str) -> Iterator[Shop]:
    shop = Shop(redis_url)
    yield shop
    shop.close()


@dataclass
class Order:
    sku: str
    count: int


def test_the_result_of_a_sync_activity_is_queued_for_its_instance(shop: Shop) -> None:
    shop.activity(lambda ctx, n: n + 1, name="increment")
    shop.worker()

    order = shop.schedule("increment", 41, task_id=7)

    assert shop.wait_event(order) == ["C", 7, f"nonce-{order}", 42]
    poll(lambda: shop.entries() == 0)


def test_an_async_activity_runs_on_the_event_loop(shop: Shop) -> None:
    async def increment(ctx: wf.ActivityContext, n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    shop.activity(increment)
    shop.worker()

    order = shop.schedule("increment", 41)

    assert shop.wait_event(order)[3] == 42


def test_input_and_result_follow_their_annotations(shop: Shop) -> None:
    @shop.activity
    def double(ctx: wf.ActivityContext, order: Order) -> Order:
        assert isinstance(order, Order)
        return Order(order.sku, 2 * order.count)

    shop.worker()

    order = shop.schedule("double", {"sku": "tea", "count": 3})

    assert shop.wait_event(order)[3] == {"sku": "tea", "count": 6}


def test_functions_of_every_shape_are_called(shop: Shop) -> None:
    shop.activity(lambda: "nothing", name="nothing")
    shop.activity(lambda value: value, name="input")
    shop.activity(lambda ctx: ctx.workflow_id, name="context")
    shop.activity(lambda ctx, value="default": value, name="both")
    shop.worker()

    answers = {
        shop.schedule("nothing", 1): "nothing",
        shop.schedule("input", 1): 1,
        shop.schedule("context", 1, instance_id="order-x"): "order-x",
        shop.schedule("both", given=False): "default",
        shop.schedule("input", given=False): None,
    }

    assert {order: shop.wait_event(order)[3] for order in answers} == answers


def test_a_context_tells_who_it_is(shop: Shop) -> None:
    @shop.activity
    def describe(ctx: wf.ActivityContext, _: Any) -> list[Any]:
        return [ctx.workflow_id, ctx.task_id, ctx.attempt, ctx.idempotency_key, ctx.activity_name]

    shop.worker()

    order = shop.schedule("describe", task_id=3, instance_id="order-9")

    assert shop.wait_event(order)[3] == ["order-9", 3, 1, "order-9:inc1.0:3", "describe"]


def test_a_failure_without_a_policy_is_final(shop: Shop) -> None:
    @shop.activity
    def fail(ctx: wf.ActivityContext, _: Any) -> None:
        try:
            raise KeyError("inner")
        except KeyError as exc:
            raise ValueError("outer") from exc

    shop.worker()

    kind, task_id, _, failure = shop.wait_event(shop.schedule("fail"))

    assert (kind, task_id) == ("X", 0)
    assert (failure["type"], failure["message"]) == ("ValueError", "outer")
    assert failure["cause"]["type"] == "KeyError"
    assert "test_activity.py" in failure["stack"]


def test_retries_count_attempts_and_cost_the_instance_one_event(shop: Shop) -> None:
    keys = []

    @shop.activity
    def third_time_lucky(ctx: wf.ActivityContext, _: Any) -> str:
        keys.append(ctx.idempotency_key)
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return "done"

    shop.worker()
    order = shop.schedule("third_time_lucky", retry=retry(5))

    event = shop.wait_event(order)

    assert event[:5] == ["C", 0, f"nonce-{order}", "done", 3]
    assert len(event[5]) == 3
    assert all(began <= ended for began, ended in event[5])
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert shop.events_of(order) == [event]


def test_attempts_run_out(shop: Shop) -> None:
    @shop.activity
    def fail(ctx: wf.ActivityContext, _: Any) -> None:
        raise ValueError(f"attempt {ctx.attempt}")

    shop.worker()

    event = shop.wait_event(shop.schedule("fail", retry=retry(3)))

    assert (event[0], event[3]["message"], event[4]) == ("X", "attempt 3", 3)


class DeclinedError(LookupError):
    pass


@pytest.mark.parametrize(
    ("error", "policy"),
    [
        (NonRetryableError("no"), retry(5)),
        (DeclinedError("no"), retry(5, non_retryable=[DeclinedError])),
        (DeclinedError("no"), retry(5, non_retryable=["LookupError"])),
    ],
    ids=["NonRetryableError", "by class", "by base class"],
)
def test_some_errors_are_never_retried(shop: Shop, error: Exception, policy: Any) -> None:
    @shop.activity
    def fail(ctx: wf.ActivityContext, _: Any) -> None:
        raise error

    shop.worker()

    event = shop.wait_event(shop.schedule("fail", retry=policy))

    assert event[3]["message"] == "no"
    assert len(event) == 4


class _OddError(BaseException):
    pass


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise SystemExit("worse")


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(5),
        asyncio.CancelledError(),
        _OddError("odd"),
        _UnprintableError(),
        ValueError("x" * 10_000_000),
        ValueError("\ud800"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__ + str(len(getattr(error, "args", ()))),
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_odd_exceptions_give_bounded_failures_and_the_worker_lives(
    valkey_url: str, error: BaseException, kind: str, open_shop: Callable[[str], Shop]
) -> None:
    shop = open_shop(valkey_url)

    def fail(ctx: wf.ActivityContext, _: Any) -> None:
        raise error

    async def fail_async(ctx: wf.ActivityContext, _: Any) -> None:
        raise error

    shop.activity(fail if kind == "sync" else fail_async, name="fail")
    shop.activity(lambda ctx, n: n, name="echo")
    shop.worker(concurrency=1)

    failed = shop.wait_event(shop.schedule("fail"))
    echoed = shop.wait_event(shop.schedule("echo", 1))

    assert failed[0] == "X"
    # A coroutine cannot raise StopIteration: Python makes it a RuntimeError.
    assert failed[3]["type"] in (type(error).__name__, "RuntimeError")
    assert len(str(failed)) < 40_000
    assert echoed[3] == 1


def test_a_result_that_is_no_json_fails_at_once(shop: Shop) -> None:
    shop.activity(lambda ctx, _: object(), name="odd")
    shop.worker()

    event = shop.wait_event(shop.schedule("odd", retry=retry(5)))

    assert (event[3]["type"], event[3]["non_retryable"]) == ("PayloadError", True)


def test_a_result_that_is_too_large_fails_at_once(shop: Shop) -> None:
    shop.activity(lambda ctx, _: ["x" * 1000] * 2000, name="large")
    shop.worker()

    event = shop.wait_event(shop.schedule("large", retry=retry(5)))

    assert event[3]["type"] == "PayloadTooLarge"


def test_an_input_that_does_not_fit_fails_at_once(shop: Shop) -> None:
    @shop.activity
    def take(ctx: wf.ActivityContext, order: Order) -> None:
        raise AssertionError("not called")

    shop.worker()

    event = shop.wait_event(shop.schedule("take", {"sku": 5}, retry=retry(5)))

    assert event[3]["type"] == "PayloadError"
    assert "take" in event[3]["message"]


def test_slow_activities_do_not_hold_up_the_results_of_fast_ones(shop: Shop) -> None:
    release = threading.Event()
    shop.activity(lambda ctx, _: release.wait(20), name="slow")
    shop.activity(lambda ctx, n: n, name="fast")
    shop.worker(concurrency=4)
    slow = [shop.schedule("slow") for _ in range(3)]
    fast = [shop.schedule("fast", n) for n in range(20)]

    for order in fast:
        shop.wait_event(order)
    unfinished = [shop.events_of(order) for order in slow]
    release.set()

    assert unfinished == [[], [], []]
    for order in slow:
        shop.wait_event(order)


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_a_worker_holds_no_more_attempts_than_it_has_slots(shop: Shop, slots: int) -> None:
    release = threading.Event()
    running: list[int] = []

    @shop.activity
    def slow(ctx: wf.ActivityContext, n: int) -> None:
        running.append(n)
        release.wait(20)

    for n in range(30):
        shop.schedule("slow", n)
    shop.worker(concurrency=slots)

    poll(lambda: len(running) == slots)
    held = len(shop.pending())
    release.set()

    assert held == slots
    poll(lambda: len(shop.events()) == 30)
    poll(lambda: shop.entries() == 0)


def test_every_task_of_many_has_one_result(shop: Shop) -> None:
    shop.activity(lambda ctx, n: n, name="echo")
    orders = {shop.schedule("echo", n): n for n in range(500)}

    for _ in range(3):
        shop.worker()
    poll(lambda: shop.entries() == 0)

    events = shop.events()
    assert {name: event[3] for name, event in events} == orders
    assert len(events) == 500
    assert shop.pending() == []


def test_a_worker_serves_only_its_queues(shop: Shop) -> None:
    shop.activity(lambda ctx, _: "done", name="work")
    ours = [shop.schedule("work", queue=queue) for queue in ("gpu", "default")]
    theirs = shop.schedule("work", queue="tpu")

    shop.worker(queues=("gpu", "default"))
    for order in ours:
        shop.wait_event(order)

    assert shop.events_of(theirs) == []
    assert shop.entries("tpu") == 1


def test_an_unknown_activity_waits_for_a_worker_that_knows_it(shop: Shop) -> None:
    shop.worker(unknown_grace_s=30)
    order = shop.schedule("later", 5, retry=retry(1))
    poll(lambda: shop.link.command("ZCARD", shop.namespace.timers(_partition(shop, order))) == 1)

    shop.activity(lambda ctx, n: n, name="later")

    # As if it were the first attempt, which it is.
    assert shop.wait_event(order) == ["C", 0, f"nonce-{order}", 5]


def test_an_instance_is_told_once_that_nobody_knows_its_activity(shop: Shop) -> None:
    shop.worker(unknown_grace_s=0)
    order = shop.schedule("never")

    first = shop.wait_event(order)
    # Two more rounds: fired, read, found unknown again, put off again.
    for _ in range(2):
        poll(lambda: shop.fire() == 1)
        poll(lambda: shop.entries() == 0)
    events = shop.events_of(order)
    shop.activity(lambda ctx, _: "healed", name="never")
    poll(lambda: shop.fire() == 1)

    assert first[:3] == ["U", 0, f"nonce-{order}"]
    assert "'never'" in first[3]
    assert events == [first]
    poll(lambda: shop.events_of(order)[1:] == [["C", 0, f"nonce-{order}", "healed"]])


def test_an_entry_that_is_no_message_becomes_a_dead_letter(shop: Shop) -> None:
    shop.activity(lambda ctx, n: n, name="echo")
    wrong_types = b'["n",1,0,"q","r",["A",{},[],1,"opts"],"extra"]'
    for junk in (b"not json", b"[]", b"[1,2,3,4,5,6,7]", b"\xff\xfe", wrong_types):
        shop.link.command("XADD", shop.namespace.activities(0, "default"), "*", "order-x", junk)

    shop.worker()
    order = shop.schedule("echo", 1)

    assert shop.wait_event(order)[3] == 1
    poll(lambda: len(shop.dead_letters()) == 5)
    poll(lambda: shop.entries() == 0)
    assert {letter["kind"] for letter in shop.dead_letters()} == {"malformed"}


def test_a_group_that_was_removed_is_made_again(shop: Shop) -> None:
    shop.activity(lambda ctx, n: n, name="echo")
    shop.worker()
    shop.wait_event(shop.schedule("echo", 1))

    for partition in range(shop.namespace.partitions):
        shop.link.command("DEL", shop.namespace.activities(partition, "default"))
    order = shop.schedule("echo", 2)

    assert shop.wait_event(order)[3] == 2


def _partition(shop: Shop, order: str) -> int:
    return shop.namespace.partition_of(order)
