"""A child that its parent has scheduled twice: deliver.lua and `kin_of` know it again."""

from __future__ import annotations

import orjson
import pytest

from tests.storage.kit import Store, part
from tests.storage.test_deliver import SOURCE, event
from wfq.storage import instances, outbox, partitions
from wfq.storage.adoption import kin_of
from wfq.storage.outbox import Kin, Message
from wfq.storage.partitions import Taken


def kin(
    nonce: str = "n1", *, parent_inc: str = "inc1", task: int = 0, generation: int | None = 0,
    value: object = None, replace: bool = False, lineage: str = "",
) -> Message:  # fmt: skip
    """The start of the child of a task, scheduled by the turn `nonce`."""
    extra: dict[str, object] = {} if generation is None else {"pg": generation}
    if lineage:
        extra["ln"] = lineage
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


@pytest.mark.parametrize(
    ("child", "again", "word"),
    [("l1", "l1", "adopted"), ("l1", "l2", "taken"), ("l1", "", "taken"), ("", "", "taken")],
)
def test_of_a_parent_that_is_another_incarnation_the_lineage_tells(
    store: Store, child: str, again: str, word: str
) -> None:
    store.deliver(SOURCE, 0, (b"5-0", kin("n1", lineage=child)))

    words = carry(store, b"6-0", kin("n2", parent_inc="inc2", lineage=again))

    assert words == ["kin", word]


@pytest.mark.parametrize("decided_again", [False, True])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_child_tells_the_parent_that_adopted_it_last_though_no_turn_has_read_of_it(
    store: Store, times: int, decided_again: bool
) -> None:
    """The turn that ends it was run before the adoption, and is committed behind it."""
    store.deliver(SOURCE, 0, (b"5-0", kin("n1", lineage="l")))
    store.own(queue="kids")
    entries = store.read_events(queue="kids")
    for n in range(2, 2 + times):
        inc = f"inc{n}" if decided_again else "inc1"
        carry(store, b"%d-0" % (4 + n), kin(f"n{n}", parent_inc=inc, lineage="l"))

    pieces = outbox.outcome_pieces(
        ["parent", "inc1", 0, "n1"], b'["C",0,"n1",{"n1":"\\u2028","x":["n1"]}]'
    )
    end_it = part("kid", 1, ("f", 77, 88), ("o", *pieces), inc="n1.0")
    store.commit(end_it, last=entries[-1][0], queue="kids")

    (message,) = told(store)
    assert message[:3] == ["parent", f"inc{1 + times * decided_again}", "T"]
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
