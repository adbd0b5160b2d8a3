"""Leases of attempts: renewed while they run, taken over from the dead, never lost to both."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

import wfq.activity_context as wf
from tests.servers import LocalServer, poll
from tests.workers.activity_kit import Shop, retry
from wfq.storage import activities
from wfq.storage.activities import GROUP
from wfq_workers.activities.store import release_worker


@pytest.fixture
def shop(redis_url: str) -> Iterator[Shop]:
    shop = Shop(redis_url)
    yield shop
    shop.close()


def prepare(shop: Shop) -> None:
    """Make the consumer groups, as any worker does."""
    shop.worker().stop(0)


def read_as(shop: Shop, consumer: str, order: str) -> bytes:
    """Hand the attempt of an instance out to a consumer that does nothing with it."""
    key = shop.namespace.activities(shop.namespace.partition_of(order), "default")
    ((_, entries),) = shop.ask(
        "XREADGROUP", "GROUP", GROUP, consumer, "COUNT", 1, "STREAMS", key, ">"
    )
    entry_id: bytes = entries[0][0]
    return entry_id


def test_a_long_activity_keeps_its_lease(shop: Shop) -> None:
    starts = []
    release = threading.Event()

    @shop.activity
    def slow(ctx: wf.ActivityContext, _: Any) -> str:
        starts.append(ctx.attempt)
        release.wait(20)
        return "done"

    for _ in range(2):
        shop.worker(lease_s=0.5)
    order = shop.schedule("slow")
    poll(lambda: starts)
    # Several leases long, which is what is tested.
    time.sleep(2.0)
    release.set()

    assert shop.wait_event(order)[3] == "done"
    assert starts == [1]


def test_the_attempt_of_a_dead_worker_is_taken_over(shop: Shop) -> None:
    shop.activity(lambda ctx, n: [ctx.attempt, n], name="echo")
    prepare(shop)
    order = shop.schedule("echo", 5, taken_by="dead")

    shop.worker(lease_s=0.5)

    # The same attempt: a crash is no failure of the activity.
    assert shop.wait_event(order)[3] == [1, 5]
    poll(lambda: shop.pending() == [])


def test_what_a_dead_worker_saved_in_heartbeats_is_found_by_the_next(shop: Shop) -> None:
    shop.activity(lambda ctx, _: ctx.heartbeat_details, name="resume")
    prepare(shop)
    order = shop.schedule("resume", taken_by="dead")
    partition = shop.namespace.partition_of(order)
    field = f"hb {order} 0 nonce-{order}"
    shop.link.command("HSET", shop.namespace.tasks(partition), field, b'{"row":7}')

    shop.worker(lease_s=0.5)

    assert shop.wait_event(order)[3] == {"row": 7}


def test_heartbeats_are_saved_while_the_activity_runs(shop: Shop) -> None:
    release = threading.Event()

    @shop.activity
    def work(ctx: wf.ActivityContext, _: Any) -> None:
        ctx.heartbeat([1, 2])
        release.wait(20)

    shop.worker()
    order = shop.schedule("work")
    tasks = shop.namespace.tasks(shop.namespace.partition_of(order))
    field = f"hb {order} 0 nonce-{order}"

    poll(lambda: shop.link.command("HGET", tasks, field) == b"[1,2]")
    release.set()
    shop.wait_event(order)

    poll(lambda: not shop.link.command("HEXISTS", tasks, field))


def test_an_activity_that_kills_its_workers_fails_and_leaves_a_dead_letter(shop: Shop) -> None:
    runs = []
    shop.activity(lambda ctx, _: runs.append(1), name="poison")
    prepare(shop)
    order = shop.schedule("poison", retry=retry(10))
    entry_id = read_as(shop, "dead", order)
    key = shop.namespace.activities(shop.namespace.partition_of(order), "default")
    for deliveries in (2, 3):
        shop.ask("XCLAIM", key, GROUP, "dead", 0, entry_id)
        assert isolate(shop, "dead", order, entry_id, deliveries=deliveries) == deliveries - 2

    shop.worker(lease_s=0.5, max_deliveries=4)
    event = shop.wait_event(order)

    assert event[0] == "X"
    assert event[3]["type"] == "WorkerLost"
    assert event[3]["non_retryable"] is True
    assert runs == []
    (letter,) = shop.dead_letters()
    assert (letter["id"], letter["reason"]) == (order, "WorkerLost")
    assert orjson.loads(letter["message"])[5][2] == "poison"


def test_an_attempt_taken_by_another_worker_is_not_reported(shop: Shop) -> None:
    started, stopped = threading.Event(), threading.Event()

    @shop.activity
    def watch(ctx: wf.ActivityContext, _: Any) -> str:
        started.set()
        while not ctx.is_cancelled:
            time.sleep(0.01)
        stopped.set()
        return "lost"

    loop = shop.worker(lease_s=1.0)
    order = shop.schedule("watch")
    started.wait(10)
    key = shop.namespace.activities(shop.namespace.partition_of(order), "default")
    (row,) = shop.ask("XPENDING", key, GROUP, "-", "+", 10)

    shop.ask("XCLAIM", key, GROUP, "thief", 0, row[0])

    assert stopped.wait(10)
    loop.stop(5)
    assert shop.events_of(order) == []
    assert [consumer for consumer, _ in shop.pending()] == ["thief"]


def take_over_after(shop: Shop, status: str) -> tuple[int, int]:
    """Let the attempt of a dead worker be taken over, whose instance has ended meanwhile.

    Returns how often it runs again, and how many outcomes it reports.
    """
    runs: list[int] = []
    shop.activity(lambda ctx, _: runs.append(1), name="work")
    prepare(shop)
    order = shop.schedule("work", taken_by="dead")
    shop.set_status(order, status)

    shop.worker(lease_s=0.5)

    poll(lambda: shop.entries() == 0)
    return len(runs), len(shop.events_of(order))


def test_the_attempt_of_a_terminated_instance_is_not_run_again(shop: Shop) -> None:
    assert take_over_after(shop, "TERMINATED") == (0, 0)


def test_a_task_that_nobody_awaits_survives_its_worker_and_its_instance(shop: Shop) -> None:
    runs, _ = take_over_after(shop, "COMPLETED")

    assert runs == 1


def test_what_a_dead_worker_held_can_be_handed_back_at_once(shop: Shop) -> None:
    shop.activity(lambda ctx, n: n, name="echo")
    prepare(shop)
    orders = [shop.schedule("echo", n, taken_by="dead") for n in range(5)]

    released = release_worker(shop.link, shop.namespace, ["default"], "dead")
    again = release_worker(shop.link, shop.namespace, ["default"], "dead")
    shop.worker(lease_s=600)

    assert (released, again) == (5, 0)
    assert [shop.wait_event(order)[3] for order in orders] == [0, 1, 2, 3, 4]
    assert len(shop.events()) == 5


def isolate(shop: Shop, consumer: str, order: str, entry_id: bytes, *, deliveries: int) -> int:
    """Note that the order's activity runs alone, as a worker does."""
    call = activities.isolate(
        shop.namespace, shop.namespace.partition_of(order), "default", consumer,
        entry_id=entry_id, instance_id=order, task_id=0, nonce=f"nonce-{order}",
        deliveries=deliveries, most=9,
    )  # fmt: skip
    return shop.link.run(call)


def test_suspects_run_one_at_a_time_and_others_beside_them(shop: Shop) -> None:
    gates = {name: threading.Event() for name in ("s1", "s2", "new")}
    begun: list[str] = []

    @shop.activity
    def work(ctx: wf.ActivityContext, name: str) -> str:
        begun.append(name)
        gates[name].wait(20)
        return name

    prepare(shop)
    suspects = [shop.schedule("work", name) for name in ("s1", "s2")]
    for n in range(2):
        for order in suspects:
            read_as(shop, f"dead-{n}", order)
        release_worker(shop.link, shop.namespace, ["default"], f"dead-{n}")

    shop.worker(concurrency=2)
    poll(lambda: begun)
    first = begun[0]
    # The one that waits has no slot.
    new = shop.schedule("work", "new")
    poll(lambda: "new" in begun)
    assert begun == [first, "new"]
    gates[first].set()
    poll(lambda: len(begun) == 3)
    for gate in gates.values():
        gate.set()

    assert [shop.wait_event(order)[0] for order in (*suspects, new)] == ["C", "C", "C"]


def test_a_suspect_that_waits_is_handed_back_uncounted(shop: Shop) -> None:
    release = threading.Event()
    begun: list[int] = []

    @shop.activity
    def work(ctx: wf.ActivityContext, n: int) -> int:
        begun.append(n)
        release.wait(20)
        return n

    prepare(shop)
    orders = [shop.schedule("work", n) for n in range(2)]
    for n in range(2):
        for order in orders:
            read_as(shop, f"dead-{n}", order)
        release_worker(shop.link, shop.namespace, ["default"], f"dead-{n}")
    worker = shop.worker()
    poll(lambda: begun)
    poll(lambda: worker.running == 2)

    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    poll(lambda: shop.entries() == 2 and len(shop.pending()) == 1)
    release.set()
    stopping.join()
    shop.worker()

    assert [shop.wait_event(order)[0] for order in orders] == ["C", "C"]
    assert sorted(begun) == [0, 1]


def test_handing_back_counts_as_a_delivery(shop: Shop) -> None:
    shop.activity(lambda ctx, _: "ran", name="poison")
    prepare(shop)
    order = shop.schedule("poison")
    for n in range(3):
        entry_id = read_as(shop, f"dead-{n}", order)
        if n == 2:
            assert isolate(shop, "dead-2", order, entry_id, deliveries=3) == 0
        release_worker(shop.link, shop.namespace, ["default"], f"dead-{n}")

    shop.worker(max_deliveries=3)

    assert shop.wait_event(order)[3]["type"] == "WorkerLost"


def test_results_are_kept_over_an_outage_of_redis(
    start_server: Callable[..., LocalServer], open_shop: Callable[[str], Shop]
) -> None:
    server = start_server("redis", "--appendonly", "yes", "--appendfsync", "always")
    shop = open_shop(server.url)
    runs = []
    release = threading.Event()

    @shop.activity
    def work(ctx: wf.ActivityContext, n: int) -> int:
        runs.append(n)
        release.wait(20)
        return n

    shop.worker()
    orders = {shop.schedule("work", n): n for n in range(4)}
    poll(lambda: len(runs) == 4)

    server.kill()
    release.set()
    # The results are there, and there is nobody to take them.
    poll(lambda: shop.workers[0].running == 0)
    time.sleep(1.0)
    server.start()
    answers = {order: shop.wait_event(order, 30)[3] for order in orders}

    assert answers == orders
    assert sorted(runs) == [0, 1, 2, 3]


def test_attempts_in_a_lost_answer_are_run_soon(
    real_redis_url: str, open_shop: Callable[[str], Shop]
) -> None:
    shop = open_shop(real_redis_url)
    shop.activity(lambda ctx, n: n, name="echo")
    loop = shop.worker(lease_s=600)
    # Handed out to the worker in an answer that it never gets.
    order = shop.schedule("echo", 1, taken_by=loop.worker_id)
    # Its read is under way: it waits in the server, blocked.
    poll(lambda: b"flags=b" in shop.link.command("CLIENT", "LIST"))

    shop.link.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    answer = shop.wait_event(order)[3]

    assert answer == 1


def test_work_goes_on_when_redis_forgets_its_scripts(
    real_redis_url: str, open_shop: Callable[[str], Shop]
) -> None:
    shop = open_shop(real_redis_url)
    shop.activity(lambda ctx, n: n, name="echo")
    shop.worker()
    orders = {}
    for n in range(20):
        orders[shop.schedule("echo", n)] = n
        shop.link.command("SCRIPT", "FLUSH")

    answers = {order: shop.wait_event(order)[3] for order in orders}

    assert answers == orders


def test_a_worker_may_be_started_before_redis(
    start_server: Callable[..., LocalServer], open_shop: Callable[[str], Shop]
) -> None:
    server = start_server()
    shop = open_shop(server.url)
    shop.activity(lambda ctx, n: n, name="echo")
    server.kill()

    loop = shop.worker(start=False)
    loop.start()
    early = loop.wait_ready(0.5)
    server.start()
    ready = loop.wait_ready(15)
    answer = shop.wait_event(shop.schedule("echo", 1))[3]

    assert (early, ready, answer) == (False, True, 1)


@pytest.mark.slow
def test_nothing_is_lost_while_redis_is_killed_again_and_again(
    start_server: Callable[..., LocalServer], open_shop: Callable[[str], Shop]
) -> None:
    server = start_server("redis", "--appendonly", "yes", "--appendfsync", "always")
    shop = open_shop(server.url)
    shop.activity(lambda ctx, n: n, name="echo")
    orders = {shop.schedule("echo", n): n for n in range(3000)}

    for _ in range(2):
        shop.worker(concurrency=2, lease_s=1.0)
    for _ in range(4):
        time.sleep(0.3)  # some of the work is done between two crashes
        server.restart()
    poll(lambda: shop.entries() == 0, 40)
    events = shop.events()

    assert {name: event[3] for name, event in events} == orders


def test_releasing_a_worker_of_streams_nobody_used_is_no_error(shop: Shop) -> None:
    assert release_worker(shop.link, shop.namespace, ["never"], "dead") == 0
