"""claim.lua and renew_tasks.lua: attempts change hands when their worker goes silent."""

from __future__ import annotations

import pytest

from tests.servers import poll
from tests.storage.kit import QUEUE, Store
from tests.storage.test_complete import completed, prepare
from wfq.storage import activities
from wfq.storage.activities import ActivityMessage


@pytest.fixture
def busy(store: Store) -> Store:
    prepare(store)
    return store


def renew(store: Store, consumer: str, *items: ActivityMessage, run: str = "inc1.0") -> list[str]:
    held = [(i.entry_id, i.instance_id, run) for i in items]
    return store.run(activities.renew_tasks(store.ns, 0, QUEUE, consumer, held))


def holder(store: Store, item: ActivityMessage) -> str:
    key = store.ns.activities(0, QUEUE)
    rows = store._raw("XPENDING", key, "activities", item.entry_id, item.entry_id, 1)
    name: bytes = rows[0][1]
    return name.decode()


def test_a_silent_workers_attempts_are_taken_over_with_their_count(busy: Store) -> None:
    items = busy.take("A", count=2)

    first = busy.claim("B")
    second = busy.claim("C")

    assert [(i.entry_id, i.instance_id, i.value) for i in first] == [
        (i.entry_id, i.instance_id, i.value) for i in items
    ]
    assert [i.deliveries for i in first] == [2, 2]
    assert [i.deliveries for i in second] == [3, 3]
    assert holder(busy, items[0]) == "C"


def test_a_live_workers_attempts_stay_with_it(busy: Store) -> None:
    busy.take("A")

    assert busy.claim("B", idle_ms=60_000) == []


def test_no_more_is_claimed_than_asked_for(busy: Store) -> None:
    busy.take("A")

    assert len(busy.claim("B", count=2)) == 2


def test_a_stale_attempt_behind_many_renewed_ones_is_found(store: Store) -> None:
    prepare(store, 60)
    *kept, silent = store.take("A", count=60)
    poll(lambda: _idle(store, silent) >= 30)
    renew(store, "A", *kept)
    threshold = _idle(store, silent)

    claimed = poll(lambda: store.claim("B", idle_ms=threshold, count=1))

    assert [i.entry_id for i in claimed] == [silent.entry_id]


def _idle(store: Store, item: ActivityMessage) -> int:
    key = store.ns.activities(0, QUEUE)
    rows = store._raw("XPENDING", key, "activities", item.entry_id, item.entry_id, 1)
    return int(rows[0][2])


def test_renewing_keeps_the_attempt_and_its_count(busy: Store) -> None:
    (item,) = busy.take("A", count=1)
    poll(lambda: _idle(busy, item) >= 20)

    before = busy.now()
    words = renew(busy, "A", item)
    idle = _idle(busy, item)

    assert words == ["ok"]
    assert idle <= busy.now() - before
    assert [i.deliveries for i in busy.claim("B")] == [2]


def test_a_zombie_cannot_renew_what_another_has(busy: Store) -> None:
    (item,) = busy.take("A", count=1)
    busy.claim("B")

    assert renew(busy, "A", item) == ["lost"]
    assert holder(busy, item) == "B"
    assert renew(busy, "B", item) == ["ok"]


def test_a_finished_attempt_is_lost(busy: Store) -> None:
    one, two = busy.take("A", count=2)
    busy.complete(completed(one))

    assert renew(busy, "A", one, two) == ["lost", "ok"]


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ("terminated", "cancelled"),
        ("purged", "cancelled"),
        ("reborn", "cancelled"),
        ("completed", "over"),
        ("failed", "over"),
        ("continued", "over"),
    ],
)
def test_an_attempt_of_a_run_that_is_over_is_told_so(busy: Store, change: str, answer: str) -> None:
    (item,) = busy.take("A", count=1)
    match change:
        case "terminated" | "completed" | "failed":
            busy.set_status("a", change.upper())
        case "purged":
            busy.purge("a", force=True)
        case "reborn":
            busy.purge("a", force=True)
            busy.start("a", "inc2")
        case "continued":
            busy.command("HSET", busy.ns.instance("a"), "gen", "1")

    assert renew(busy, "A", item) == [answer]


def test_an_attempt_of_a_suspended_run_goes_on(busy: Store) -> None:
    (item,) = busy.take("A", count=1)
    busy.set_status("a", "SUSPENDED")

    assert renew(busy, "A", item) == ["ok"]


def test_a_missing_stream_or_group_has_nothing_to_claim_or_keep(store: Store) -> None:
    assert store.claim("A") == []
    prepare(store)
    (item,) = store.take("A", count=1)
    store.command("XGROUP", "DESTROY", store.ns.activities(0, QUEUE), "activities")

    assert store.claim("B") == []
    assert renew(store, "A", item) == ["lost"]


def test_a_deleted_entry_is_not_handed_out(busy: Store) -> None:
    items = busy.take("A", count=2)
    busy.command("XDEL", busy.ns.activities(0, QUEUE), items[0].entry_id)

    assert [i.entry_id for i in busy.claim("B")] == [items[1].entry_id]


def test_a_thousand_stale_attempts_are_claimed_at_once(real_store: Store) -> None:
    prepare(real_store, 5_000)
    real_store.take("A", count=5_000)

    assert len(real_store.claim("B", count=5_000)) == 5_000


def test_attempts_change_hands_on_a_full_redis(full_store: Store) -> None:
    prepare(full_store)
    full_store.take("A")
    full_store.full(True)

    claimed = full_store.claim("B")

    assert len(claimed) == 5
    assert set(renew(full_store, "B", *claimed)) == {"ok"}


def isolate(store: Store, consumer: str, item: ActivityMessage, *, most: int = 9) -> int:
    return store.run(
        activities.isolate(
            store.ns, 0, QUEUE, consumer, entry_id=item.entry_id, instance_id="a", task_id=0,
            nonce="n1", deliveries=item.deliveries, most=most,
        )
    )  # fmt: skip


def test_each_delivery_runs_alone_once_however_often_that_is_said(busy: Store) -> None:
    (item,) = busy.take("A", count=1)
    counts = [isolate(busy, "A", item) for _ in range(2)]
    (second,) = busy.claim("B", count=1)
    counts += [isolate(busy, "B", second) for _ in range(2)]

    assert counts == [0, 0, 1, 1]
    assert isolate(busy, "A", item) == -1


def test_a_run_that_is_not_to_be_is_not_noted(busy: Store) -> None:
    (item,) = busy.take("A", count=1)
    isolate(busy, "A", item)
    noted = busy.tasks()
    (second,) = busy.claim("B", count=1)

    assert [isolate(busy, "B", second, most=1) for _ in range(2)] == [1, 1]
    assert busy.tasks() == noted


def test_an_outcome_clears_the_lone_runs(busy: Store) -> None:
    (item,) = busy.take("A", count=1)
    isolate(busy, "A", item)
    assert list(busy.tasks()) == ["x a 0 n1"]

    busy.complete(completed(item)._replace(task="0 n1"))

    assert busy.tasks() == {}
    assert isolate(busy, "A", item) == -1


def test_a_lone_run_is_noted_on_a_full_redis(full_store: Store) -> None:
    prepare(full_store)
    (item,) = full_store.take("A", count=1)
    full_store.full(True)

    assert isolate(full_store, "A", item) == 0


def consumers(store: Store) -> set[str]:
    rows = store.command("XINFO", "CONSUMERS", store.ns.activities(0, QUEUE), "activities")
    return {row[row.index(b"name") + 1].decode() for row in rows}


def test_a_consumer_that_holds_something_does_not_leave(busy: Store) -> None:
    (item,) = busy.take("A", count=1)

    first = busy.run(activities.leave(busy.ns, 0, QUEUE, "A"))
    busy.complete(completed(item))
    second = busy.run(activities.leave(busy.ns, 0, QUEUE, "A"))

    assert (first, second) == (0, 1)
    assert "A" not in consumers(busy)


def test_consumers_of_dead_workers_do_not_pile_up(busy: Store) -> None:
    for n in range(4):
        (item,) = busy.take(f"dead-{n}", count=1)
        busy.complete(completed(item))
    busy.take("holds", count=1)

    young = busy.run(activities.leave(busy.ns, 0, QUEUE, silent_ms=60_000))
    old = busy.run(activities.leave(busy.ns, 0, QUEUE, silent_ms=0))

    assert (young, old) == (0, 4)
    assert consumers(busy) == {"holds"}


def test_nobody_leaves_a_stream_that_is_not_there(store: Store) -> None:
    assert store.run(activities.leave(store.ns, 0, QUEUE, "A")) == 0


def beat(store: Store, consumer: str, item: ActivityMessage) -> bool:
    return store.run(
        activities.save_heartbeat(
            store.ns, 0, QUEUE, consumer, entry_id=item.entry_id, instance_id="a", task_id=0,
            nonce="n1", details=b'{"at":[]}',
        )
    )  # fmt: skip


def test_heartbeat_details_are_kept_for_the_next_attempt(busy: Store) -> None:
    (item,) = busy.take("A", count=1)

    assert beat(busy, "A", item)

    read = activities.read_heartbeat_command(busy.ns, 0, "a", 0, "n1")
    assert busy.command(*read) == b'{"at":[]}'
    other = activities.read_heartbeat_command(busy.ns, 0, "a", 1, "n1")
    assert busy.command(*other) is None


def test_a_worker_that_lost_its_attempt_leaves_no_heartbeat(busy: Store) -> None:
    (item,) = busy.take("A", count=1)
    busy.claim("B")

    assert not beat(busy, "A", item)
    assert beat(busy, "B", item)
    busy.complete(completed(item))
    assert not beat(busy, "B", item)


def test_heartbeats_are_kept_on_a_full_redis(full_store: Store) -> None:
    prepare(full_store)
    (item,) = full_store.take("A", count=1)
    full_store.full(True)

    assert beat(full_store, "A", item)
