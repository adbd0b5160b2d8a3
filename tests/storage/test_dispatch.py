"""dispatch.lua: a fan-out larger than one commit is added piece by piece, each once."""

from __future__ import annotations

import pytest

from tests.storage.kit import QUEUE, Store, message, part
from wfq.storage import partitions
from wfq.storage.partitions import Committed


@pytest.fixture
def begun(store: Store) -> Store:
    """The commit of a turn with four activities carried one and left a cursor."""
    begin(store)
    return store


def begin(store: Store) -> None:
    store.start("a")
    store.own()
    ((entry, _),) = store.read_events()
    store.commit(part("a", 1, ("A", QUEUE, message("n1", 0)), ("U", "n1 1")), last=entry)


def dispatch(
    store: Store, cursor: str, following: str, *tasks: int, token: str = "tok"
) -> Committed:
    return store.run(
        partitions.dispatch(
            store.ns, 0, QUEUE, token=token, instance_id="a", cursor=cursor,
            next_cursor=following, messages=[(QUEUE, message("n1", n), "") for n in tasks],
        )
    )  # fmt: skip


def added(store: Store) -> list[int]:
    return [m[5][1] for _, m in store.messages()]


def cursor(store: Store) -> bytes | None:
    value: bytes | None = store.command("HGET", store.ns.cursors(0), "a")
    return value


def test_the_pieces_follow_each_other(begun: Store) -> None:
    first = dispatch(begun, "n1 1", "n1 3", 1, 2)
    between = cursor(begun)
    last = dispatch(begun, "n1 3", "", 3)

    assert (first.stale, last.stale) == ("", "")
    assert between == b"n1 3"
    assert cursor(begun) is None
    assert added(begun) == [0, 1, 2, 3]


def test_a_piece_sent_twice_is_added_once(begun: Store) -> None:
    dispatch(begun, "n1 1", "n1 3", 1, 2)

    assert dispatch(begun, "n1 1", "n1 3", 1, 2).stale == "cursor"
    assert added(begun) == [0, 1, 2]


def test_a_stale_token_adds_nothing(begun: Store) -> None:
    begun.own("next", owner="other", present="tok")

    assert dispatch(begun, "n1 1", "", 1, 2, 3).stale == "token"
    assert added(begun) == [0]


def test_the_next_owner_goes_on_at_the_cursor(begun: Store) -> None:
    dispatch(begun, "n1 1", "n1 2", 1)

    taken = begun.own("next", owner="other", present="tok")

    assert taken.cursors == {"a": "n1 2"}
    assert dispatch(begun, "n1 2", "", 2, 3, token="next").stale == ""
    assert added(begun) == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["purged", "replaced", "continued"])
def test_a_run_that_is_gone_is_not_dispatched(begun: Store, how: str) -> None:
    if how == "continued":
        begun.raise_event("a", "e1")
        ((entry, _),) = begun.read_events()
        position = begun.lease()["pos"].encode()
        birth = b'["B",1,"inc1",1,"flow",null,null,null]'
        begun.commit(part("a", 2, ("N", birth), record=None), position=position, last=entry)
    else:
        begun.set_status("a", "FAILED")
        if how == "purged":
            begun.purge("a")
        else:
            begun.start("a", "inc2", policy="replace")

    assert dispatch(begun, "n1 1", "", 1, 2, 3).stale == "cursor"
    assert added(begun) == [0]


def test_a_start_deadline_remembers_its_entry(begun: Store) -> None:
    begun.run(
        partitions.dispatch(
            begun.ns, 0, QUEUE, token="tok", instance_id="a", cursor="n1 1", next_cursor="",
            messages=[(QUEUE, message("n1", 1), ""), (QUEUE, message("n1", 2), "2 n1")],
        )
    )  # fmt: skip

    assert begun.tasks() == {"s a 2 n1": begun.entries()[2]}


def test_dispatching_drains_a_full_redis(full_store: Store) -> None:
    begin(full_store)
    full_store.full(True)

    assert dispatch(full_store, "n1 1", "n1 2", 1).stale == ""
    assert dispatch(full_store, "n1 2", "", 2, 3).stale == ""
    assert added(full_store) == [0, 1, 2, 3]


def test_a_large_piece_is_within_every_limit(real_store: Store) -> None:
    begin(real_store)

    dispatch(real_store, "n1 1", "", *range(1, 10_001))

    assert added(real_store) == list(range(10_001))
