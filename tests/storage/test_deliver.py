"""deliver.lua and the outbox: messages between partitions arrive once, in order."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from tests.storage.kit import QUEUE, Store, part
from wfq.storage import instances, outbox, partitions
from wfq.storage.adoption import kin_of
from wfq.storage.instances import NewInstance
from wfq.storage.outbox import Kin, Message
from wfq.storage.partitions import Taken

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


def kin(
    nonce: str = "n1", *, parent_inc: str = "inc1", task: int = 0, generation: int | None = 0,
    value: object = None, replace: bool = False,
) -> Message:  # fmt: skip
    """The start of the child of a task, scheduled by the turn `nonce`."""
    extra = {} if generation is None else {"pg": generation}
    parent = ["parent", parent_inc, task, nonce]
    tail = orjson.dumps([f"{nonce}.{task}", 0, "kid", value, parent, extra or None])
    taken = orjson.dumps(["X", task, nonce, {}]).decode()
    values = [
        "kid", f"{nonce}.{task}", "kid", "kids", "," + tail[1:].decode(), "parent", taken,
        parent_inc,
    ]  # fmt: skip
    return Message("C", [*values, "1"] if replace else values)


def carry(store: Store, entry_id: bytes, message: Message) -> list[str]:
    """Deliver as a forwarder does; returns the words of each try."""
    words: list[str] = []
    found: dict[bytes, Kin] = {}
    for _ in range(5):
        call = outbox.deliver(store.ns, SOURCE, 0, [(entry_id, message)], found)
        answers = store.run(call).words
        words += answers
        if words[-1] != "kin":
            break
        (stored,) = store.run(instances.fetch(store.ns, 0, [message.target]))
        assert stored is not None
        found[entry_id] = kin_of(message, stored)
    return words


def told(store: Store) -> list[list[str]]:
    entries = store._raw("XRANGE", store.ns.outbox(0), "-", "+")
    return [message.values for _, message in outbox.parse_messages(entries)]


def end(store: Store, action: list[object]) -> None:
    record = orjson.dumps(["T", 9, "k1", [], [action], None])
    store.command("RPUSH", store.ns.history("kid"), record)
    store.set_status("kid", {"K": "COMPLETED", "!": "FAILED", "Q": "TERMINATED"}[str(action[0])])


def test_a_child_that_is_scheduled_again_is_the_same_child(store: Store) -> None:
    """The parent's server has lost the first time: it lives, and learns its parent's nonce."""
    store.deliver(SOURCE, 0, (b"5-0", kin("n1")))

    assert carry(store, b"6-0", kin("n2")) == ["kin", "adopted"]
    assert store.deliver(SOURCE, 0, (b"6-0", kin("n2"))) == ["skipped"]

    assert store.fields("kid")["inc"] == "n1.0"
    assert [e for _, e in store.events("kids")][1:] == [
        ["L", "n1.0", "adopt.n2", "adopt", ["parent", "inc1", 0, "n2"]]
    ]
    assert told(store) == []


def test_what_is_for_the_second_start_reaches_the_first_child(store: Store) -> None:
    """The parent knows only the incarnation that it has asked for: it ends it by that."""
    store.deliver(SOURCE, 0, (b"5-0", kin("n1")))
    carry(store, b"6-0", kin("n2"))
    before = len(store.events("kids"))

    found = store.deliver(
        SOURCE, 0, (b"7-0", event("kid", 1, "L", "n2.0")), (b"8-0", event("kid", 2, "L", "n3.0"))
    )

    assert found == ["applied", "unknown"]
    ((_, told_it),) = store.events("kids")[before:]
    assert told_it[:2] == ["L", "n1.0"]


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_child_tells_the_parent_that_adopted_it_last_though_no_turn_has_read_of_it(
    store: Store, times: int
) -> None:
    """The turn that ends it was run before the adoption, and is committed behind it."""
    store.deliver(SOURCE, 0, (b"5-0", kin("n1")))
    store.own(queue="kids")
    entries = store.read_events(queue="kids")
    for n in range(2, 2 + times):
        carry(store, b"%d-0" % (4 + n), kin(f"n{n}"))

    pieces = outbox.outcome_pieces(
        ["parent", "inc1", 0, "n1"], b'["C",0,"n1",{"n1":"\\u2028","x":["n1"]}]'
    )
    end_it = part("kid", 1, ("f", 77, 88), ("o", *pieces), inc="n1.0")
    store.commit(end_it, last=entries[-1][0], queue="kids")

    (message,) = told(store)
    assert message[:3] == ["parent", "inc1", "T"]
    assert orjson.loads(message[3]) == ["C", 0, f"n{1 + times}", {"n1": "\u2028", "x": ["n1"]}]


@pytest.mark.parametrize("replace", [False, True])
def test_a_child_that_has_ended_is_not_run_again_but_told_again(
    store: Store, replace: bool
) -> None:
    store.deliver(SOURCE, 0, (b"5-0", kin("n1")))
    end(store, ["K", 42])

    assert carry(store, b"6-0", kin("n2", replace=replace)) == ["kin", "adopted"]

    assert told(store) == [["parent", "inc1", "T", '["C",0,"n2",42]']]
    assert store.fields("kid")["inc"] == "n1.0"


def test_the_end_of_a_child_is_told_as_it_was(store: Store) -> None:
    store.deliver(SOURCE, 0, (b"5-0", kin("n1")))
    end(store, ["!", {"type": "Boom"}])
    carry(store, b"6-0", kin("n2"))
    store.command("LSET", store.ns.history("kid"), -1, '["T",9,"k1",[],[["Q",null]],null]')
    store.set_status("kid", "TERMINATED")
    carry(store, b"7-0", kin("n3"))

    failed, terminated = (orjson.loads(values[3]) for values in told(store))
    assert failed == ["X", 0, "n2", {"type": "Boom"}]
    assert terminated[:3] == ["X", 0, "n3"]
    assert terminated[3]["type"] == "WorkflowTerminated"


@pytest.mark.parametrize(
    "other",
    [
        kin("n2", task=1),
        kin("n2", generation=1),
        kin("n2", generation=None),
        kin("n2", parent_inc="inc2"),
    ],
    ids=["another task", "another generation", "of an old release", "another incarnation"],
)
def test_an_id_of_another_task_of_the_parent_is_taken(store: Store, other: Message) -> None:
    store.deliver(SOURCE, 0, (b"5-0", kin("n1")))
    before = store.events("kids")

    assert carry(store, b"6-0", other)[-1] == "taken"

    assert [values[3] for values in told(store)] == [other.values[6]]
    assert store.events("kids") == before


@pytest.mark.parametrize("ended", [False, True])
def test_a_child_that_was_given_something_else_makes_room(store: Store, ended: bool) -> None:
    """What came before was decided otherwise: nobody wants that child's outcome any more."""
    store.deliver(SOURCE, 0, (b"5-0", kin("n1", value=1)))
    store.own("t1", queue="kids")
    if ended:
        end(store, ["K", 42])

    assert carry(store, b"6-0", kin("n2", value=2)) == ["kin", "applied"]

    assert [birth[2:6] for birth in store.history("kid")] == [["n2.0", 0, "kid", 2]]
    assert store.indexes("kid") == ["RUNNING"]
    assert "status" not in store.fields("kid")
    # The owner of a live one looks again, and hears of no loss.
    assert (store.lease("kids")["token"] == "t1") == ended
    again = store.run(
        partitions.acquire(
            store.ns, 0, "kids", token="t2", owner="w1", lease_ms=1000,
            present_token="t1", position=b"9-9" if not ended else b"0",
        )
    )  # fmt: skip
    assert isinstance(again, Taken)
    assert (again.takeovers, again.behind) == (0, False)
    assert told(store) == []


def test_an_encrypted_input_cannot_be_compared(store: Store) -> None:
    store.deliver(SOURCE, 0, (b"5-0", kin("n1", value="wfq+codec:AAAA")))

    assert carry(store, b"6-0", kin("n2", value="wfq+codec:BBBB"))[-1] == "adopted"


def test_what_was_seen_of_kin_must_still_hold(store: Store) -> None:
    store.deliver(SOURCE, 0, (b"5-0", kin("n1")))
    (stored,) = store.run(instances.fetch(store.ns, 0, ["kid"]))
    assert stored is not None
    alive = kin_of(kin("n2"), stored)
    end(store, ["K", 42])

    def deliver(found: Kin) -> list[str]:
        letters = [(b"6-0", kin("n2"))]
        return store.run(outbox.deliver(store.ns, SOURCE, 0, letters, {b"6-0": found})).words

    assert deliver(alive) == ["kin"]
    assert deliver(Kin("replace", "n0.0")) == ["kin"]
    assert told(store) == []
    assert carry(store, b"6-0", kin("n2"))[-1] == "adopted"


def test_a_damaged_child_does_not_hold_up_what_comes_behind(store: Store) -> None:
    store.deliver(SOURCE, 0, (b"5-0", kin("n1")))
    store.command("LSET", store.ns.history("kid"), 0, "nonsense")

    assert carry(store, b"6-0", kin("n2")) == ["kin", "taken"]


def test_nothing_overtakes_a_child_that_is_looked_at(store: Store) -> None:
    store.start("a")
    store.deliver(SOURCE, 0, (b"5-0", kin("n1")))
    letters = [(b"6-0", event("a", 1)), (b"6-1", kin("n2")), (b"6-2", event("a", 2))]

    words = store.deliver(SOURCE, 0, *letters)
    again = store.deliver(SOURCE, 0, *letters)

    assert words == ["applied", "kin", "waits"]
    assert again == ["skipped", "kin", "waits"]
    assert [e[2] for _, e in store.events()[1:]] == ["e1"]


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
