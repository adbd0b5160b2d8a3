"""expire.lua: what ended too long ago goes, all of it, and nothing else."""

from __future__ import annotations

import pytest

from tests.storage.kit import Store, part
from wfq.storage import retention
from wfq.storage.instances import NewInstance
from wfq.storage.retention import Swept

HOUR_MS = 3_600_000


def ended(store: Store, *ids: str, status: str = "COMPLETED", ago_ms: int = 0) -> None:
    """Instances that had their only turn and ended `ago_ms` before now."""
    store.start_all([_new(one) for one in ids])
    token = ids[0]
    store.own(token)
    rows = store.read_events(token)
    now = store.now()
    parts = []
    for one in ids:
        created = int(store.fields(one)["created"])
        end = now - ago_ms
        parts.append(part(one, 1, ("F", "RUNNING", status, min(created, end), end)))
        # As if it had been created then: an instance never ends before it began.
        store.command("HSET", store.ns.instance(one), "created", min(created, end))
    assert not store.commit(*parts, token=token, last=rows[-1][0]).stale
    store.command("DEL", store.ns.lease(0, "default"))


def _new(instance_id: str) -> NewInstance:
    return NewInstance(instance_id, "inc1", "default", "flow", b"1")


def expire(
    store: Store,
    *,
    status: str = "COMPLETED",
    age_ms: int = HOUR_MS,
    token: str = "one",
    hold_ms: int = 60_000,
    position: tuple[str, str] | None = None,
    limit: int = retention.BATCH,
) -> Swept:
    return store.run(
        retention.expire(
            store.ns, 0, status,
            age_ms=age_ms, token=token, hold_ms=hold_ms, position=position, limit=limit,
        )
    )  # fmt: skip


def test_what_ended_long_ago_is_removed_with_all_its_keys(store: Store) -> None:
    ended(store, "old", ago_ms=2 * HOUR_MS)

    swept = expire(store)

    assert swept == Swept(removed=1)
    assert store.read("old") is None
    assert store.indexes("old") == []
    assert not [key for key in store.image() if "old" in key]


def test_what_ended_lately_runs_or_has_another_status_stays(store: Store) -> None:
    ended(store, "young", ago_ms=HOUR_MS // 2)
    ended(store, "failed", status="FAILED", ago_ms=2 * HOUR_MS)
    store.start("live")

    swept = expire(store)

    assert swept.removed == 0
    assert store.indexes("young") == ["COMPLETED"]
    assert store.indexes("failed") == ["FAILED"]
    assert store.indexes("live") == ["RUNNING"]


def test_one_that_ran_for_long_counts_from_its_end(store: Store) -> None:
    ended(store, "slow", ago_ms=2 * HOUR_MS)
    store.command("HSET", store.ns.instance("slow"), "ended", store.now() - 1000)

    assert expire(store).removed == 0
    assert expire(store, age_ms=500).removed == 1


def test_steps_are_bounded_and_go_through_all(store: Store) -> None:
    # Every third stays, so that positions stand on kept and on removed ones.
    names = [f"i{n:02}" for n in range(20)]
    ended(store, *names, ago_ms=2 * HOUR_MS)
    kept = names[::3]
    for one in kept:
        store.command("HSET", store.ns.instance(one), "ended", store.now())

    removed, position, steps = 0, None, 0
    while steps == 0 or position is not None:
        swept = expire(store, position=position, limit=4)
        removed, position, steps = removed + swept.removed, swept.position, steps + 1

    assert (removed, steps) == (20 - len(kept), 6)
    assert [one for one in names if store.read(one)] == kept


def test_a_second_caller_keeps_away_while_the_claim_holds(store: Store) -> None:
    expire(store, token="one", hold_ms=60_000)
    ended(store, "old", ago_ms=2 * HOUR_MS)

    held = expire(store, token="two")

    assert held.removed == 0
    assert held.held_ms is not None
    assert 0 < held.held_ms <= 60_000
    assert expire(store, token="one").removed == 1


def test_the_owner_of_a_partition_learns_of_removals(store: Store) -> None:
    ended(store, "old", ago_ms=2 * HOUR_MS)
    before = store.command("GET", f"{store.ns.prefix(0)}removals")

    expire(store)

    assert int(store.command("GET", f"{store.ns.prefix(0)}removals")) == int(before or 0) + 1


@pytest.mark.parametrize("claimed", [False, True])
def test_a_full_server_is_freed(real_store: Store, claimed: bool) -> None:
    ended(real_store, "old", ago_ms=2 * HOUR_MS)
    if claimed:
        expire(real_store, age_ms=10 * HOUR_MS)
    real_store.full(True)
    try:
        assert expire(real_store).removed == 1
        # Nothing to remove, and no room for a claim: not an error.
        assert expire(real_store).removed == 0
    finally:
        real_store.full(False)
