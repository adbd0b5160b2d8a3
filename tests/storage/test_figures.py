"""figures.lua: how much of everything there is."""

from __future__ import annotations

from tests.servers import poll
from tests.storage.kit import QUEUE, Store
from wfq.storage.activities import GROUP
from wfq.storage.figures import Figures, figures, total


def told(store: Store) -> Figures:
    return store.run(figures(store.ns, 0, [QUEUE, "other"]))


def test_an_empty_partition_has_nothing(store: Store) -> None:
    found = told(store)

    assert set(found.instances.values()) == {0}
    assert (found.timers, found.overdue_s, found.outbox, found.dead) == (0, 0, 0, 0)
    assert [q.events + q.activities + q.running for q in found.queues.values()] == [0, 0]


def test_what_waits_and_what_runs_is_told_apart(store: Store) -> None:
    store.start("a")
    store.start("b")
    stream = store.ns.activities(0, QUEUE)
    store.command("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
    for n in range(3):
        store.command("XADD", stream, "*", f"i{n}", "message")
    store.command("XREADGROUP", "GROUP", GROUP, "w", "COUNT", 1, "STREAMS", stream, ">")
    store.command("ZADD", store.ns.timers(0), 1000, "late", 10**14, "early")

    # All of that may have happened within one millisecond.
    poll(lambda: told(store).queues[QUEUE].activities_age_s > 0)
    found = told(store)

    assert found.instances["RUNNING"] == 2
    own = found.queues[QUEUE]
    assert own.events_age_s > 0
    assert (own.events, own.activities, own.running) == (2, 2, 1)
    assert 0 < own.activities_age_s < 60
    assert found.queues["other"].events_age_s == 0
    assert found.timers == 2
    assert found.overdue_s > 1_000_000


def test_partitions_are_added_up_and_the_oldest_counts(store: Store) -> None:
    store.start("a")
    one = told(store)
    one.queues[QUEUE].events_age_s = 7.0

    both = total([one, told(store)])

    assert both.instances["RUNNING"] == 2
    assert both.queues[QUEUE].events == 2
    assert both.queues[QUEUE].events_age_s == 7.0
