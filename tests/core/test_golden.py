"""Histories written by earlier versions replay for ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.core import golden
from tests.core.world import as_stored
from wfq.core.history import expand_history
from wfq.core.instance import Instance
from wfq.registry import Registry

HISTORIES = sorted(golden.FOLDER.glob("*.json"))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_history_replays(path: Path) -> None:
    saved = read(path)
    records = saved["records"]

    for length in range(1, len(records) + 1):
        Instance.load(saved["instance_id"], records[:length], golden.registry())
    instance = Instance.load(saved["instance_id"], records, golden.registry())

    assert instance.status == saved["status"]
    assert [[i, o.kind, o.nonce] for i, o in sorted(instance.open.items())] == saved["open"]
    assert instance.turns == len(records)


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_history_is_decided_again_turn_by_turn(path: Path) -> None:
    saved = read(path)
    records = saved["records"]

    for index in range(1, len(records)):
        _, now_ms, nonce, events, actions, extra = records[index]
        if extra and extra.get("deferred"):
            continue
        instance = Instance.load(saved["instance_id"], records[:index], golden.registry())
        turn = instance.apply(events, now_ms, nonce)
        assert as_stored(turn.actions) == _without_stacks(actions, as_stored(turn.actions))
        assert as_stored(turn.events) == events


def _without_stacks(actions: Any, found: Any) -> Any:
    """Return `actions` with the stack traces of `found`: they quote lines that move."""
    for action, other in zip(actions, found, strict=True):
        if action[0] == "!" and other[0] == "!":
            action[1]["stack"] = other[1]["stack"]
    return actions


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_history_loads_without_code_and_can_be_read(path: Path) -> None:
    saved = read(path)

    instance = Instance.load(saved["instance_id"], saved["records"], Registry())
    events = expand_history(saved["records"])

    assert instance.turns == len(saved["records"])
    assert events[0].type == "ExecutionStarted"
    assert events[0].fields["name"] == saved["workflow"]


def test_every_recording_is_kept() -> None:
    assert {path.stem for path in HISTORIES} >= set(golden.RECORDINGS)
