"""The checker's own reading of a history: it must agree with the engine's, and find what is wrong.

The two were written apart, so each is a check on the other.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.core import golden
from tests.core.test_random_runs import CHOICES, PROGRAMS, REGISTRY, choose, run
from tests.core.world import World
from wfq.checker.ledger import STATUS_OF, Ledger, read_records
from wfq.core.instance import Instance
from wfq.registry import Registry

HISTORIES = sorted(golden.FOLDER.glob("*.json"))


def compare(ledger: Ledger, instance: Instance) -> None:
    """The open tasks are the same; without code, the engine cannot tell about event waits."""
    assert ledger.wrong == []
    if instance.status in STATUS_OF.values():
        assert ledger.end is not None
        assert STATUS_OF[ledger.end[0]] == instance.status
        return
    assert ledger.suspended == (instance.status == "SUSPENDED")
    kinds = "ATEW" if instance.has_code else "ATW"
    assert {i: (t.kind, t.nonce) for i, t in ledger.open.items() if t.kind in kinds} == {
        i: (t.kind, t.nonce) for i, t in instance.open.items() if t.kind in kinds
    }


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_golden_histories_are_in_order_at_every_turn(path: Path) -> None:
    saved = json.loads(path.read_text())
    records, instance_id = saved["records"], saved["instance_id"]

    for length in range(1, len(records) + 1):
        instance = Instance.load(instance_id, records[:length], golden.registry())
        compare(read_records(records[:length]), instance)


def possible(world: World, event: Any) -> bool:
    """Whether the event could come about outside of a test."""
    if event[0] == "C":
        # Nobody can know the nonce of a turn that has not ended.
        return bool(event[2] != f"n{world.turns}")
    if event[0] == "F":
        # Only what has a timer can fire.
        action = world.instance.open[event[1]].action
        return bool(action[0] == "T" or action[3])
    return True


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PROGRAMS, CHOICES)
def test_random_runs_are_in_order_at_every_turn(
    program: list[list[str]], choices: list[list[tuple[int, int]]]
) -> None:
    world = World(run, program, registry=REGISTRY)
    world.start()
    inbox = 0
    for batch in choices:
        if world.status in STATUS_OF.values():
            break
        if world.instance.turns == 1:
            inbox -= world.turn(world.started()).delivered
        if batch[0] == (9, 0):
            world.reload(Registry() if world.instance.has_code else REGISTRY)
        events = [choose(world, *pick) for pick in batch]
        events = [event for event in events if possible(world, event)]
        inbox += sum(1 for event in events if event[0] == "E")
        turn = world.turn(*events)
        inbox -= turn.delivered
        ledger = read_records(world.records)
        compare(ledger, world.instance)
        if world.status in STATUS_OF.values():
            assert inbox == 0
        elif world.instance.has_code:
            assert inbox == ledger.untaken


BIRTH = ["B", 1000, "inc1", 0, "flow", None, None, None]
START = ["T", 1000, "n1", [["S", "inc1"]], [["A", 0, "act", 1, None], ["T", 1, 5000]], None]
DONE = ["T", 1001, "n2", [["C", 0, "n1", 1]], [], None]


def wrong(*records: Any) -> list[str]:
    return [f"{name} {text}" for name, text in read_records(copy.deepcopy(list(records))).wrong]


def test_a_sound_history_has_nothing_wrong() -> None:
    assert wrong(BIRTH, START, DONE) == []


@pytest.mark.parametrize(
    ("records", "invariant"),
    [
        ([], "H1"),
        ([START], "H1"),
        ([BIRTH, BIRTH], "H1"),
        ([BIRTH, START, ["T", 999, "n2", [], [], None]], "H2"),
        ([BIRTH, START, ["T", 1001, "n1", [], [], None]], "H2"),
        ([BIRTH, START, ["T", 1001, "n2", [["S", "inc1"]], [], None]], "H1"),
        ([BIRTH, ["T", 1001, "n2", [], [["A", 0, "act", 1, None]], None]], "H1"),
        ([BIRTH, START, ["T", 1001, "n2", [], [["A", 3, "act", 1, None]], None]], "H2"),
        ([BIRTH, START, DONE, ["T", 1001, "n3", [["C", 0, "n1", 1]], [], None]], "H3"),
        ([BIRTH, START, ["T", 1001, "n2", [["C", 0, "lost", 1]], [], None]], "H3"),
        ([BIRTH, START, ["T", 1001, "n2", [["F", 0, "n1"]], [], None]], "H3"),
        ([BIRTH, START, ["T", 1001, "n2", [["C", 1, "n1", 1]], [], None]], "H3"),
        ([BIRTH, START, ["T", 1001, "n2", [["X", 7, "n1", {}]], [], None]], "H3"),
        ([BIRTH, START, ["T", 1001, "n2", [["U", 7, "n1", ""]], [], None]], "H3"),
        ([BIRTH, START, ["T", 1001, "n2", [["?", 7]], [], None]], "H3"),
        ([BIRTH, START, ["T", 1001, "n2", [], [["K", 1]], None], DONE], "H1"),
        ([BIRTH, START, ["T", 1001, "n2", [], [["K", 1], ["U", 1]], None]], "H1"),
        ([BIRTH, START, ["T", 1001, "n2", [], [["N", 1, [], False]], None]], "H1"),
        (
            [BIRTH, START, ["T", 1001, "n2", [["E", "inc1", "e", "go", 1]] * 2, [], None]],
            "H7",
        ),
        (
            [
                [*BIRTH[:7], {"ids": ["e"]}],
                ["T", 1001, "n2", [["S", "inc1"], ["E", "inc1", "e", "go", 1]], [], None],
            ],
            "H7",
        ),
        (
            [
                BIRTH,
                [*START[:5], {"pos": ["default", "5-10", 3]}],
                ["T", 1001, "n2", [], [], {"pos": ["default", "5-9", 4]}],
            ],
            "A5",
        ),
    ],
)
def test_what_is_wrong_is_named(records: list[Any], invariant: str) -> None:
    assert [text.split()[0] for text in wrong(*records)][:1] == [invariant]


def test_positions_of_other_queues_are_not_compared() -> None:
    first = [*START[:5], {"pos": ["old", "5-10", 3]}]
    second = ["T", 1001, "n2", [], [], {"pos": ["new", "1-0", 0]}]

    assert wrong(BIRTH, first, second) == []
