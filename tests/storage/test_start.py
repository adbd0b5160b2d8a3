"""start.lua: instances come to be, once and whole."""

from __future__ import annotations

import re

import pytest

from tests.storage.kit import QUEUE, Store, part
from wfq.errors import StorageFull
from wfq.storage.instances import NewInstance, ReusePolicy, StartReply


def new(instance_id: str, inc: str = "inc1", **more: object) -> NewInstance:
    values: dict[str, object] = {"queue": QUEUE, "name": "flow", "input": b"1", **more}
    return NewInstance(instance_id, inc, **values)  # type: ignore[arg-type]


def end(store: Store, instance_id: str, inc: str = "inc1", status: str = "COMPLETED") -> None:
    """Let the owner of the default queue end an instance in its first turn."""
    created = store.fields(instance_id)["created"]
    taken = store.own("ender", present="ender")
    store.commit(
        part(instance_id, 1, ("S", "status", status), ("I", "RUNNING", status, created), inc=inc),
        token="ender",
        last=taken.last_entry,
    )


def test_a_start_leaves_a_birth_record_an_index_entry_and_a_start_event(store: Store) -> None:
    before = store.now()

    reply = store.start("a", payload=b'{"x":[]}', extra={"tags": {"k": "v"}})

    assert reply == StartReply("started", "inc1")
    (birth,) = store.history("a")
    assert before <= birth[1] <= store.now()
    assert birth[0] == "B"
    assert birth[2:] == ["inc1", 0, "flow", {"x": []}, None, {"tags": {"k": "v"}}]
    assert store.events() == [("a", ["S", "inc1", birth])]
    assert store.indexes("a") == ["RUNNING"]
    assert store.fields("a") == {
        "inc": "inc1",
        "name": "flow",
        "queue": QUEUE,
        "created": str(birth[1]),
        "tags": '{"k":"v"}',
    }


def test_no_input_is_told_from_null(store: Store) -> None:
    store.start("given", payload=b"null")
    store.start("absent", payload=None)

    assert store.history("given")[0][5:] == [None, None, None]
    assert store.history("absent")[0][5:] == [None, None, {"noinput": True}]


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        b"{}",
        b"123456789012345678901234567890",
        b"0.1234567890123456789",
        '"\u00e4\U0001f600\u2028"'.encode(),
        rb'"\u0000 \\ \" \n"',
        b"[[[[[[]]]]]]",
        b'{"n":null,"a":[{},[]]}',
        b'"%s %d {0}"',
    ],
)
def test_payloads_pass_byte_by_byte(store: Store, payload: bytes) -> None:
    store.start("a", payload=payload)

    (element,) = store.command("LRANGE", store.ns.history("a"), 0, -1)
    (_, fields), *_ = store.command("XRANGE", store.ns.events(0, QUEUE), "-", "+")
    event = next(value for value in _values(fields) if value.startswith(b'["S"'))
    assert payload in element
    assert element in event


def _values(fields: object) -> list[bytes]:
    return list(fields.values()) if isinstance(fields, dict) else list(fields)  # type: ignore[call-overload]


def test_a_start_sent_twice_is_one_instance(store: Store) -> None:
    store.start("a")
    image = store.image()

    again = store.start("a")

    assert again == StartReply("started", "inc1")
    assert store.image() == image


def test_a_start_sent_again_after_the_instance_ended_is_still_the_same_one(store: Store) -> None:
    store.start("a")
    end(store, "a")
    image = store.image()

    again = store.start("a", policy="replace")

    assert again == StartReply("started", "inc1")
    assert store.image() == image


@pytest.mark.parametrize("policy", ["error", "existing", "replace"])
def test_a_live_id_is_never_started_again(store: Store, policy: ReusePolicy) -> None:
    store.start("a")
    image = store.image()

    reply = store.start("a", "inc2", policy=policy)

    assert reply == StartReply("exists", "inc1", "")
    assert store.image() == image


@pytest.mark.parametrize("policy", ["error", "existing"])
def test_an_ended_id_is_protected_unless_it_may_be_replaced(
    store: Store, policy: ReusePolicy
) -> None:
    store.start("a")
    end(store, "a", status="FAILED")
    image = store.image()

    reply = store.start("a", "inc2", policy=policy)

    assert reply == StartReply("exists", "inc1", "FAILED")
    assert store.image() == image


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "TERMINATED"])
def test_replacing_leaves_nothing_of_the_old_run(store: Store, status: str) -> None:
    store.start("a", extra={"tags": {"old": "yes"}})
    end(store, "a", status=status)
    store.command("HSET", store.ns.cursors(0), "a", "n1 1000")
    store.command("HSET", store.ns.instance("a"), "custom", "1", "gen", "3", "inbox", "2")

    reply = store.start("a", "inc2", payload=b"2", policy="replace")

    assert reply == StartReply("started", "inc2")
    (birth,) = store.history("a")
    assert birth[2:6] == ["inc2", 0, "flow", 2]
    assert set(store.fields("a")) == {"inc", "name", "queue", "created"}
    assert store.indexes("a") == ["RUNNING"]
    assert store.command("HGETALL", store.ns.cursors(0)) in ([], {})
    assert store.events()[-1] == ("a", ["S", "inc2", birth])


def test_one_id_twice_in_one_call_starts_once(store: Store) -> None:
    replies = store.start_all([new("a"), new("a", "inc2", policy="replace"), new("a")])

    assert [r.outcome for r in replies] == ["started", "exists", "started"]
    assert [r.incarnation for r in replies] == ["inc1", "inc1", "inc1"]
    assert len(store.events()) == 1


def test_a_call_may_mix_queues_and_outcomes(store: Store) -> None:
    store.start("old")

    replies = store.start_all([new("a", queue="q1"), new("old", "other"), new("b", queue="q2")])

    assert [r.outcome for r in replies] == ["started", "exists", "started"]
    assert [i for i, _ in store.events("q1")] == ["a"]
    assert [i for i, _ in store.events("q2")] == ["b"]


def test_a_delayed_start_waits_in_the_timers(store: Store) -> None:
    due = store.now() + 1_000_000

    with store.listening(store.ns.wake(0)) as heard:
        store.start("late", due_ms=due)
        store.start("later", due_ms=due + 5)
        store.start("sooner", due_ms=due - 5)
        woken = heard()

    assert store.events() == []
    assert store.indexes("late") == ["PENDING"]
    assert store.fields("late")["status"] == "PENDING"
    assert store.timers() == {
        f"S {QUEUE} sooner inc1": due - 5,
        f"S {QUEUE} late inc1": due,
        f"S {QUEUE} later inc1": due + 5,
    }
    assert [int(float(w)) for w in woken] == [due, due - 5]


def test_a_large_call_is_within_every_limit(store: Store) -> None:
    items = [new(f"i{n}") for n in range(2_500)]
    items += [new(f"d{n}", due_ms=10**13) for n in range(2_500)]

    replies = store.start_all(items)

    assert {r.outcome for r in replies} == {"started"}
    assert [i for i, _ in store.events()] == [f"i{n}" for n in range(2_500)]
    assert len(store.timers()) == 2_500
    assert store.command("ZCARD", store.ns.index(0, "RUNNING")) == 2_500


@pytest.mark.parametrize("due_ms", [None, 10**13])
def test_a_full_redis_refuses_a_start_and_keeps_nothing_of_it(
    full_store: Store, due_ms: int | None
) -> None:
    full_store.start("before")
    end(full_store, "before")
    image = full_store.image()
    full_store.full(True)

    for instance_id in ("a", "before"):
        with pytest.raises(StorageFull):
            full_store.start(instance_id, "inc2", due_ms=due_ms, policy="replace")

    assert full_store.image() == image
    full_store.full(False)
    assert full_store.start("a").outcome == "started"


def test_every_allowed_id_stays_in_its_slot(store: Store) -> None:
    ids = ["-", ".", "a:b@c", "*".replace("*", "x") * 200, "0", "-1", "inf", "a~b~c", "hb", "S"]

    for instance_id in ids:
        assert store.start(instance_id).outcome == "started"

    tags = {re.findall(r"\{(.*?)\}", key)[0] for key in store.image()}
    assert tags == {"test:0"}
    assert [i for i, _ in store.events()] == ids
