"""Packs of short activities in a worker: run as one, taken apart where it is to be so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

import wfq.activity_context as wf
from tests.servers import poll
from tests.workers.activity_kit import RUN, Shop, retry
from wfq.storage.activities import GROUP, short_command
from wfq_workers.activities import packs
from wfq_workers.activities.pace import KNOWN_AFTER, LONG_S, SHORT_S, Pace, news
from wfq_workers.activities.store import release_worker

PARTITION = 0


@pytest.fixture
def shop(redis_url: str) -> Iterator[Shop]:
    shop = Shop(redis_url)
    yield shop
    shop.close()


def orders(shop: Shop, count: int) -> list[str]:
    """Ids of live instances of one partition."""
    found = [f"o{n}" for n in range(400) if shop.namespace.partition_of(f"o{n}") == PARTITION]
    for order in found[:count]:
        shop.set_status(order, None)
    return found[:count]


def schedule(
    shop: Shop, name: str, values: list[Any], *, options: Any = None, taken_by: str = ""
) -> list[str]:
    """Queue one entry of several activities, one for each instance; returns the instances."""
    fields: list[Any] = []
    names = orders(shop, len(values))
    for n, (order, value) in enumerate(zip(names, values, strict=True)):
        action = ["A", 0, name, value, options]
        fields += [order, orjson.dumps([f"n{n}", 1, shop.now_ms(), "default", RUN, action, None])]
    key = shop.namespace.activities(PARTITION, "default")
    with shop.link.redis.pipeline(transaction=True) as step:
        step.execute_command("XADD", key, "*", *fields)
        if taken_by:
            step.execute_command("XREADGROUP", "GROUP", GROUP, taken_by, "STREAMS", key, ">")
        step.execute()
    return names


def results(shop: Shop) -> list[Any]:
    return sorted(event[3] for _, event in shop.events() if event[0] == "C")


def test_a_pack_takes_one_slot_and_runs_in_order(shop: Shop) -> None:
    seen: list[int] = []
    together: list[int] = []

    @shop.activity
    def short(_ctx: wf.ActivityContext, n: int) -> int:
        together.append(1)
        assert len(together) == 1, "two of a pack ran at once"
        seen.append(n)
        together.pop()
        return n

    schedule(shop, "short", list(range(16)))
    shop.worker(concurrency=1)

    poll(lambda: results(shop) == list(range(16)))
    assert seen == list(range(16))
    poll(lambda: shop.entries() == 0)
    assert shop.pending() == []


def test_each_of_a_pack_fails_and_retries_by_itself(shop: Shop) -> None:
    @shop.activity
    def short(ctx: wf.ActivityContext, n: int) -> str:
        if n % 2 and ctx.attempt == 1:
            raise ValueError(n)
        return f"{n} in {ctx.attempt}"

    policy = retry(3)
    schedule(shop, "short", list(range(4)), options={"r": policy.to_opts()})
    shop.worker()

    poll(lambda: shop.fire() >= 0 and len(results(shop)) == 4)
    assert results(shop) == ["0 in 1", "1 in 2", "2 in 1", "3 in 2"]
    poll(lambda: shop.entries() == 0)


def test_a_slow_one_keeps_nothing_else_waiting(shop: Shop) -> None:
    release = threading.Event()
    runs: list[int] = []

    @shop.activity
    def short(_ctx: wf.ActivityContext, n: int) -> int:
        runs.append(n)
        if n == 1:
            release.wait(20)
        return n

    schedule(shop, "short", [0, 1, 2, 3])
    shop.worker(concurrency=2, lease_s=0.5)

    poll(lambda: results(shop) == [0, 2, 3])
    # Several leases long: it is renewed, though its entry was split.
    time.sleep(1.2)
    assert [deliveries for _, deliveries in shop.pending()] == [1]
    release.set()
    poll(lambda: results(shop) == [0, 1, 2, 3])
    poll(lambda: shop.entries() == 0)
    assert sorted(runs) == [0, 1, 2, 3]
    assert shop.link.command("HKEYS", shop.namespace.tasks(PARTITION)) == []


def test_a_timeout_within_a_pack_is_that_of_the_one(shop: Shop) -> None:
    release = threading.Event()

    @shop.activity
    def short(_ctx: wf.ActivityContext, n: int) -> int:
        if n == 1:
            release.wait(20)
        return n

    names = schedule(shop, "short", [0, 1, 2], options={"t": 150})
    shop.worker()

    event = shop.wait_event(names[1])
    release.set()
    assert event[0] == "X"
    assert event[3]["type"] == "ActivityTimeout"
    assert results(shop) == [0, 2]


def test_a_pack_that_was_delivered_before_is_run_one_by_one(shop: Shop) -> None:
    attempts: list[int] = []

    @shop.activity
    def short(_ctx: wf.ActivityContext, n: int) -> int:
        attempts.append(n)
        return n

    shop.worker().stop(0)
    schedule(shop, "short", [0, 1, 2], taken_by="dead")
    shop.worker(lease_s=0.3)

    poll(lambda: results(shop) == [0, 1, 2])
    poll(lambda: shop.entries() == 0)
    assert sorted(attempts) == [0, 1, 2]


def test_a_supervisor_hands_the_pack_of_a_dead_child_back(shop: Shop) -> None:
    shop.worker().stop(0)
    schedule(shop, "short", [0, 1, 2], taken_by="dead")

    assert release_worker(shop.link, shop.namespace, ["default"], "dead") == 3

    key = shop.namespace.activities(PARTITION, "default")
    left = [orjson.loads(fields[1]) for _, fields in shop.ask("XRANGE", key, "-", "+")]
    assert [message[6] for message in left] == [{"deliveries": 1}] * 3
    assert shop.pending() == []


def test_a_pack_with_an_unknown_activity_is_taken_apart(shop: Shop) -> None:
    schedule(shop, "not here", [0, 1])
    shop.worker(unknown_grace_s=60)

    poll(lambda: shop.link.command("HLEN", shop.namespace.tasks(PARTITION)) == 2)
    assert shop.pending() == []


def test_what_cannot_be_read_goes_alone(shop: Shop) -> None:
    @shop.activity
    def short(_ctx: wf.ActivityContext, n: int) -> int:
        return n

    (order,) = orders(shop, 1)
    good = orjson.dumps(["n", 1, 0, "default", RUN, ["A", 0, "short", 7, None], None])
    key = shop.namespace.activities(PARTITION, "default")
    shop.link.command("XADD", key, "*", order, b"{}", order, good)
    shop.worker()

    poll(lambda: results(shop) == [7])
    poll(lambda: shop.entries() == 0)
    assert [letter["kind"] for letter in shop.dead_letters()] == ["malformed"]


def test_a_stopping_worker_hands_back_what_of_a_pack_it_has_not_begun(shop: Shop) -> None:
    inside, release = threading.Event(), threading.Event()

    @shop.activity
    def short(_ctx: wf.ActivityContext, n: int) -> int:
        inside.set()
        release.wait(20)
        return n

    schedule(shop, "short", [0, 1, 2])
    worker = shop.worker(concurrency=1)
    assert inside.wait(10)
    stopping = threading.Thread(target=worker.stop, args=(10.0,))
    stopping.start()
    release.set()
    stopping.join(20)

    done = results(shop)
    key = shop.namespace.activities(PARTITION, "default")
    left = [orjson.loads(fields[1])[5][3] for _, fields in shop.ask("XRANGE", key, "-", "+")]
    assert sorted(done + left) == [0, 1, 2]
    assert shop.pending() == []


def test_short_activities_are_announced_and_taken_back(shop: Shop) -> None:
    slow = threading.Event()

    @shop.activity
    def changing(_ctx: wf.ActivityContext, n: int) -> int:
        if slow.is_set():
            time.sleep(4 * packs.SLOW_S)
        return n

    def announced() -> list[bytes]:
        found: list[bytes] = shop.link.command(
            *short_command(shop.namespace, "default", shop.now_ms())
        )
        return found

    shop.worker(lease_s=0.6)
    for _ in range(4):
        schedule(shop, "changing", list(range(10)))
    poll(lambda: announced() == [b"changing"])

    slow.set()
    schedule(shop, "changing", [0, 1])
    poll(lambda: announced() == [])


def test_little_is_known_of_few_calls() -> None:
    pace = Pace()
    for _ in range(KNOWN_AFTER - 1):
        pace.note(SHORT_S / 10)
    assert news({"a": pace}, 0.0) == ([], [])

    pace.note(SHORT_S / 10)
    assert news({"a": pace}, 0.0) == (["a"], [])
    assert news({"a": pace}, 1.0) == ([], []), "it has not been called since"

    pace.note(100 * LONG_S)
    assert news({"a": pace}, 2.0) == ([], ["a"])
