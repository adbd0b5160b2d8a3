"""commit.lua: the fence. All of a batch becomes durable, once, or nothing of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.storage.kit import QUEUE, Store, done, message, new_child, pairs_of, part
from wfq.storage.entries import id_after
from wfq.storage.instances import NewInstance
from wfq.storage.outbox import Message
from wfq.storage.timers import timer_member


def test_a_commit_records_the_turn_and_takes_its_events_out_of_the_stream(running: Store) -> None:
    (first, _), (second, _) = running.read_events()

    reply = running.commit(
        part("a", 1, record=["T", 5, "n", [["S", "inc1"]], [], None]), last=first
    )

    assert done(reply)
    assert running.history("a")[1:] == [["T", 5, "n", [["S", "inc1"]], [], None]]
    assert [i for i, _ in running.events()] == ["b"]
    assert running.lease()["pos"] == first.decode()
    assert done(running.commit(part("b", 1), position=first, last=second))
    assert running.events() == []


def test_a_stale_token_commits_nothing(running: Store) -> None:
    (first, _), _ = running.read_events()
    image = running.image()

    reply = running.commit(part("a", 1), token="old", last=first)

    assert reply.stale == "token"
    assert running.image() == image


def test_a_commit_sent_twice_counts_once(running: Store) -> None:
    (first, _), _ = running.read_events()
    turn = part(
        "a", 1, ("A", QUEUE, message("n1", 0)), ("T", 10**13, timer_member(QUEUE, "a", 1, "n1"))
    )
    running.commit(turn, last=first)
    image = running.image()

    again = running.commit(turn, last=first)

    assert again.stale == "position"
    assert running.image() == image


def test_a_commit_after_a_refused_one_is_refused_too(running: Store) -> None:
    """Else the second would trim the events of the first, which nobody saved (FAULTS 6.2)."""
    (first, _), (second, _) = running.read_events()
    refused = running.commit(part("a", 7), last=first)

    following = running.commit(part("b", 1), position=first, last=second)

    assert refused.stale == "turns"
    assert following.stale == "position"
    assert [i for i, _ in running.events()] == ["a", "b"]


def test_instances_are_looked_at_again_after_a_removal(running: Store) -> None:
    (first, _), _ = running.read_events()
    running.start("c")
    ((third, _),) = running.read_events()
    told = running.commit(part("a", 1), last=first).removals
    running.set_status("b", "COMPLETED")
    running.purge("b")

    after = running.commit(part("b", 1), part("c", 1), position=first, last=third, removals=told)

    assert after.dropped == ("b",)
    assert after.removals != told
    assert running.history("b") == []
    assert len(running.history("c")) == 2


@pytest.mark.parametrize("how", ["purge", "start", "child", "delivery"])
def test_every_removal_is_counted(running: Store, how: str) -> None:
    (first, _), (second, _) = running.read_events()
    told = running.commit(part("a", 1), last=first).removals
    running.set_status("b", "COMPLETED")
    kid = new_child(letter="R")

    match how:
        case "purge":
            running.purge("b")
        case "start":
            running.start("b", "inc2", policy="replace")
        case "child":
            running.own("other", queue="q2")
            running.start("c", queue="q2")
            ((entry, _),) = running.read_events("other", queue="q2")
            kid = (kid[0], "b", *kid[2:])
            running.commit(part("c", 1, kid), token="other", queue="q2", last=entry)
        case "delivery":
            child = ["b", "n1.0", "kid", QUEUE, ',"n1.0",0,"kid",1,null,null]', "p", "[]", "i", "1"]
            assert running.deliver(3, 0, (b"5-0", Message("C", child))) == ["applied"]

    after = running.commit(part("b", 1), position=first, last=second, removals=told)
    assert after.dropped == ("b",)
    assert after.removals != told


def test_a_batch_that_the_server_has_lost_is_refused(running: Store) -> None:
    """After a rollback behind a proxy, the token and the position may hold, the events not."""
    entries = running.read_events()
    removals = running.commit(part("a", 1), last=entries[0][0]).removals
    running.command("XDEL", running.ns.events(0, QUEUE), entries[1][0])
    image = running.image()

    reply = running.commit(
        part("b", 1, ("S", "status", "COMPLETED")),
        position=entries[0][0],
        last=entries[1][0],
        removals=removals,
    )

    assert reply.stale == "entry"
    assert running.image() == image


def test_a_turn_computed_from_another_history_refuses_the_whole_batch(running: Store) -> None:
    entries = running.read_events()
    image = running.image()

    reply = running.commit(part("b", 1), part("a", 2), last=entries[-1][0])

    assert reply.stale == "turns"
    assert running.image() == image


def test_a_purged_or_reborn_instance_loses_only_its_own_part(running: Store) -> None:
    """FAULTS 6.7."""
    running.start("c")
    entries = running.read_events()
    running.set_status("a", "COMPLETED")
    running.set_status("c", "FAILED")
    running.purge("a")
    running.start("c", "inc2", policy="replace")

    reply = running.commit(
        part(
            "a",
            1,
            ("S", "status", "FAILED"),
            ("A", QUEUE, message("n1", 0)),
            ("E", QUEUE, "b", b"[]"),
        ),
        part("b", 1, ("S", "custom", "1")),
        part("c", 1, ("I", "RUNNING", "FAILED", 1), ("B", 1), ("Q", "elsewhere")),
        last=entries[-1][0],
    )

    assert reply.dropped == ("a", "c")
    assert running.history("a") == []
    assert running.fields("a") == {}
    assert running.fields("b")["custom"] == "1"
    assert running.messages() == []
    assert running.indexes("c") == ["RUNNING"]
    assert running.fields("c")["queue"] == QUEUE
    assert [(i, e[:2]) for i, e in running.events()] == [("c", ["S", "inc2"])]


@pytest.mark.parametrize("gone", [None, "a", "c", "e"])
def test_each_of_those_that_end_keeps_its_own_time(running: Store, gone: str | None) -> None:
    ends = {"a": 70, "b": 70, "c": 71, "d": 70, "e": 10**12}
    running.start_all([NewInstance(name, "inc1", QUEUE, "flow", b"1") for name in "cdef"])
    entries = running.read_events()
    if gone is not None:
        running.set_status(gone, "FAILED")
        running.purge(gone)

    reply = running.commit(
        *(part(name, 1, ("f", 5, ended)) for name, ended in ends.items()),
        part("f", 1, ("S", "custom", "1")),
        last=entries[-1][0],
    )

    assert reply.dropped == (() if gone is None else (gone,))
    for name in ends.keys() - {gone}:
        fields = running.fields(name)
        assert (fields["status"], fields["ended"]) == ("COMPLETED", str(ends[name]))
        assert running.indexes(name) == ["COMPLETED"]
        assert len(running.history(name)) == 2
    assert running.fields("f")["custom"] == "1"
    assert running.indexes("f") == ["RUNNING"]


def test_a_partial_commit_keeps_the_batch_in_the_stream(running: Store) -> None:
    """FAULTS 6.1: the rest of the batch is not lost, what was committed is not taken twice."""
    entries = running.read_events()

    first = running.commit(part("a", 1), last=None)
    image = running.image()
    again = running.commit(part("a", 1), last=None)
    unchanged = running.image() == image
    rest = running.commit(part("b", 1), position=b"0+", last=None)
    finish = running.commit(position=b"0++", last=entries[-1][0])

    assert done(first, rest, finish)
    assert again.stale == "position"
    assert unchanged
    assert len(running.history("a")) == len(running.history("b")) == 2
    assert running.events() == []


def test_a_batch_is_not_finished_where_a_part_of_it_was_lost(running: Store) -> None:
    """A server that came back without it, behind a connection that stayed: nothing is trimmed."""
    entries = running.read_events()
    running.commit(part("a", 1), last=None)
    running.command("HSET", running.ns.lease(0, QUEUE), "pos", "0")
    running.command("RPOP", running.ns.history("a"))

    finish = running.commit(part("b", 1), position=b"0+", last=entries[-1][0])

    assert finish.stale == "position"
    assert len(running.events()) == 2


def test_a_part_without_a_record_counts_once_too(running: Store) -> None:
    running.read_events()
    birth = b'["B",9,"inc1",1,"flow",null,null,null]'
    again = part("a", 1, ("N", birth), record=None)

    replies = [running.commit(again, last=None) for _ in range(2)]

    assert [r.stale for r in replies] == ["", "position"]
    assert running.fields("a")["gen"] == "1"


def test_after_a_partial_commit_the_next_owner_reads_the_batch_again(running: Store) -> None:
    entries = running.read_events()
    running.commit(part("a", 1), last=None)

    running.own("tok2", present="tok")

    assert [e for e, _ in running.read_events("tok2")] == [e for e, _ in entries]
    assert done(running.commit(part("b", 1), token="tok2", last=entries[-1][0]))


def test_events_that_came_after_the_batch_stay(running: Store) -> None:
    entries = running.read_events()
    running.raise_event("a", "e1")

    running.commit(part("a", 1), part("b", 1), last=entries[-1][0])

    assert [e[2] for _, e in running.events()] == ["e1"]
    assert [e for e, _ in running.read_events()] != []


def test_activities_and_timers_are_written(running: Store) -> None:
    entries = running.read_events()
    due = running.now() + 1_000_000
    member = timer_member(QUEUE, "a", 1, "n1")

    running.commit(
        part("a", 1, ("A", "fast", message("n1", 0, payload=[])), ("T", due, member)),
        part("b", 1, ("A", QUEUE, message("n2", 0))),
        last=entries[-1][0],
    )

    ((instance_id, sent),) = running.messages("fast")
    assert (instance_id, sent) == ("a", orjson.loads(message("n1", 0, payload=[])))
    assert [i for i, _ in running.messages()] == ["b"]
    assert running.timers() == {member: due}


def test_an_earlier_timer_wakes_the_schedulers_and_a_later_one_does_not(running: Store) -> None:
    (first, _), (second, _) = running.read_events()
    due = running.now() + 1_000_000

    with running.listening(running.ns.wake(0)) as heard:
        running.commit(part("a", 1, ("T", due, "T q a x"), ("T", due - 9, "T q a y")), last=first)
        early = heard()
        running.commit(part("b", 1, ("T", due + 1, "T q b x")), position=first, last=second)
        late = heard()

    assert [int(float(x)) for x in early] == [due - 9]
    assert late == []


def test_the_changes_are_published(running: Store) -> None:
    (first, _), (second, _) = running.read_events()

    with running.listening(running.ns.changes(0)) as heard:
        running.commit(part("a", 1), last=first, notice="a !b")
        running.commit(part("a", 1), position=b"9-9", last=second, notice="refused")
        running.commit(part("b", 1), position=first, last=second)
        told = heard()

    assert told == [b"a !b"]


def test_what_an_ended_run_no_longer_needs_goes(running: Store) -> None:
    (first, _), (second, _) = running.read_events()
    member, retry = timer_member(QUEUE, "a", 0, "n1"), "R default a 1 n1"
    running.commit(part("a", 1, ("T", 10**13, member), ("T", 10**13, retry)), last=first)
    running.command("HSET", running.ns.tasks(0), "a 1 n1", "message", "b 1 n1", "stays")

    running.commit(
        part("a", 2, ("z", member), ("z", retry), ("h", "a 1 n1"), ("z", "T never was")),
        position=first,
        last=second,
    )

    assert running.timers() == {}
    assert running.tasks() == {"b 1 n1": b"stays"}


def test_fields_and_indexes_follow_the_status(running: Store) -> None:
    (first, _), (second, _) = running.read_events()
    created = running.fields("a")["created"]

    running.commit(
        part("a", 1, ("S", "status", "SUSPENDED"), ("I", "RUNNING", "SUSPENDED", created)),
        last=first,
    )
    suspended = (running.fields("a")["status"], running.indexes("a"))
    running.commit(
        part("a", 2, ("D", "status"), ("I", "SUSPENDED", "RUNNING", created)),
        position=first,
        last=second,
    )

    assert suspended == ("SUSPENDED", ["SUSPENDED"])
    assert "status" not in running.fields("a")
    assert running.indexes("a") == ["RUNNING"]
    score = running.command("ZSCORE", running.ns.index(0, "RUNNING"), "a")
    assert int(float(score)) == int(created)


def test_an_unwritten_record_leaves_the_history_alone(running: Store) -> None:
    (first, _), _ = running.read_events()

    assert done(running.commit(part("a", 1, ("B", 1), record=None), last=first))
    assert len(running.history("a")) == 1


def test_ten_thousand_operations_of_each_kind_are_within_every_limit(real_store: Store) -> None:
    real_store.start("a")
    real_store.own()
    ((entry, _),) = real_store.read_events()
    operations: list[tuple[Any, ...]] = []
    for n in range(10_000):
        operations += [
            ("A", QUEUE, b"[1]"),
            ("T", 10**13 + n, f"T q a {n}"),
            ("z", f"T q a x{n}"),
            ("h", f"a {n} n"),
            ("E", "other", "a", b"[1]"),
        ]

    reply = real_store.commit(part("a", 1, *operations), last=entry)

    assert done(reply)
    assert len(real_store.entries()) == 10_000
    assert len(real_store.timers()) == 10_000
    assert len(real_store.events("other")) == 10_000


def test_a_large_batch_moves_between_indexes(real_store: Store) -> None:
    count = 5_000
    real_store.start_all([NewInstance(f"i{n}", "inc1", QUEUE, "flow", b"1") for n in range(count)])
    taken = real_store.own()
    parts = [part(f"i{n}", 1, ("I", "RUNNING", "COMPLETED", n)) for n in range(count)]

    real_store.commit(*parts, last=taken.last_entry)

    assert real_store.command("ZCARD", real_store.ns.index(0, "RUNNING")) == 0
    assert real_store.command("ZCARD", real_store.ns.index(0, "COMPLETED")) == count


def test_records_and_messages_pass_byte_by_byte(running: Store) -> None:
    (first, _), _ = running.read_events()
    value = '{"a":[],"n":12345678901234567890,"u":"\u00e4\\u0000%s"}'
    raw = f'["T",1,"n",[["E","inc1","e","go",[]]],[["K",{value}]],null]'
    turn = part("a", 1, ("A", QUEUE, raw.encode()), ("S", "custom", "[]"))
    turn.record = raw.encode()

    running.commit(turn, last=first)

    assert running.command("LINDEX", running.ns.history("a"), -1) == raw.encode()
    ((_, fields),) = running._raw("XRANGE", running.ns.activities(0, QUEUE), "-", "+")
    assert fields == [b"a", raw.encode()]
    assert running.fields("a")["custom"] == "[]"


def test_a_commit_drains_a_full_redis(full_store: Store) -> None:
    full_store.start("a")
    full_store.start("b")
    full_store.own()
    (first, _), (second, _) = full_store.read_events()
    kid = new_child()
    full_store.full(True)

    partial = full_store.commit(part("a", 1, ("A", QUEUE, message("n1", 0))), last=None)
    full = full_store.commit(
        part("b", 1, kid, ("T", 1, "T q b x"), ("O", b"[]")), position=b"0+", last=second
    )

    assert done(partial, full)
    assert full_store.events() == []
    assert first != second
    assert len(full_store.messages()) == len(full_store.events("kids")) == 1


def test_an_unknown_operation_is_an_error_before_anything_is_written(running: Store) -> None:
    entries = running.read_events()
    image = running.image()

    with pytest.raises(Exception, match="nil"):
        running.commit(part("a", 1, ("S", "x", "1"), ("?", "1")), last=entries[-1][0])

    assert running.image() == image


def test_ids_after_and_packed_fields() -> None:
    assert id_after(b"5-9") == b"5-10"
    assert pairs_of([b"a", b"1", b"a", b"2"]) == [("a", 1), ("a", 2)]
