"""What the campaign's verdict lets pass, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos import ledger
from tests.chaos.powercut import LATE_S, POSTPONED_S, Window
from tests.chaos.shapes import SHAPES, Ending, Job
from tests.chaos.verdict import Verdict

_TREE = next(shape for shape in SHAPES if shape.name == "tree")
_LOST = Window(100.0, 101.0)
_MET = "child workflow 'tree-1.0.1' was not started: an instance with this id exists"


def _passes(failure: str, asked_at: float, windows: list[Window]) -> bool:
    testimony = ledger.Testimony(starts={"tree-1": [asked_at]})
    ending = Ending("FAILED", None, failure, testimony)
    unused: Any = None
    verdict = Verdict(unused, unused, [], testimony, windows)
    return verdict.may_have_met_a_stranger(Job("tree-1", _TREE, "tree", {}), ending)


@pytest.mark.parametrize("asked_at", [100.5, 100.0 - POSTPONED_S, 101.0 + LATE_S])
def test_a_parent_whose_start_was_lost_may_meet_a_child_of_its_first_life(asked_at: float) -> None:
    assert _passes(f"TaskFailedError: child workflow 'tree' failed: {_MET}", asked_at, [_LOST])


@pytest.mark.parametrize(
    ("failure", "asked_at", "windows"),
    [
        (_MET, 90.0, [_LOST]),
        (_MET, 105.0, [_LOST]),
        (_MET, 100.5, []),
        (_MET.replace("tree-1.0.1", "tree-2.0"), 100.5, [_LOST]),
        (f"{_MET} and more", 100.5, [_LOST]),
        ("", 100.5, [_LOST]),
    ],
)  # fmt: skip
def test_any_other_failure_is_a_violation(
    failure: str, asked_at: float, windows: list[Window]
) -> None:
    assert not _passes(failure, asked_at, windows)
