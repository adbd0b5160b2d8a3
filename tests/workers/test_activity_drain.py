"""Stopping an activity worker: running work is finished or handed back, nothing is lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

import wfq.activity_context as wf
from tests.servers import poll
from tests.workers.activity_kit import Shop
from wfq.storage.activities import GROUP


@pytest.fixture
def shop(redis_url: str) -> Iterator[Shop]:
    shop = Shop(redis_url)
    yield shop
    shop.close()


def messages(shop: Shop) -> list[list[Any]]:
    """The messages in the activities streams."""
    found = []
    for partition in range(shop.namespace.partitions):
        key = shop.namespace.activities(partition, "default")
        found += [orjson.loads(fields[1]) for _, fields in shop.ask("XRANGE", key, "-", "+")]
    return found


def test_a_stop_waits_for_what_runs(shop: Shop) -> None:
    started, release = threading.Event(), threading.Event()

    @shop.activity
    def slow(ctx: wf.ActivityContext, _: Any) -> bool:
        started.set()
        release.wait(20)
        return ctx.is_cancelled

    loop = shop.worker()
    order = shop.schedule("slow")
    started.wait(10)
    stopping = threading.Thread(target=loop.stop, args=(20,))
    stopping.start()
    poll(lambda: not loop.reading)
    unread = shop.schedule("slow")
    release.set()
    stopping.join()

    assert [event[3] for event in shop.events_of(order)] == [False]
    assert shop.events_of(unread) == []
    assert shop.entries() == 1


def test_an_idle_worker_stops_at_once(shop: Shop) -> None:
    loop = shop.worker(lease_s=600)
    start = time.monotonic()

    loop.stop(30)

    # Far below the time that a read blocks.
    assert time.monotonic() - start < 2


def test_a_stopped_worker_leaves_no_consumer_behind(shop: Shop) -> None:
    shop.activity(lambda ctx, n: n, name="echo")
    loop = shop.worker()
    for n in range(20):
        shop.wait_event(shop.schedule("echo", n))

    loop.stop(5)

    for partition in range(shop.namespace.partitions):
        key = shop.namespace.activities(partition, "default")
        assert shop.ask("XINFO", "CONSUMERS", key, GROUP) == []


def test_a_worker_that_was_never_started_can_be_stopped(shop: Shop) -> None:
    shop.worker(start=False).stop(1)


def test_what_outlives_the_grace_period_is_handed_back(shop: Shop) -> None:
    started, stopped = threading.Event(), threading.Event()

    @shop.activity
    def stubborn(ctx: wf.ActivityContext, _: Any) -> str:
        ctx.heartbeat(5)
        started.set()
        while not ctx.is_cancelled:
            time.sleep(0.01)
        stopped.wait(20)
        return "too late"

    loop = shop.worker()
    order = shop.schedule("stubborn")
    started.wait(10)

    loop.stop(0.1)
    stopped.set()

    assert shop.pending() == []
    assert shop.events_of(order) == []
    # With its heartbeat, and with the delivery counted: it had been started.
    (message,) = messages(shop)
    assert message[1] == 1
    assert message[6] == {"hb": 5, "deliveries": 1}


def test_what_an_activity_returns_because_it_was_told_to_end_is_no_result(shop: Shop) -> None:
    started = threading.Event()

    @shop.activity
    def obedient(ctx: wf.ActivityContext, _: Any) -> str:
        started.set()
        while not ctx.is_cancelled:
            time.sleep(0.01)
        return "half done"

    loop = shop.worker()
    order = shop.schedule("obedient")
    started.wait(10)

    loop.stop(0.1)

    assert shop.events_of(order) == []
    assert len(messages(shop)) == 1


def test_a_result_that_comes_late_but_complete_is_reported(shop: Shop) -> None:
    started, release = threading.Event(), threading.Event()

    @shop.activity
    def slow(ctx: wf.ActivityContext, _: Any) -> str:
        started.set()
        release.wait(20)
        return "done"

    loop = shop.worker()
    order = shop.schedule("slow")
    started.wait(10)
    # After the grace period of none, within the second that follows it.
    threading.Timer(0.2, release.set).start()

    loop.stop(0)

    assert shop.events_of(order)[0][3] == "done"


def test_an_async_activity_is_cancelled_and_handed_back(shop: Shop) -> None:
    started, stopped = threading.Event(), threading.Event()

    @shop.activity
    async def wait(ctx: wf.ActivityContext, _: Any) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    loop = shop.worker()
    order = shop.schedule("wait")
    started.wait(10)

    loop.stop(0.1)

    assert stopped.is_set()
    assert shop.events_of(order) == []
    assert len(messages(shop)) == 1


def test_a_second_stop_shortens_the_grace_period(shop: Shop) -> None:
    started, release = threading.Event(), threading.Event()

    @shop.activity
    def slow(ctx: wf.ActivityContext, _: Any) -> None:
        started.set()
        release.wait(20)

    loop = shop.worker()
    shop.schedule("slow")
    started.wait(10)
    stopping = threading.Thread(target=loop.stop, args=(600,))
    stopping.start()

    loop.stop(0)
    stopping.join(10)
    release.set()

    assert not stopping.is_alive()
    assert len(messages(shop)) == 1


def test_nothing_is_lost_when_workers_come_and_go_under_load(shop: Shop) -> None:
    shop.activity(lambda ctx, n: (time.sleep(0.001), n)[1], name="echo")  # type: ignore[func-returns-value]  # a lambda that waits
    orders = {shop.schedule("echo", n): n for n in range(400)}

    while shop.entries() > 50:
        shop.worker(concurrency=16)
        time.sleep(0.02)
        shop.workers[-1].stop(10)
    shop.worker()
    poll(lambda: shop.entries() == 0)

    events = shop.events()
    assert {name: event[3] for name, event in events} == orders
    assert len(events) == len(orders)
