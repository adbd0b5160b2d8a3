"""Timeouts, heartbeats and cancellation of running activities."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import wfq.activity_context as wf
from tests.servers import poll
from tests.workers.activity_kit import Shop, retry


@pytest.fixture
def shop(redis_url: str) -> Iterator[Shop]:
    shop = Shop(redis_url)
    yield shop
    shop.close()


def test_an_activity_that_runs_too_long_fails_and_its_late_result_is_dropped(shop: Shop) -> None:
    release, ended = threading.Event(), threading.Event()
    contexts: list[wf.ActivityContext] = []

    @shop.activity
    def slow(ctx: wf.ActivityContext, _: Any) -> str:
        contexts.append(ctx)
        release.wait(20)
        ended.set()
        return "late"

    shop.worker()
    order = shop.schedule("slow", timeout_ms=50)

    kind, _, _, failure = shop.wait_event(order)
    cancelled = contexts[0].is_cancelled
    release.set()
    ended.wait(10)
    shop.workers[0].stop(5)

    assert (kind, failure["type"]) == ("X", "ActivityTimeout")
    assert "0.05 s" in failure["message"]
    assert cancelled
    assert len(shop.events_of(order)) == 1


def test_the_thread_of_a_hanging_activity_is_replaced(shop: Shop) -> None:
    release = threading.Event()
    shop.activity(lambda ctx, _: release.wait(20), name="hang")
    shop.activity(lambda ctx, n: n, name="echo")
    shop.worker(concurrency=1)

    for _ in range(3):
        assert shop.wait_event(shop.schedule("hang", timeout_ms=30))[0] == "X"
        assert shop.wait_event(shop.schedule("echo", 5))[3] == 5
    release.set()


def test_too_many_hanging_activities_take_their_slots_along() -> None:
    from wfq_workers.activities.attempt import Attempt, Stream
    from wfq_workers.activities.board import Board

    message = b'["n",1,0,"default","i.0",["A",0,"hang",null,null],null]'
    board = Board(20)
    for n in range(21):
        board.stuck[Attempt((Stream(0, "q", "k"), b"%d-0" % n, "order", message, 1), 0.0)] = True

    assert board.free() == 19


def test_an_async_activity_is_cancelled_by_its_timeout(shop: Shop) -> None:
    seen: list[str] = []

    @shop.activity
    async def slow(ctx: wf.ActivityContext, _: Any) -> None:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    shop.worker()

    event = shop.wait_event(shop.schedule("slow", timeout_ms=50))

    assert event[3]["type"] == "ActivityTimeout"
    poll(lambda: seen == ["cancelled"])


def test_a_blocked_event_loop_does_not_stop_timeouts(shop: Shop) -> None:
    release = threading.Event()

    @shop.activity
    async def block(ctx: wf.ActivityContext, _: Any) -> None:
        release.wait(20)  # what nobody should do

    shop.worker()

    event = shop.wait_event(shop.schedule("block", timeout_ms=50))
    release.set()

    assert event[3]["type"] == "ActivityTimeout"


def test_a_timed_out_attempt_is_retried_by_its_policy(shop: Shop) -> None:
    release = threading.Event()

    @shop.activity
    def slow_at_first(ctx: wf.ActivityContext, _: Any) -> str:
        if ctx.attempt == 1:
            release.wait(20)
        return "done"

    shop.worker()
    order = shop.schedule("slow_at_first", timeout_ms=100, retry=retry(3))

    event = shop.wait_event(order)
    release.set()

    assert event[3:5] == ["done", 2]


def test_heartbeats_keep_an_activity_alive_and_silence_ends_it(shop: Shop) -> None:
    beats: list[float] = []

    @shop.activity
    def work(ctx: wf.ActivityContext, _: Any) -> None:
        for _ in range(20):
            ctx.heartbeat()
            beats.append(time.monotonic())
            time.sleep(0.02)
        while not ctx.is_cancelled:
            time.sleep(0.01)

    shop.worker()

    event = shop.wait_event(shop.schedule("work", heartbeat_ms=200))

    assert event[3]["type"] == "ActivityTimeout"
    assert "heartbeat" in event[3]["message"]
    # Longer than the timeout: the beats counted.
    assert beats[-1] - beats[0] > 0.2


def test_heartbeat_details_reach_the_next_attempt(shop: Shop) -> None:
    @shop.activity
    def work(ctx: wf.ActivityContext, _: Any) -> Any:
        if ctx.attempt == 1:
            assert ctx.heartbeat_details is None
            ctx.heartbeat({"row": 4})
            ctx.heartbeat({"row": 5})
            ctx.heartbeat()
            raise ValueError("try again")
        return ctx.heartbeat_details

    shop.worker()
    order = shop.schedule("work", retry=retry(2))

    assert shop.wait_event(order)[3] == {"row": 5}
    partition = shop.namespace.partition_of(order)
    poll(lambda: shop.link.command("HLEN", shop.namespace.tasks(partition)) == 0)


def test_heartbeat_details_that_are_no_json_fail_in_the_activity(shop: Shop) -> None:
    shop.activity(lambda ctx, _: ctx.heartbeat(object()), name="work")
    shop.worker()

    event = shop.wait_event(shop.schedule("work"))

    assert event[3]["type"] == "PayloadError"


def test_an_activity_of_a_terminated_instance_learns_it_and_is_not_reported(shop: Shop) -> None:
    started, stopped = threading.Event(), threading.Event()

    @shop.activity
    def watch(ctx: wf.ActivityContext, _: Any) -> str:
        started.set()
        while not ctx.is_cancelled:
            time.sleep(0.01)
        stopped.set()
        return "unwanted"

    shop.worker(lease_s=1.0)
    order = shop.schedule("watch")
    started.wait(10)

    shop.set_status(order, "TERMINATED")

    assert stopped.wait(10)
    poll(lambda: shop.entries() == 0)
    assert shop.pending() == []
    assert shop.events_of(order) == []


def test_an_async_activity_of_a_terminated_instance_is_cancelled(shop: Shop) -> None:
    started, stopped = threading.Event(), threading.Event()

    @shop.activity
    async def wait(ctx: wf.ActivityContext, _: Any) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    shop.worker(lease_s=1.0)
    order = shop.schedule("wait")
    started.wait(10)

    shop.set_status(order, "TERMINATED")

    assert stopped.wait(10)
    poll(lambda: shop.entries() == 0)
    assert shop.events_of(order) == []


def test_the_sweep_forgets_attempts_that_ended_long_before_their_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from wfq_workers.activities import watch as activity_watch
    from wfq_workers.activities.attempt import Attempt, Stream

    monkeypatch.setattr(activity_watch, "SWEEP", 10)
    message = b'["n",1,0,"default","i.0",["A",0,"x",null,{"t":3600000}],null]'
    running: set[Attempt] = set()
    watch = activity_watch.TimeoutWatch(
        lambda *_: None, lambda attempt: attempt in running, name="watch"
    )
    for n in range(100):
        attempt = Attempt((Stream(0, "q", "k"), b"%d-0" % n, "order", message, 1), 0.0)
        attempt.started_at = time.monotonic()
        watch.add(attempt)
    size = watch.size
    watch.close()

    assert size <= 10
