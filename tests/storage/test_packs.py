"""Packs: several short activities in one entry, acknowledged together or split."""

from __future__ import annotations

from typing import Any

import pytest

from tests.storage.kit import QUEUE, Store, message, part
from wfq.storage import activities
from wfq.storage.activities import Completed, HandBack, PackCompleted, Split, Unmark


def fill(store: Store, count: int, letter: str = "q") -> None:
    """Instance `a` lives, and its activities wait to be taken."""
    store.start("a")
    store.own()
    ((entry, _),) = store.read_events()
    add = [(letter, QUEUE, message("n1", n)) for n in range(count)]
    store.commit(part("a", 1, *add), last=entry)
    store.make_groups()


def entries(store: Store) -> list[tuple[bytes, list[bytes]]]:
    return [(e, f) for e, f in store._raw("XRANGE", store.ns.activities(0, QUEUE), "-", "+") or ()]


def event(n: int) -> bytes:
    return b'["C",%d,"n1",%d]' % (n, n)


def outcomes(store: Store) -> list[Any]:
    return [found for _, found in store.events()]


def marks(store: Store) -> list[bytes]:
    return [f for f in store._raw("HKEYS", store.ns.tasks(0)) or () if f.startswith(b"p ")]


def test_a_commit_packs_what_is_known_to_be_short(store: Store) -> None:
    fill(store, activities.PACK + 3)

    assert [len(fields) // 2 for _, fields in entries(store)] == [activities.PACK, 3]


def test_what_is_not_known_to_be_short_has_entries_of_its_own(store: Store) -> None:
    fill(store, 3, "A")

    assert [len(fields) // 2 for _, fields in entries(store)] == [1, 1, 1]


def test_a_pack_is_completed_and_acknowledged_as_one(store: Store) -> None:
    fill(store, 3)
    taken = store.take()
    assert len({item.entry_id for item in taken}) == 1
    packed = PackCompleted(
        taken[0].entry_id, QUEUE, [part for n in range(3) for part in ("a", event(n))]
    )

    assert store.complete(packed).acknowledged == 1

    assert [found[1] for found in outcomes(store)] == [0, 1, 2]
    assert entries(store) == []


@pytest.mark.parametrize("home", [QUEUE, "other"])
def test_packs_of_two_orchestrator_queues_go_in_one_call(store: Store, home: str) -> None:
    fill(store, 17)
    first, *_, last = store.take()
    one = PackCompleted(first.entry_id, QUEUE, ["a", event(0)])
    two = PackCompleted(last.entry_id, home, ["a", event(16)])

    assert store.complete(one, two).acknowledged == 2

    assert entries(store) == []
    assert len(store.events(home)) == (2 if home == QUEUE else 1)


def test_the_outcomes_of_a_pack_count_together_and_once(store: Store) -> None:
    fill(store, 3)
    taken = store.take()
    entry = taken[0].entry_id
    mixed = (
        Completed(entry, QUEUE, "a", event(0), "0 n1"),
        HandBack(entry, "a", taken[1].value),
        HandBack(entry, "a", taken[2].value),
    )

    store.complete(*mixed)
    # The same once more: the reply was lost.
    store.complete(*mixed)

    assert [fields[1] for _, fields in entries(store)] == [taken[1].value, taken[2].value]
    assert [found[1] for found in outcomes(store)] == [0, 0], "an event twice is legal"


def split_call(store: Store, consumer: str = "c1") -> tuple[bytes, Any]:
    """Attempt 1 of 3 takes long: 0 has ended, 2 has not begun."""
    taken = store.take("c1")
    entry = taken[0].entry_id
    call = (
        Split(entry, consumer, 1),
        Completed(entry, QUEUE, "a", event(0), "0 n1"),
        HandBack(entry, "a", taken[2].value),
    )
    return entry, call


def test_a_split_keeps_the_entry_for_one_and_lets_the_others_go(store: Store) -> None:
    fill(store, 3)
    entry, call = split_call(store)

    store.complete(*call)
    store.complete(*call)

    assert len(entries(store)) == 2, "the split one, and one handed back"
    assert marks(store) == [b"p %b default" % entry]
    store.complete(Completed(entry, QUEUE, "a", event(1)), Unmark(entry))
    assert len(entries(store)) == 1
    assert marks(store) == []
    assert sorted({found[1] for found in outcomes(store)}) == [0, 1]


def test_a_split_of_what_another_holds_by_now_hands_nothing_back(store: Store) -> None:
    fill(store, 3)
    entry, call = split_call(store)
    assert len(store.claim("thief")) == 3

    store.complete(*call)

    assert [held for held, _ in entries(store)] == [entry]
    assert marks(store) == []


def test_who_takes_a_split_entry_over_learns_what_is_open(store: Store) -> None:
    fill(store, 3)
    _, call = split_call(store)
    store.complete(*call)

    (claimed,) = store.run(activities.claim_tasks(store.ns, 0, QUEUE, "thief", idle_ms=0, count=9))

    assert claimed.mark == b"1"
    assert claimed.deliveries == 2
