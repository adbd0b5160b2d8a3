"""The short ways in which parts of commits are written say what the long way says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import orjson
import pytest

from tests.core.world import INC, START_MS, registry_of
from wfq.core.events import T_EXTRA
from wfq.core.instance import Instance
from wfq.core.turn import Turn
from wfq.storage.keys import Namespace
from wfq_workers.orchestrating.commits import CommitWriter, Draft

POSITION = ["default", "7-1", 3]
PARENT = ["order-6", "inc0", 4, "n9"]


class Inline:
    """As an orchestrator with an inline activity that returns what it is given."""

    names = frozenset(("inline",))

    def __init__(self) -> None:
        self.here: set[int] = set()

    def bring(self, turn: Turn, actions: list[Any], asked: int) -> list[Any]:
        done = [a for a in actions[asked:] if a[0] == "A" and a[2] in self.names]
        self.here.update(action[1] for action in done)
        return [["C", action[1], turn.nonce, action[3]] for action in done]


def nothing(ctx: Any) -> str:
    return "done"


def steps(ctx: Any) -> Any:
    for n in range(3):
        yield ctx.call_activity("inline", input=n)
    return [1, "two"]


def leaves_one(ctx: Any) -> Any:
    yield ctx.call_activity("inline", input=1)
    ctx.call_activity("inline", input=2)
    ctx.call_activity("ordinary", input=3, queue="elsewhere")


def leaves_a_timer(ctx: Any) -> Any:
    yield ctx.call_activity("inline", input=1)
    ctx.create_timer(timedelta(seconds=5))


def shows(ctx: Any) -> None:
    ctx.set_custom_status("nearly")


def fails(ctx: Any) -> Any:
    yield ctx.call_activity("inline", input=1)
    raise ValueError("no")


def again(ctx: Any) -> None:
    ctx.continue_as_new(1)


def waits(ctx: Any) -> Any:
    yield ctx.call_activity("inline", input=1)
    yield ctx.call_activity("ordinary", input=2)


def two_at_once(ctx: Any) -> Any:
    ctx.call_activity("ordinary", input=1)
    yield ctx.call_activity("inline", input=2)
    yield ctx.call_activity("ordinary", input=3)


def parts_of(
    function: Callable[..., Any], parent: list[Any] | None = None, **flags: Any
) -> tuple[Turn, Draft, Draft]:
    """The first turn of a workflow: its part, and that where its entries stay in the stream."""
    birth = ["B", START_MS, INC, 0, function.__name__, None, parent, {"noinput": True}]
    instance = Instance.load("order-7", [birth], registry_of(function))
    inline = Inline()
    turn = instance.apply([["S", INC]], START_MS + 5, "n1", inline)
    for name, value in flags.items():
        setattr(turn, name, value)
    writer = CommitWriter(Namespace(), 0, "default", most_bytes=1 << 20)

    def draft(position: list[Any] | None) -> Draft:
        found = writer.draft(
            instance, turn, turns_before=1, nonce="n1", created=START_MS - 1,
            position=position, inline=inline.here,
        )  # fmt: skip
        assert found is not None
        return found

    return turn, draft(None), draft(POSITION)


@pytest.mark.parametrize("parent", [None, PARENT])
@pytest.mark.parametrize(
    ("function", "plain_end"),
    [
        (nothing, True), (steps, True), (leaves_one, True), (leaves_a_timer, True), (shows, False),
        (fails, False), (again, False), (waits, False), (two_at_once, False),
    ],
)  # fmt: skip
def test_a_part_says_the_same_whichever_way_it_was_written(
    function: Callable[..., Any], plain_end: bool, parent: list[Any] | None
) -> None:
    turn, short, long = parts_of(function, parent)

    assert turn.is_plain_end == (plain_end and parent is None)
    _assert_same(short, long)


@pytest.mark.parametrize(
    "flags",
    [
        {"cancel_timers": [(3, "n0")]},
        {"drop_tasks": [(3, "n0", ["A", 3, "x", None, {"r": [], "s": 5}])]},
        {"delivered": 2},
        {"version": "v2"},
        {"has_code_again": True},
        {"status_before": "SUSPENDED"},
        {"status_before": "STALLED"},
    ],
)
def test_an_end_that_has_more_to_tell_tells_it(flags: dict[str, Any]) -> None:
    turn, short, long = parts_of(nothing, **flags)

    assert not turn.is_plain_end
    assert len(short.letters) > 1 or short.letters == "F"
    _assert_same(short, long)


def test_what_was_run_here_is_not_sent_to_a_worker_and_the_rest_is() -> None:
    _, ends, _ = parts_of(steps)
    _, leaves, _ = parts_of(leaves_one)

    assert (ends.letters, ends.operations) == ("f", [START_MS - 1, START_MS + 5])
    assert leaves.letters == "AAf"
    sent = [orjson.loads(cast(bytes, message))[5][1] for message in leaves.operations[1:4:2]]
    assert sent == [1, 2]


def _assert_same(short: Draft, long: Draft) -> None:
    assert (short.instance_id, short.incarnation) == (long.instance_id, long.incarnation)
    assert (short.turns_before, short.ended) == (long.turns_before, long.ended)
    assert (short.rest, short.cursor) == (long.rest, long.cursor)
    assert short.letters == long.letters
    # The entries that stay are told in the record; of the next generation in its birth.
    assert [_without(one) for one in short.operations] == [_without(o) for o in long.operations]
    assert bool(short.record) == bool(long.record)
    if short.record:
        record, other = orjson.loads(short.record), orjson.loads(long.record)
        assert record[:T_EXTRA] == other[:T_EXTRA]
        position = (other[T_EXTRA] or {}).pop("pos")
        assert position == POSITION
        assert (record[T_EXTRA] or {}) == other[T_EXTRA]


def _without(value: Any) -> Any:
    """An operand without the position, where it is in it."""
    text = orjson.dumps(POSITION).decode()
    if isinstance(value, bytes):
        value = value.decode()
    return (
        value.replace(f'"pos":{text}', "").replace(",}", "}") if isinstance(value, str) else value
    )
