"""deliver.lua and the outbox: messages between partitions arrive once, in order."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from tests.storage.kit import QUEUE, Store, part
from wfq.storage import outbox
from wfq.storage.instances import NewInstance
from wfq.storage.outbox import Message

SOURCE = 7


@pytest.fixture
def wide(redis_url: str) -> Iterator[Store]:
    """A store of eight partitions."""
    opened = Store(redis_url, partitions=8)
    yield opened
    opened.close()


def event(target: str, number: int, form: str = "E", inc: str = "") -> Message:
    if form == "T":
        return Message("E", [target, inc, "T", f'["C",{number},"n1",[]]'])
    return Message("E", [target, inc, form, f',"e{number}","go",[]]'])


def child(
    child_id: str = "kid", inc: str = "n1.0", parent: str = "parent", *, replace: bool = False
) -> Message:
    birth = f',"{inc}",0,"kid",[],["{parent}","inc1",0,"n1"],null]'
    values = [child_id, inc, "kid", "kids", birth, parent, '["X",0,"n1",{}]', "inc1"]
    return Message("C", [*values, "1"] if replace else values)


def test_events_commands_and_outcomes_reach_a_live_instance(store: Store) -> None:
    store.start("a")

    words = store.deliver(
        SOURCE,
        0,
        (b"5-0", event("a", 1)),
        (b"5-1", event("a", 2, "L", "inc1")),
        (b"6-0", event("a", 3, "T", "inc1")),
    )

    assert words == ["applied"] * 3
    assert [e for _, e in store.events()][1:] == [
        ["E", "inc1", "e1", "go", []],
        ["L", "inc1", "e2", "go", []],
        ["C", 3, "n1", []],
    ]
    assert store.fields("a")["inbox"] == "1"


def test_an_instance_that_is_gone_ended_or_another_gets_nothing(store: Store) -> None:
    store.start("a")
    store.start("done")
    store.set_status("done", "FAILED")
    before = store.events()

    words = store.deliver(
        SOURCE,
        0,
        (b"5-0", event("nobody", 1)),
        (b"5-1", event("a", 2, "T", "inc0")),
        (b"5-2", event("done", 3)),
    )

    assert words == ["unknown", "unknown", "finished"]
    assert store.events() == before


def test_a_message_is_applied_once_however_often_it_is_sent(store: Store) -> None:
    store.start("a")
    first = [(b"5-0", event("a", 1)), (b"5-1", event("a", 2))]
    store.deliver(SOURCE, 0, *first)
    image = store.image()

    again = store.deliver(SOURCE, 0, *first)
    overlapping = store.deliver(SOURCE, 0, *first, (b"5-2", event("a", 3)))

    assert again == ["skipped", "skipped"]
    assert overlapping == ["skipped", "skipped", "applied"]
    assert [e[2] for _, e in store.events()[1:]] == ["e1", "e2", "e3"]
    assert store.image() != image


def test_a_message_that_comes_out_of_order_is_too_late(store: Store) -> None:
    store.start("a")

    words = store.deliver(SOURCE, 0, (b"9-0", event("a", 1)), (b"8-5", event("a", 2)))

    assert words == ["applied", "skipped"]
    assert store.deliver(SOURCE, 0, (b"8-9", event("a", 3)), (b"10-0", event("a", 4))) == [
        "skipped",
        "applied",
    ]


def test_sources_are_counted_apart(store: Store) -> None:
    store.start("a")

    assert store.deliver(1, 0, (b"9-0", event("a", 1))) == ["applied"]
    assert store.deliver(2, 0, (b"5-0", event("a", 2))) == ["applied"]


def test_large_sequence_numbers_keep_their_order(store: Store) -> None:
    store.start("a")
    ids = [b"1795332253123-9", b"1795332253123-10", b"1795332253123-100", b"1795332253124-0"]

    for n, entry_id in enumerate(ids):
        assert store.deliver(SOURCE, 0, (entry_id, event("a", n))) == ["applied"]
        assert store.deliver(SOURCE, 0, (entry_id, event("a", n))) == ["skipped"]


def test_a_child_is_born_by_the_clock_of_its_partition(store: Store) -> None:
    before = store.now()

    assert store.deliver(SOURCE, 0, (b"5-0", child())) == ["applied"]

    (birth,) = store.history("kid")
    assert before <= birth[1] <= store.now()
    assert birth[2:] == ["n1.0", 0, "kid", [], ["parent", "inc1", 0, "n1"], None]
    assert store.events("kids") == [("kid", ["S", "n1.0", birth])]
    assert store.indexes("kid") == ["RUNNING"]
    assert store.fields("kid") == {
        "inc": "n1.0", "name": "kid", "queue": "kids", "created": str(birth[1]), "parent": "parent",
    }  # fmt: skip


def test_a_finished_and_purged_child_does_not_run_again(store: Store) -> None:
    """FAULTS 6.8: the forwarder stopped after sending, and sends again much later."""
    store.deliver(SOURCE, 0, (b"5-0", child()))
    store.set_status("kid", "COMPLETED")
    store.purge("kid")

    assert store.deliver(SOURCE, 0, (b"5-0", child())) == ["skipped"]
    assert store.read("kid") is None


@pytest.mark.parametrize("status", ["", "COMPLETED"])
def test_a_taken_id_fails_the_parents_task_in_the_same_step(store: Store, status: str) -> None:
    store.start("kid", "earlier")
    if status:
        store.set_status("kid", status)

    words = store.deliver(SOURCE, 0, (b"5-0", child()))
    again = store.deliver(SOURCE, 0, (b"5-0", child()))

    assert (words, again) == (["taken"], ["skipped"])
    ((_, message),) = outbox.parse_messages(store._raw("XRANGE", store.ns.outbox(0), "-", "+"))
    assert message == Message("E", ["parent", "inc1", "T", '["X",0,"n1",{}]'])
    assert store.fields("kid")["inc"] == "earlier"


def test_a_retried_child_may_replace_an_ended_instance_but_no_live_one(store: Store) -> None:
    store.start("kid", "earlier", extra={"tags": {"a": "b"}})
    live = store.deliver(SOURCE, 0, (b"5-0", child(replace=True)))
    store.set_status("kid", "FAILED")
    ended = store.deliver(SOURCE, 0, (b"5-1", child(replace=True)))

    assert (live, ended) == (["taken"], ["applied"])
    assert store.indexes("kid") == ["RUNNING"]
    assert "tags" not in store.fields("kid")
    assert [b[2] for b in store.history("kid")] == ["n1.0"]


def test_the_same_child_again_under_another_number_is_left_alone(store: Store) -> None:
    store.deliver(SOURCE, 0, (b"5-0", child()))

    assert store.deliver(SOURCE, 0, (b"5-1", child())) == ["skipped"]
    assert len(store.events("kids")) == 1


def test_messages_move_on_a_full_redis(full_store: Store) -> None:
    full_store.start("a")
    full_store.full(True)

    words = full_store.deliver(SOURCE, 0, (b"5-0", event("a", 1)), (b"5-1", child()))

    assert words == ["applied", "applied"]


def test_a_commit_and_a_carrier_bring_a_message_to_another_partition(wide: Store) -> None:
    source, target = wide.ns.partition_of("a"), wide.ns.partition_of("b")
    assert source != target
    wide.start_all([_new("a")], source)
    wide.start_all([_new("b")], target)
    wide.own(partition=source)
    ((entry, _),) = wide.read_events(partition=source)
    sent = [Message("E", ["b", "", "E", f',"e{n}","go",{{"x":[]}}]']) for n in range(3)]
    wide.commit(part("a", 1, *[("O", m.encode()) for m in sent]), last=entry, partition=source)

    messages = outbox.parse_messages(wide._raw(*outbox.read_command(wide.ns, source)))
    words = wide.deliver(source, target, *messages)
    wide.command(*outbox.trim_command(wide.ns, source, [e for e, _ in messages]))

    assert words == ["applied"] * 3
    assert [e[2] for _, e in wide.events(partition=target)[1:]] == ["e0", "e1", "e2"]
    assert wide._raw(*outbox.read_command(wide.ns, source)) == []


def _new(instance_id: str) -> NewInstance:
    return NewInstance(instance_id, "inc1", QUEUE, "flow", b"1")


def test_two_carriers_at_once_deliver_once(wide: Store) -> None:
    source, target = wide.ns.partition_of("a"), wide.ns.partition_of("b")
    wide.start_all([_new("b")], target)
    for n in range(4):
        wide.command("XADD", wide.ns.outbox(source), "*", "m", event("b", n).encode())
    read = outbox.read_command(wide.ns, source)
    slow, fast = (outbox.parse_messages(wide._raw(*read)) for _ in range(2))

    wide.deliver(source, target, *fast)
    wide.command(*outbox.trim_command(wide.ns, source, [e for e, _ in fast]))
    wide.command("XADD", wide.ns.outbox(source), "*", "m", event("b", 4).encode())
    late = wide.deliver(source, target, *slow)
    rest = outbox.parse_messages(wide._raw(*read))
    wide.deliver(source, target, *rest)

    assert late == ["skipped"] * 4
    assert [e[2] for _, e in wide.events(partition=target)[1:]] == [f"e{n}" for n in range(5)]


def test_messages_survive_their_encoding() -> None:
    message = Message("E", ["a", "", "E", ',"e","go",{"u":"\u00e4\\u0000","l":[]}]'])

    assert Message.decode(message.encode()) == message
    assert message.target == "a"
    assert orjson.loads(message.encode())[0] == "E"
