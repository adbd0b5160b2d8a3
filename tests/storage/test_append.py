"""append.lua: external events and lifecycle commands reach the incarnation that is meant."""

from __future__ import annotations

import pytest

from tests.storage.kit import Store, part
from wfq.errors import StorageFull
from wfq.storage.instances import AppendReply, external_event, lifecycle_command

GO = external_event("e1", "go", b'{"x":[]}')
STOP = lifecycle_command("c1", "terminate", {"output": None})


def test_an_event_is_queued_for_the_incarnation_that_lives(store: Store) -> None:
    store.start("a")

    replies = store.append(("a", "", "E", GO), ("a", "inc1", "L", STOP))

    assert replies == [AppendReply("queued", "inc1"), AppendReply("queued", "inc1")]
    assert store.events()[1:] == [
        ("a", ["E", "inc1", "e1", "go", {"x": []}]),
        ("a", ["L", "inc1", "c1", "terminate", {"output": None}]),
    ]


def test_unknown_ended_and_other_incarnations_are_refused_with_nothing_written(
    store: Store,
) -> None:
    store.start("a")
    store.start("done")
    store.own()
    entry = store.read_events()[-1][0]
    store.commit(part("done", 1, ("S", "status", "TERMINATED")), last=entry)
    image = store.image()

    replies = store.append(
        ("nobody", "", "E", GO),
        ("a", "inc0", "E", GO),
        ("done", "", "E", GO),
        ("done", "", "L", STOP),
    )

    assert replies == [
        AppendReply("unknown"),
        AppendReply("unknown"),
        AppendReply("finished", "TERMINATED"),
        AppendReply("finished", "TERMINATED"),
    ]
    assert store.image() == image


def test_the_inbox_is_bounded_and_commands_always_fit(store: Store) -> None:
    store.start("a")
    store.start("b")

    replies = store.append(
        *[("a", "", "E", external_event(f"e{n}", "go", b"1")) for n in range(4)],
        ("b", "", "E", GO),
        ("a", "", "L", STOP),
        cap=3,
    )
    later = store.append(("a", "", "E", GO), cap=3)

    assert [r.outcome for r in replies] == ["queued"] * 3 + ["full", "queued", "queued"]
    assert replies[3].detail == "3"
    assert later == [AppendReply("full", "3")]
    assert store.fields("a")["inbox"] == "3"
    assert store.fields("b")["inbox"] == "1"


def test_an_inbox_has_room_again_once_events_were_delivered(store: Store) -> None:
    store.start("a")
    store.append(*[("a", "", "E", external_event(f"e{n}", "go", b"1")) for n in range(3)], cap=3)
    store.own()
    entry = store.read_events()[-1][0]

    store.commit(part("a", 1, ("B", 2)), last=entry)

    assert store.fields("a")["inbox"] == "1"
    assert store.append(("a", "", "E", GO), cap=3) == [AppendReply("queued", "inc1")]


def test_a_delayed_instance_takes_events_before_its_start(store: Store) -> None:
    store.start("a", due_ms=10**13)

    assert store.raise_event("a", "e1").outcome == "queued"


def test_order_is_kept_within_a_call_and_between_calls(store: Store) -> None:
    store.start("a")
    store.start("b", queue="other")

    store.append(*[("ab"[n % 2], "", "E", external_event(f"e{n}", "go", b"1")) for n in range(10)])
    store.append(
        *[("ab"[n % 2], "", "E", external_event(f"e{n}", "go", b"1")) for n in range(10, 20)]
    )

    assert [e[2] for _, e in store.events()[1:]] == [f"e{n}" for n in range(0, 20, 2)]
    assert [e[2] for _, e in store.events("other")[1:]] == [f"e{n}" for n in range(1, 20, 2)]


def test_sent_twice_an_event_is_there_twice_under_one_id(store: Store) -> None:
    store.start("a")

    store.raise_event("a", "e1")
    store.raise_event("a", "e1")

    assert [e[2] for _, e in store.events()[1:]] == ["e1", "e1"]


def test_a_large_call_is_within_every_limit(store: Store) -> None:
    store.start("a")

    replies = store.append(
        *[("a", "", "E", external_event(f"e{n}", "go", b"1")) for n in range(5_000)], cap=10_000
    )

    assert {r.outcome for r in replies} == {"queued"}
    assert [e[2] for _, e in store.events()[1:]] == [f"e{n}" for n in range(5_000)]


def test_a_full_redis_refuses_an_event_and_keeps_nothing_of_it(full_store: Store) -> None:
    full_store.start("a")
    image = full_store.image()
    full_store.full(True)

    with pytest.raises(StorageFull):
        full_store.append(("a", "", "E", GO), ("a", "", "L", STOP))

    assert full_store.image() == image
