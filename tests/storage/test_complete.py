"""complete.lua: outcomes of activity attempts are never lost, and retried once."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.storage.kit import QUEUE, Store, message, part
from wfq.storage import activities
from wfq.storage.activities import (
    ActivityMessage,
    Completed,
    CompleteReply,
    Dead,
    HandBack,
    Note,
    Retry,
)
from wfq.storage.timers import schedule_to_start_member

EVENT = b'["C",0,"n1",[]]'


def completed(item: ActivityMessage, event: bytes = EVENT, task: str = "") -> Completed:
    return Completed(item.entry_id, QUEUE, item.instance_id, event, task)


def retry(item: ActivityMessage, delay_ms: int = 10**9, run: str = "inc1.0") -> Retry:
    again = message("n1", 0, attempt=2, run=run, payload=[])
    return Retry(item.entry_id, item.instance_id, 0, "n1", run, delay_ms, again)


def hand_back(item: ActivityMessage) -> HandBack:
    return HandBack(item.entry_id, item.instance_id, item.value)


def dead(item: ActivityMessage) -> Dead:
    return Dead(item.entry_id, QUEUE, item.instance_id, EVENT, "WorkerLost", item.value, 0, "n1")


@pytest.fixture
def busy(store: Store) -> Store:
    """Instance `a` lives, and its activities 0 to 4 wait to be taken."""
    prepare(store)
    return store


def prepare(store: Store, count: int = 5) -> None:
    store.start("a")
    store.own()
    ((entry, _),) = store.read_events()
    add = [("A", QUEUE, message("n1", n)) for n in range(count)]
    store.commit(part("a", 1, *add), last=entry)
    store.make_groups()


def outcomes(store: Store) -> list[Any]:
    return [event for _, event in store.events()]


def pending(store: Store) -> int:
    summary = store._raw("XPENDING", store.ns.activities(0, QUEUE), "activities")
    return int(summary[0])


def test_an_outcome_is_queued_and_its_entry_goes(busy: Store) -> None:
    items = busy.take()

    reply = busy.complete(*[completed(i, b'["C",%d,"n1",[]]' % n) for n, i in enumerate(items)])

    assert reply == CompleteReply(5, 0)
    assert outcomes(busy) == [["C", n, "n1", []] for n in range(5)]
    assert busy.entries() == []
    assert pending(busy) == 0


def test_an_outcome_sent_twice_is_queued_again_and_nothing_else(busy: Store) -> None:
    items = busy.take(count=2)
    busy.complete(completed(items[0]))

    again = busy.complete(completed(items[0]))

    assert again == CompleteReply(0, 0)
    assert outcomes(busy) == [orjson.loads(EVENT)] * 2
    assert len(busy.entries()) == 4
    assert pending(busy) == 1


def test_outcomes_go_to_the_queue_of_their_orchestrator(busy: Store) -> None:
    one, two, *_ = busy.take()

    busy.complete(
        Completed(one.entry_id, "q1", "a", EVENT), Completed(two.entry_id, "q2", "a", EVENT)
    )

    assert len(busy.events("q1")) == len(busy.events("q2")) == 1


def test_trimming_keeps_what_others_hold_and_what_nobody_was_given(busy: Store) -> None:
    """FAULTS 6.3: A holds the first entry, B completes all others it was given."""
    (held,) = busy.take("A", count=1)
    others = busy.take("B", count=3)

    busy.complete(*[completed(i) for i in others])

    assert busy.entries()[0] == held.entry_id
    assert len(busy.entries()) == 2
    (claimed,) = busy.claim("C")
    assert (claimed.entry_id, claimed.value) == (held.entry_id, held.value)
    (fresh,) = busy.take("B")
    assert fresh.entry_id == busy.entries()[1]


def test_trimming_keeps_undelivered_entries_when_nothing_is_pending(busy: Store) -> None:
    given = busy.take(count=2)

    busy.complete(*[completed(i) for i in given])

    assert pending(busy) == 0
    assert len(busy.entries()) == 3
    assert len(busy.take()) == 3


@pytest.mark.parametrize("finish_first", [0, 1, 2, 3, 4])
def test_any_order_of_completion_leaves_exactly_the_unfinished(
    busy: Store, finish_first: int
) -> None:
    items = busy.take()

    busy.complete(completed(items[finish_first]))

    rest = [i.entry_id for n, i in enumerate(items) if n != finish_first]
    assert busy.entries() == rest
    assert pending(busy) == 4


def test_a_retry_waits_in_the_timers_and_wakes_the_schedulers(busy: Store) -> None:
    (item,) = busy.take(count=1)
    before = busy.now()

    with busy.listening(busy.ns.wake(0)) as heard:
        reply = busy.complete(retry(item, 5_000))
        woken = heard()

    assert reply == CompleteReply(1, 1)
    ((member, due),) = busy.timers().items()
    assert member == f"R {QUEUE} a 0 n1"
    assert before + 5_000 <= due <= busy.now() + 5_000
    assert busy.tasks() == {"a 0 n1": message("n1", 0, attempt=2, payload=[])}
    assert outcomes(busy) == []
    assert len(busy.entries()) == 4
    assert [int(float(w)) for w in woken] == [due]


def test_a_later_retry_does_not_wake_the_schedulers(busy: Store) -> None:
    one, two = busy.take(count=2)
    busy.complete(retry(one, 5_000))

    with busy.listening(busy.ns.wake(0)) as heard:
        busy.complete(Retry(two.entry_id, "a", 1, "n1", "inc1.0", 9_000_000, b"[]"))
        assert heard() == []


def test_an_attempt_that_two_workers_held_is_retried_once(busy: Store) -> None:
    """FAULTS 6.4: a zombie fails attempt 1, and so does the worker that took it over."""
    (item,) = busy.take("zombie", count=1)
    (claimed,) = busy.claim("other")

    first = busy.complete(retry(item))
    image = busy.image()
    second = busy.complete(retry(claimed))

    assert (first, second) == (CompleteReply(1, 1), CompleteReply(0, 0))
    assert busy.image() == image


def test_a_result_beside_a_retry_is_queued_too(busy: Store) -> None:
    (item,) = busy.take("zombie", count=1)
    (claimed,) = busy.claim("other")

    busy.complete(retry(item))
    busy.complete(completed(claimed))

    assert outcomes(busy) == [orjson.loads(EVENT)]
    assert len(busy.timers()) == 1


@pytest.mark.parametrize("change", ["ended", "purged", "reborn", "continued"])
def test_a_run_that_is_over_gets_no_retry(busy: Store, change: str) -> None:
    (item,) = busy.take(count=1)
    busy.command("HSET", busy.ns.tasks(0), "hb a 0 n1", "1")
    match change:
        case "ended":
            busy.set_status("a", "FAILED")
        case "purged":
            busy.purge("a", force=True)
        case "reborn":
            busy.purge("a", force=True)
            busy.start("a", "inc2")
        case "continued":
            busy.command("HSET", busy.ns.instance("a"), "gen", "1")

    reply = busy.complete(retry(item))

    assert reply == CompleteReply(1, 0)
    assert busy.timers() == {}
    assert busy.tasks() == {}
    assert len(busy.entries()) == 4


@pytest.mark.parametrize("status", ["SUSPENDED", "STALLED"])
def test_a_run_that_rests_gets_its_retries(busy: Store, status: str) -> None:
    (item,) = busy.take(count=1)
    busy.set_status("a", status)

    assert busy.complete(retry(item)).retried == 1


def test_what_was_handed_back_is_taken_by_another_once(busy: Store) -> None:
    items = busy.take("A")

    reply = busy.complete(hand_back(items[0]))
    again = busy.complete(hand_back(items[0]))

    assert (reply.acknowledged, again.acknowledged) == (1, 0)
    (taken,) = busy.take("B")
    assert (taken.instance_id, taken.value, taken.deliveries) == ("a", items[0].value, 1)
    assert len(busy.entries()) == 5


def test_a_dead_attempt_fails_its_task_and_leaves_one_letter(busy: Store) -> None:
    (item,) = busy.take("A", count=1)
    busy.command("HSET", busy.ns.tasks(0), "hb a 0 n1", "1")

    first = busy.complete(dead(item))
    second = busy.complete(dead(item))

    assert (first.acknowledged, second.acknowledged) == (1, 0)
    assert outcomes(busy)[0] == orjson.loads(EVENT)
    ((_, fields),) = busy._raw("XRANGE", busy.ns.dead(0), "-", "+")
    letter = dict(zip(fields[::2], fields[1::2], strict=True))
    assert letter == {
        b"kind": b"activity",
        b"queue": QUEUE.encode(),
        b"id": b"a",
        b"reason": b"WorkerLost",
        b"message": item.value,
    }
    assert busy.tasks() == {}


def test_dead_letters_are_bounded(real_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activities, "DEAD_LETTERS", 10)
    prepare(real_store, 1_000)

    real_store.complete(*[dead(i) for i in real_store.take()])

    assert real_store.command("XLEN", real_store.ns.dead(0)) < 300
    assert len(real_store.events()) == 1_000


def test_a_note_is_queued_and_the_attempt_stays(busy: Store) -> None:
    (item,) = busy.take("A", count=1)

    reply = busy.complete(Note(item.entry_id, QUEUE, "a", b'["U",0,"n1","?"]'))

    assert reply == CompleteReply(0, 0)
    assert outcomes(busy) == [["U", 0, "n1", "?"]]
    assert pending(busy) == 1
    assert len(busy.entries()) == 5


def test_a_heartbeat_goes_with_the_outcome(busy: Store) -> None:
    one, two = busy.take(count=2)
    for task in ("0", "1"):
        busy.command("HSET", busy.ns.tasks(0), f"hb a {task} n1", "1")

    busy.complete(completed(one, task="0 n1"), completed(two))

    assert list(busy.tasks()) == ["hb a 1 n1"]


def test_a_start_deadline_goes_with_the_outcome(busy: Store) -> None:
    one, two = busy.take(count=2)
    members = [schedule_to_start_member(QUEUE, "a", n, "n1", QUEUE) for n in range(3)]
    for n, member in enumerate(members):
        busy.command("ZADD", busy.ns.timers(0), 10**13, member)
        busy.command("HSET", busy.ns.tasks(0), f"s a {n} n1", "5-5")
    late = Dead(two.entry_id, QUEUE, "a", EVENT, "WorkerLost", two.value, 1, "n1")

    busy.complete(completed(one, task="0 n1"), late)

    assert list(busy.timers()) == [members[2]]
    assert list(busy.tasks()) == ["s a 2 n1"]


def test_all_kinds_may_come_in_one_call(busy: Store) -> None:
    items = busy.take()

    reply = busy.complete(
        completed(items[0], b'["C",0,"n1",0]'),
        Retry(items[1].entry_id, "a", 1, "n1", "inc1.0", 10**9, b"[]"),
        dead(items[2]),
        hand_back(items[3]),
        Note(items[4].entry_id, QUEUE, "a", b'["U",4,"n1","?"]'),
    )

    assert reply == CompleteReply(4, 1)
    assert [e[0] for e in outcomes(busy)] == ["C", "C", "U"]
    assert busy.entries()[0] == items[4].entry_id
    assert len(busy.entries()) == 2


def test_a_lost_consumer_group_costs_no_outcome(busy: Store) -> None:
    items = busy.take()
    busy.command("XGROUP", "DESTROY", busy.ns.activities(0, QUEUE), "activities")

    busy.complete(completed(items[0]), retry(items[1]), hand_back(items[2]))
    busy.make_groups()

    assert outcomes(busy) == [orjson.loads(EVENT)]
    redelivered = {i.entry_id for i in busy.take()}
    assert {i.entry_id for i in items[1:]} <= redelivered


def test_a_group_made_anew_gives_out_what_was_not_acknowledged(busy: Store) -> None:
    """A retry that could not be counted leaves its entry for the next worker."""
    items = busy.take("A", count=2)
    busy.command("XGROUP", "DESTROY", busy.ns.activities(0, QUEUE), "activities")
    busy.make_groups()
    (again,) = busy.take("B", count=1)
    assert again.entry_id == items[0].entry_id

    busy.complete(retry(items[1]))

    assert items[1].entry_id in {i.entry_id for i in busy.take("B")}


def test_a_deleted_stream_costs_no_outcome(busy: Store) -> None:
    items = busy.take()
    busy.command("DEL", busy.ns.activities(0, QUEUE))

    busy.complete(completed(items[0]))

    assert outcomes(busy) == [orjson.loads(EVENT)]


def test_outcomes_drain_a_full_redis(full_store: Store) -> None:
    prepare(full_store)
    items = full_store.take()
    full_store.full(True)

    full_store.complete(completed(items[0]))
    full_store.complete(retry(items[1]))
    full_store.complete(dead(items[2]))
    full_store.complete(hand_back(items[3]))
    full_store.complete(Note(items[4].entry_id, QUEUE, "a", b'["U",4,"n1","?"]'))

    assert len(outcomes(full_store)) == 3
    assert len(full_store.timers()) == 1
    assert len(full_store.entries()) == 2


def test_ten_thousand_outcomes_are_within_every_limit(real_store: Store) -> None:
    prepare(real_store, 10_000)
    items = real_store.take(count=10_000)
    held, *rest = items
    some = [
        Retry(i.entry_id, "a", n, "n1", "inc1.0", 10**9, b"[]") for n, i in enumerate(rest[:4000])
    ]

    reply = real_store.complete(*[completed(i) for i in rest[4000:]], *some)

    assert reply == CompleteReply(9_999, 4_000)
    assert real_store.entries() == [held.entry_id]
    assert len(outcomes(real_store)) == 5_999


@pytest.mark.parametrize(
    "payload", [b"[]", b"{}", rb'"\u0000"', '"\u00e4\U0001f600"'.encode(), b"1e400"]
)
def test_payloads_pass_byte_by_byte(busy: Store, payload: bytes) -> None:
    one, two = busy.take(count=2)
    raw = b'["n1",2,1000,"default","inc1.0",["A",1,"act",%b,null],null]' % payload

    busy.complete(
        completed(one, b'["C",0,"n1",%b]' % payload),
        Retry(two.entry_id, "a", 1, "n1", "inc1.0", 0, raw),
    )
    while not busy.fire().fired:
        pass

    ((_, fields),) = busy._raw("XRANGE", busy.ns.events(0, QUEUE), "-", "+")
    assert fields == [b"a", b'["C",0,"n1",%b]' % payload]
    assert busy._raw("XREVRANGE", busy.ns.activities(0, QUEUE), "+", "-", "COUNT", 1)[0][1] == [
        b"a",
        raw,
    ]
