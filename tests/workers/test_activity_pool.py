"""The thread pool: few wake-ups while activities are short, more threads when they wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers import poll
from tests.workers.activity_kit import Shop
from wfq_workers.activities.attempt import Attempt, Stream
from wfq_workers.activities.pool import ThreadPool

MESSAGE = b'["n",1,0,"default","i.0",["A",0,"x",null,null],null]'


def attempts(count: int) -> list[Attempt]:
    stream = Stream(0, "default", "key")
    return [Attempt((stream, b"%d-0" % n, "order", MESSAGE, 1), 0.0) for n in range(count)]


@pytest.fixture
def start() -> Iterator[Callable[..., ThreadPool]]:
    pools: list[ThreadPool] = []

    def make(run: Callable[[Any], None], limit: int = 8) -> ThreadPool:
        pools.append(ThreadPool(run, deque(), limit=limit, name="test"))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def test_one_thread_runs_a_batch_of_short_attempts(start: Callable[..., ThreadPool]) -> None:
    done: list[Attempt] = []
    pool = start(done.append)

    for _ in range(50):
        pool.submit(attempts(10))
        pool.kick()
        poll(lambda: len(done) % 10 == 0)

    poll(lambda: len(done) == 500)
    assert pool.threads == 1


def test_more_threads_help_when_asked_up_to_the_limit(start: Callable[..., ThreadPool]) -> None:
    release = threading.Event()
    running: list[Attempt] = []

    def wait(attempt: Attempt) -> None:
        running.append(attempt)
        release.wait(20)

    pool = start(wait, limit=4)
    pool.submit(attempts(10))
    pool.kick()
    poll(lambda: len(running) == 1)

    enough = pool.widen(2)
    poll(lambda: len(running) == 3)
    too_many = pool.widen(5)
    poll(lambda: len(running) == 4)
    waiting = pool.take_waiting()
    release.set()

    assert (enough, too_many) == (True, False)
    assert len(waiting) == 6
    assert pool.threads == 4


def test_no_wake_up_is_lost(start: Callable[..., ThreadPool]) -> None:
    done: list[Attempt] = []
    pool = start(done.append, limit=3)
    pool.submit(attempts(1))
    pool.widen(3)

    # Each one comes just when the threads are about to park.
    for count in range(2, 2000):
        pool.submit(attempts(1))
        pool.kick()
        poll(lambda count=count: len(done) == count, every_s=0)  # type: ignore[misc]  # lambda


def test_a_bug_in_the_worker_costs_one_attempt_and_no_thread(
    start: Callable[..., ThreadPool], caplog: pytest.LogCaptureFixture
) -> None:
    done: list[Attempt] = []

    def run(attempt: Attempt) -> None:
        done.append(attempt)
        if len(done) == 1:
            raise RuntimeError("ours")

    pool = start(run)
    pool.submit(attempts(2))
    pool.kick()

    poll(lambda: len(done) == 2)
    assert pool.threads == 1
    assert "was lost in the worker" in caplog.text


def test_attempts_that_wait_run_side_by_side(
    valkey_url: str, open_shop: Callable[[str], Shop]
) -> None:
    shop = open_shop(valkey_url)
    together = threading.Barrier(16)
    shop.activity(lambda ctx, _: together.wait(10), name="meet")
    for _ in range(16):
        shop.schedule("meet")

    shop.worker(concurrency=16)

    poll(lambda: len(shop.events()) == 16)
    assert {event[0] for _, event in shop.events()} == {"C"}


def test_short_attempts_share_few_threads(
    valkey_url: str, open_shop: Callable[[str], Shop]
) -> None:
    shop = open_shop(valkey_url)
    names: set[str] = set()
    shop.activity(lambda ctx, _: names.add(threading.current_thread().name), name="name")
    for _ in range(1000):
        shop.schedule("name")

    shop.worker(concurrency=64)
    poll(lambda: shop.entries() == 0)

    # A slow machine may make it more than one or two; sixty-four would be a waste.
    assert len(names) < 32
