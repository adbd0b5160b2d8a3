"""acquire.lua, renew.lua and release.lua: one owner a partition and queue."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers import poll
from tests.storage.kit import QUEUE, Store, part
from wfq.storage import partitions
from wfq.storage.link import ServerReply
from wfq.storage.partitions import Held, Renewal, Taken


def renew(store: Store, token: str, lease_ms: int = 60_000) -> Renewal:
    return store.run(partitions.renew(store.ns, 0, QUEUE, token=token, lease_ms=lease_ms))


def release(store: Store, *, token: str = "", owner: str = "", died: bool = False) -> bool:
    return store.run(partitions.release(store.ns, 0, QUEUE, token=token, owner=owner, died=died))


def acquire(store: Store, token: str, owner: str, **more: object) -> Taken | Held:
    return store.acquire(token, owner=owner, **more)  # type: ignore[arg-type]


def test_a_free_partition_is_taken_and_read_from_the_start(store: Store) -> None:
    before = store.now()
    store.start("a")

    taken = store.own("t1")

    assert before <= taken.now_ms <= store.now()
    assert (taken.takeovers, taken.suspect, taken.cursors) == (0, "", {})
    ((entry, pairs),) = store.read_events("t1")
    assert taken.last_entry == entry
    assert [event[0] for _, event in pairs] == ["S"]


def test_an_empty_partition_can_be_taken_and_its_first_event_is_read(store: Store) -> None:
    taken = store.own("t1")
    store.start("a")

    assert taken.last_entry == b"0-0"
    assert len(store.read_events("t1")) == 1


def test_a_held_partition_is_refused_with_nothing_written(store: Store) -> None:
    store.own("t1", owner="w1", lease_ms=60_000)
    image = store.image()

    reply = acquire(store, "t2", "w2")

    assert isinstance(reply, Held)
    assert 0 < reply.expires_in_ms <= 60_000
    assert reply.owner == "w1"
    assert store.image() == image


def test_queues_of_one_partition_are_owned_apart(store: Store) -> None:
    store.own("t1", owner="w1")

    assert isinstance(acquire(store, "t2", "w2", queue="other"), Taken)


def test_an_expired_lease_is_taken_and_the_old_token_commits_no_more(store: Store) -> None:
    store.start("a")
    store.own("t1", owner="w1", lease_ms=1)
    ((entry, _),) = store.read_events("t1")

    poll(lambda: isinstance(acquire(store, "t2", "w2"), Taken))

    assert store.commit(part("a", 1), token="t1", last=entry).stale == "token"
    assert [e for e, _ in store.read_events("t2")] == [entry]
    with pytest.raises(ServerReply, match=r"NOGROUP|key to exist|No such"):
        store.read_events("t1")


def test_a_call_sent_twice_gives_one_lease(store: Store) -> None:
    store.start("a")
    first = store.own("t1", owner="w1")

    again = store.own("t1", owner="w1")

    assert again.takeovers == first.takeovers == 0
    assert store.lease()["token"] == "t1"
    assert len(store.read_events("t1")) == 1


def test_the_present_token_or_owner_takes_its_own_lease_anew(store: Store) -> None:
    store.start("a")
    store.own("t1", owner="w1")
    store.read_events("t1")

    by_token = acquire(store, "t2", "w2", present="t1")
    by_owner = acquire(store, "t3", "w2")

    assert isinstance(by_token, Taken)
    assert isinstance(by_owner, Taken)
    assert (by_token.takeovers, by_owner.takeovers) == (0, 0)
    assert len(store.read_events("t3")) == 1
    groups = store.image()[store.ns.events(0, QUEUE)][2]
    assert groups == [b"t3"]


def test_an_owner_learns_whether_what_it_knows_still_holds(store: Store) -> None:
    """Else an owner that paused past its lease goes on with instances another has moved."""
    store.start("a")

    def own(token: str, present: str, position: bytes, owner: str = "w1") -> bool:
        reply = store.run(
            partitions.acquire(
                store.ns, 0, QUEUE, token=token, owner=owner, lease_ms=1,
                present_token=present, position=position,
            )
        )  # fmt: skip
        assert isinstance(reply, Taken)
        return reply.continued

    fresh = own("t1", "", b"")
    ((entry, _),) = store.read_events("t1")
    store.commit(part("a", 1), token="t1", last=entry)
    kept = own("t2", "t1", entry)
    behind = own("t3", "t2", entry)
    poll(lambda: store.now() > int(store.lease()["expires"]))
    other = own("t4", "", b"", "w2")
    poll(lambda: store.now() > int(store.lease()["expires"]))
    back = own("t5", "t3", b"0")

    assert (fresh, kept, behind, other, back) == (False, True, False, False, False)


def test_an_owner_learns_that_its_last_commit_is_lost(store: Store) -> None:
    store.start("a")
    store.own("t1")
    ((entry, _),) = store.read_events("t1")
    store.commit(part("a", 1), token="t1", last=entry)

    def own(token: str, present: str, position: bytes) -> bool:
        call = partitions.acquire(
            store.ns, 0, QUEUE, token=token, owner="w1", lease_ms=60_000,
            present_token=present, position=position,
        )  # fmt: skip
        reply = store.run(call)
        assert isinstance(reply, Taken)
        return reply.behind

    kept = own("t2", "t1", entry)
    again = own("t3", "t2", b"0")
    # As a server that was promoted without the commit has it; then one with nothing at all.
    rolled_back = own("t4", "t3", entry)
    store.command("DEL", store.ns.lease(0, QUEUE))
    emptied = own("t5", "t4", entry)
    store.command("DEL", store.ns.lease(0, QUEUE))
    fresh = own("t6", "", b"")

    assert (kept, again, rolled_back, emptied, fresh) == (False, False, True, True, False)


def test_what_is_in_the_stream_is_read_again_by_every_owner(store: Store) -> None:
    store.start("a")
    store.start("b")
    store.own("t1")
    assert len(store.read_events("t1")) == 2

    store.own("t2", present="t1")

    assert len(store.read_events("t2")) == 2


def test_takeovers_count_owners_that_ended_without_a_commit(store: Store) -> None:
    store.start("a")
    store.start("b")
    counts = []
    for n in range(3):
        counts.append(store.own(f"t{n}", owner=f"w{n}").takeovers)
        store.read_events(f"t{n}")
        assert release(store, owner=f"w{n}", died=True)
    store.own("t3", owner="w3")
    (first, _), _ = store.read_events("t3")
    store.commit(part("a", 1), token="t3", last=first)
    release(store, owner="w3", died=True)

    after_commit = store.own("t4", owner="w4").takeovers
    store.read_events("t4")
    release(store, owner="w4", died=True)
    again = store.own("t5", owner="w5").takeovers

    assert counts == [0, 1, 2]
    assert (after_commit, again) == (0, 1)


def test_no_takeover_is_counted_where_there_was_nothing_to_do(store: Store) -> None:
    for n in range(3):
        assert store.own(f"t{n}", owner=f"w{n}").takeovers == 0
        release(store, owner=f"w{n}", died=True)


def test_an_owner_that_was_given_nothing_is_not_counted(store: Store) -> None:
    # It idled, and ended; what came afterwards cannot have ended it.
    store.own("t0", owner="w0")
    assert store.read_events("t0") == []
    release(store, owner="w0", died=True)
    store.start("a")
    idle = store.own("t1", owner="w1").takeovers
    release(store, owner="w1", died=True)
    unread = store.own("t2", owner="w2").takeovers
    store.read_events("t2")
    release(store, owner="w2", died=True)
    given = store.own("t3", owner="w3").takeovers
    release(store, owner="w3", died=True)

    assert (idle, unread, given) == (0, 0, 1)
    assert store.own("t4", owner="w4").takeovers == 1


def test_an_owner_whose_group_is_gone_counts(store: Store) -> None:
    store.start("a")
    store.own("t0", owner="w0")
    store.read_events("t0")
    store.command("XGROUP", "DESTROY", store.ns.events(0, QUEUE), "t0")
    release(store, owner="w0", died=True)

    assert store.own("t1", owner="w1").takeovers == 1


def test_its_own_restart_neither_counts_nor_forgets_takeovers(store: Store) -> None:
    store.start("a")
    store.own("t0", owner="w0")
    store.read_events("t0")
    release(store, owner="w0", died=True)
    assert store.own("t1", owner="w1").takeovers == 1

    assert store.own("t2", owner="w1", present="t1").takeovers == 1


def test_a_partial_commit_shows_that_the_owner_lives(store: Store) -> None:
    store.start("a")
    for n in range(2):
        store.own(f"t{n}", owner=f"w{n}")
        store.read_events(f"t{n}")
        release(store, owner=f"w{n}", died=True)
    assert store.own("t2", owner="w2").takeovers == 2
    store.read_events("t2")
    store.commit(part("a", 1), token="t2", last=None)
    release(store, owner="w2", died=True)

    assert store.own("t3", owner="w3").takeovers == 1


def test_the_suspect_and_unfinished_dispatches_are_handed_over(store: Store) -> None:
    store.start("a")
    store.own("t1", owner="w1")
    store.command("HSET", store.ns.lease(0, QUEUE), "suspect", "a 1")
    store.command("HSET", store.ns.cursors(0), "a", "n1 1000", "b", "n2 5")
    release(store, owner="w1", died=True)

    taken = store.own("t2", owner="w2")

    assert taken.suspect == "a 1"
    assert taken.cursors == {"a": "n1 1000", "b": "n2 5"}


def accuse(store: Store, token: str, name: str) -> bool:
    return store.run(partitions.accuse(store.ns, 0, QUEUE, token=token, name=name))


def test_what_an_owner_named_before_it_ended_is_told_to_the_next(store: Store) -> None:
    store.own("t1", owner="w1")
    assert accuse(store, "t1", "a 1")
    release(store, owner="w1", died=True)

    assert store.own("t2", owner="w2").suspect == "a 1"


def test_a_name_that_was_taken_back_is_not_told(store: Store) -> None:
    store.own("t1", owner="w1")
    accuse(store, "t1", "a 1")
    accuse(store, "t1", "")
    release(store, owner="w1", died=True)

    assert store.own("t2", owner="w2").suspect == ""


def test_an_owner_that_comes_back_blames_nobody(store: Store) -> None:
    store.own("t1", owner="w1")
    accuse(store, "t1", "a 1")

    assert store.own("t2", owner="w1", present="t1").suspect == ""
    release(store, owner="w1", died=True)
    assert store.own("t3", owner="w3").suspect == ""


def test_a_zombie_names_nobody(store: Store) -> None:
    store.own("t1", owner="w1")
    release(store, owner="w1")
    gone = accuse(store, "t1", "a 1")
    store.own("t2", owner="w2")

    assert (gone, accuse(store, "t1", "a 1")) == (False, False)
    assert "suspect" not in store.lease()


def test_a_lease_of_the_far_future_is_void(store: Store) -> None:
    store.own("t1", owner="w1")
    # As the server's clock is set back by an hour.
    store.command("HINCRBY", store.ns.lease(0, QUEUE), "expires", 3_600_000)

    assert isinstance(acquire(store, "t2", "w2"), Taken)


def test_an_accusation_fits_into_a_full_redis(full_store: Store) -> None:
    full_store.own("t1", owner="w1")
    full_store.full(True)

    assert accuse(full_store, "t1", "a 1")
    assert accuse(full_store, "t1", "")


def test_only_the_valid_token_renews(store: Store) -> None:
    store.own("t1", lease_ms=60_000)
    image = store.image()
    before = store.now()

    lost = renew(store, "t0")
    unchanged = store.image() == image
    kept = renew(store, "t1", 120_000)

    assert not lost.valid
    assert unchanged
    assert kept.valid
    assert before <= lost.now_ms <= kept.now_ms
    assert int(store.lease()["expires"]) == kept.now_ms + 120_000


def test_a_renewal_of_a_missing_lease_is_lost(store: Store) -> None:
    assert not renew(store, "t1").valid
    assert store.image() == {}


def test_a_clean_release_frees_the_partition_at_once(store: Store) -> None:
    store.start("a")
    store.own("t1", owner="w1")

    released = release(store, token="t1")

    assert released
    assert not release(store, token="t1")
    assert store.own("t2", owner="w2").takeovers == 0
    assert store.image()[store.ns.events(0, QUEUE)][2] == [b"t2"]


@pytest.mark.parametrize(
    "how", [{"token": "t0"}, {"owner": "w0"}, {"token": "t1", "owner": "w0"}, {}]
)
def test_only_its_own_lease_is_released(store: Store, how: dict[str, Any]) -> None:
    store.own("t1", owner="w1")
    image = store.image()

    assert not release(store, **how)
    assert not release(store, **how, died=True)
    assert store.image() == image


def test_a_dead_owner_is_released_by_name_and_still_counted(store: Store) -> None:
    store.start("a")
    store.own("t1", owner="w1")
    store.read_events("t1")

    assert release(store, owner="w1", died=True)

    assert store.own("t2", owner="w2").takeovers == 1


def test_a_lease_changes_hands_and_is_kept_on_a_full_redis(full_store: Store) -> None:
    full_store.start("a")
    full_store.own("t1", owner="w1")
    full_store.full(True)

    assert renew(full_store, "t1").valid
    assert release(full_store, owner="w1", died=True)
    assert isinstance(acquire(full_store, "t2", "w2"), Taken)
    assert len(full_store.read_events("t2")) == 1
    assert release(full_store, token="t2")
    assert isinstance(acquire(full_store, "t3", "w3"), Taken)


def test_a_zombie_parked_in_a_blocking_read_is_woken(real_store: Store) -> None:
    real_store.own("t1", owner="w1")
    wire = real_store.link.wire(timeout_s=20, key=real_store.ns.events(0, QUEUE))
    keys = [real_store.ns.events(0, QUEUE)]
    wire.send([partitions.read_command(keys, "t1", count=10, block_ms=15_000)])
    poll(lambda: b"blocked_clients:1" in _clients(real_store))

    release(real_store, owner="w1", died=True)
    real_store.own("t2", owner="w2")

    with pytest.raises(ServerReply) as caught:
        wire.receive()
    assert caught.value.transient
    wire.close()


def _clients(store: Store) -> bytes:
    text: bytes = store._raw("INFO", "clients")
    return text
