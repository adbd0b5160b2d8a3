"""fire.lua: what is due takes effect, once, by the server's clock."""

from __future__ import annotations

from typing import Any

import pytest

from tests.storage.kit import QUEUE, Store, message, part
from tests.storage.test_complete import completed, hand_back, retry
from wfq.storage.timers import schedule_to_start_member, timer_member

PAST = 1_000


def running(store: Store, *operations: tuple[Any, ...]) -> None:
    """Instance `a` had its first turn, which decided the operations."""
    store.start("a")
    store.own()
    ((entry, _),) = store.read_events()
    store.commit(part("a", 1, *operations), last=entry)


def late(task_id: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """An activity whose schedule-to-start timeout is over."""
    member = schedule_to_start_member(QUEUE, "a", task_id, "n1", "home")
    return ("T", PAST, member), ("Y", QUEUE, message("n1", task_id), f"{task_id} n1")


def test_due_timers_become_events_in_the_order_of_their_time(store: Store) -> None:
    due = [(n, timer_member(QUEUE, "a", n, "n1")) for n in (3, 1, 2)]
    running(store, *[("T", PAST + n, member) for n, member in due])

    fired = store.fire()

    assert (fired.fired, fired.next_due_ms) == (3, None)
    assert fired.lateness_ms == fired.now_ms - PAST - 1
    assert store.events() == [("a", ["F", n, "n1"]) for n in (1, 2, 3)]
    assert store.timers() == {}


def test_what_is_not_due_waits_and_its_time_is_told(store: Store) -> None:
    soon = store.now() + 500_000
    running(store, ("T", soon, timer_member(QUEUE, "a", 0, "n1")))

    fired = store.fire()

    assert (fired.fired, fired.next_due_ms, fired.lateness_ms) == (0, soon, 0)
    assert store.events() == []


def test_nothing_fires_twice(store: Store) -> None:
    running(store, ("T", PAST, timer_member(QUEUE, "a", 0, "n1")))

    results = [store.fire().fired for _ in range(3)]

    assert results == [1, 0, 0]
    assert len(store.events()) == 1


def test_a_call_fires_no_more_than_its_limit_and_tells_that_more_is_due(store: Store) -> None:
    running(store, *[("T", PAST + n, timer_member(QUEUE, "a", n, "n1")) for n in range(5)])

    first, second = store.fire(limit=3), store.fire(limit=3)

    assert (first.fired, first.next_due_ms) == (3, PAST + 3)
    assert (second.fired, second.next_due_ms) == (2, None)
    assert [e[1] for _, e in store.events()] == [0, 1, 2, 3, 4]


def test_an_empty_set_has_no_next_time(store: Store) -> None:
    fired = store.fire()

    assert (fired.fired, fired.next_due_ms, fired.lateness_ms) == (0, None, 0)
    assert store.image() == {}


def test_timers_of_several_queues_reach_their_streams(store: Store) -> None:
    running(
        store,
        ("T", PAST, timer_member("q1", "a", 0, "n1")),
        ("T", PAST, timer_member("q2", "a", 1, "n1")),
    )

    store.fire()

    assert store.events("q1") == [("a", ["F", 0, "n1"])]
    assert store.events("q2") == [("a", ["F", 1, "n1"])]


class TestDelayedStarts:
    def test_the_instance_starts_when_it_is_due(self, store: Store) -> None:
        store.start("a", due_ms=PAST)
        created = store.fields("a")["created"]

        store.fire()

        assert store.events() == [("a", ["S", "inc1"])]
        assert "status" not in store.fields("a")
        assert store.indexes("a") == ["RUNNING"]
        score = store.command("ZSCORE", store.ns.index(0, "RUNNING"), "a")
        assert int(float(score)) == int(created)

    @pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "TERMINATED"])
    def test_one_that_was_ended_before_does_not_start(self, store: Store, status: str) -> None:
        store.start("a", due_ms=PAST)
        store.command("HSET", store.ns.instance("a"), "status", status)

        assert store.fire().fired == 1
        assert store.events() == []
        assert store.fields("a")["status"] == status

    def test_one_that_was_purged_and_reborn_starts_only_as_itself(self, store: Store) -> None:
        store.start("a", due_ms=PAST)
        store.purge("a", force=True)
        store.start("a", "inc2", due_ms=10**13)

        store.fire()

        assert store.events() == []
        assert store.indexes("a") == ["PENDING"]

    def test_one_that_was_suspended_meanwhile_stays_so_and_gets_its_start(
        self, store: Store
    ) -> None:
        store.start("a", due_ms=PAST)
        store.command("HSET", store.ns.instance("a"), "status", "SUSPENDED")

        store.fire()

        assert store.events() == [("a", ["S", "inc1"])]
        assert store.fields("a")["status"] == "SUSPENDED"


class TestRetries:
    def test_the_next_attempt_is_added(self, store: Store) -> None:
        running(store, ("A", QUEUE, message("n1", 0)))
        store.make_groups()
        (item,) = store.take()
        store.complete(retry(item, 0))

        while not store.fire().fired:
            pass

        assert [m[:2] for _, m in store.messages()] == [["n1", 2]]
        assert store.tasks() == {}
        assert store.timers() == {}

    @pytest.mark.parametrize("change", ["ended", "purged", "reborn", "continued"])
    def test_a_run_that_is_over_is_not_retried(self, store: Store, change: str) -> None:
        running(store, ("T", PAST, f"R {QUEUE} a 0 n1"))
        store.command("HSET", store.ns.tasks(0), "a 0 n1", message("n1", 0, attempt=2))
        match change:
            case "ended":
                store.set_status("a", "COMPLETED")
            case "purged":
                store.purge("a", force=True)
            case "reborn":
                store.purge("a", force=True)
                store.start("a", "inc2")
            case "continued":
                store.command("HSET", store.ns.instance("a"), "gen", "1")

        store.fire()

        assert store.messages() == []
        assert store.tasks() == {}

    def test_a_retry_without_its_message_is_dropped(self, store: Store) -> None:
        running(store, ("T", PAST, f"R {QUEUE} a 0 n1"))

        assert store.fire().fired == 1
        assert store.messages() == []


class TestScheduleToStart:
    def test_an_activity_nobody_has_started_fails(self, store: Store) -> None:
        running(store, *late(0), *late(1), ("A", QUEUE, message("n1", 2)))
        store.make_groups()

        store.fire()

        failures = store.events("home")
        assert [(i, e[:3]) for i, e in failures] == [("a", ["X", 0, "n1"]), ("a", ["X", 1, "n1"])]
        assert failures[0][1][3]["type"] == "ActivityTimeout"
        assert [m[5][1] for _, m in store.messages()] == [2]
        assert store.tasks() == {}

    def test_one_that_a_worker_was_given_is_left_alone(self, store: Store) -> None:
        running(store, *late(0), *late(1))
        store.make_groups()
        store.take(count=1)

        store.fire()

        assert [e[1] for _, e in store.events("home")] == [1]
        assert [m[5][1] for _, m in store.messages()] == [0]
        assert store.tasks() == {}

    def test_one_that_was_finished_or_waits_for_a_retry_is_left_alone(self, store: Store) -> None:
        running(store, *late(0), *late(1))
        store.make_groups()
        one, two = store.take()
        store.complete(completed(one), retry(two))
        before = store.events(QUEUE)

        store.fire()

        assert store.events("home") == []
        assert store.events(QUEUE) == before
        assert len(store.tasks()) == 1

    def test_one_that_was_handed_back_unstarted_still_fails(self, store: Store) -> None:
        running(store, *late(0))
        store.make_groups()
        (item,) = store.take()
        store.complete(hand_back(item))

        store.fire()

        assert [e[1] for _, e in store.events("home")] == [0]
        assert store.messages() == []

    def test_it_fires_where_no_worker_ever_came(self, store: Store) -> None:
        running(store, *late(0))

        store.fire()

        assert [e[1] for _, e in store.events("home")] == [0]

    def test_one_whose_run_ended_is_forgotten(self, store: Store) -> None:
        running(store, *late(0))
        store.own("next", present="tok")
        store.raise_event("a", "e1")
        ((entry, _),) = store.read_events("next")
        member = schedule_to_start_member(QUEUE, "a", 0, "n1", "home")
        store.commit(part("a", 2, ("z", member), ("h", "s a 0 n1")), token="next", last=entry)

        store.fire()

        assert store.events("home") == []
        assert store.tasks() == {}

    def test_a_deep_backlog_costs_it_little(self, real_store: Store) -> None:
        """An overload is what these timeouts are for: they must not scan what waits."""
        servers = [client for _, client in real_store.link.servers()]
        for client in servers:
            client.config_set("slowlog-log-slower-than", 100_000)
        running(
            real_store,
            *[("A", QUEUE, message("n1", n)) for n in range(20_000)],
            *[op for n in range(1_000) for op in late(20_000 + n)],
        )
        real_store.make_groups()

        for client in servers:
            client.slowlog_reset()
        assert real_store.fire().fired == 1_000
        assert [client.slowlog_len() for client in servers] == [0] * len(servers)
        assert len(real_store.events("home")) == 1_000
        assert len(real_store.entries()) == 20_000


def test_firing_drains_a_full_redis(full_store: Store) -> None:
    store = full_store
    running(
        store,
        ("T", PAST, timer_member(QUEUE, "a", 9, "n1")),
        ("T", PAST, f"R {QUEUE} a 5 n1"),
        *late(0),
    )
    store.command("HSET", store.ns.tasks(0), "a 5 n1", message("n1", 5, attempt=2))
    store.start("late", due_ms=PAST)
    store.full(True)

    fired = store.fire()

    assert fired.fired == 4
    assert [e[0] for _, e in store.events()] == ["S", "F"]
    assert [m[:2] for _, m in store.messages()] == [["n1", 2]]
    assert len(store.events("home")) == 1


def test_ten_thousand_timers_are_within_every_limit(real_store: Store) -> None:
    running(real_store, *[("T", PAST, timer_member(QUEUE, "a", n, "n1")) for n in range(10_000)])

    assert real_store.fire(limit=10_000).fired == 10_000
    assert len(real_store.events()) == 10_000
