"""Replaying saved histories with the code of today, and the difference where it does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wfq.core import actions as act
from wfq.core.actions import describe
from wfq.core.events import T_ACTIONS, Action, Record
from wfq.core.history import expand_history
from wfq.core.instance import Instance
from wfq.core.ports import TurnAborted
from wfq.core.probe import decided_now, said
from wfq.errors import NonDeterministicWorkflow
from wfq.registry import Registry
from wfq.runtime import WorkflowRuntime
from wfq.testing.histories import SavedHistory, as_histories

#: Decisions shown before and after those that differ.
_CONTEXT = 3


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of replaying one history.

    ok: the code fits. why: else, in one line. expected, found: the decision that history
    records and what the code decides in its place. task_id, event: the number of the task, and
    of the event in ``wfq history``. source: ``file:line in function``. diff: the decisions of
    that turn, recorded (``-``) against now (``+``). status: after the history, where it fits.
    kind: "fits", "nondeterminism", "no code", "hangs", or "error" when a replay is impossible.
    """

    instance_id: str
    workflow: str
    kind: str = "fits"
    why: str = ""
    expected: str = ""
    found: str = ""
    task_id: int | None = None
    event: int | None = None
    source: str = ""
    diff: tuple[str, ...] = ()
    status: str = ""
    file: str = ""

    @property
    def ok(self) -> bool:
        return self.kind == "fits"

    def explain(self) -> str:
        """Return several lines for people: which instance, where, and the difference."""
        name = f"{self.file or self.instance_id} ({self.workflow})"
        if self.ok:
            return f"{name}: fits, {self.status}"
        lines = [f"{name}: {_HEADS.get(self.kind, self.why)}"]
        if self.kind != "nondeterminism":
            lines.append(f"  {self.why}")
        else:
            place = [f"event {self.event}"] if self.event is not None else []
            place += [f"task {self.task_id}"] if self.task_id is not None else []
            if self.source:
                place.append(self.source)
            if place:
                lines.append(f"  at {', '.join(place)}")
            lines.append(f"  expected  {self.expected}")
            lines.append(f"  found     {self.found}")
        lines += [f"    {line}" for line in self.diff]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return what is known, as JSON values."""
        document: dict[str, Any] = {
            "instance_id": self.instance_id,
            "workflow": self.workflow,
            "result": self.kind,
        }
        for key in ("file", "status", "why", "expected", "found", "task_id", "event", "source"):
            value = getattr(self, key)
            if value not in ("", None):
                document[key] = value
        if self.diff:
            document["diff"] = list(self.diff)
        return document


_HEADS = {
    "nondeterminism": "the code no longer fits the history",
    "no code": "there is no code for it",
    "hangs": "the code does not come to an end",
    "error": "the history cannot be replayed",
}


def registry_of(app: WorkflowRuntime | Registry | Any) -> Registry:
    """Return the registry that is meant: of a runtime, a module with one, or itself."""
    if isinstance(app, Registry):
        return app
    if isinstance(app, WorkflowRuntime):
        return app.registry
    if isinstance(app, (str, Path)):
        from wfq.apps import load_app

        return load_app(str(app)).runtime.registry
    for value in vars(app).values() if hasattr(app, "__dict__") else ():
        if isinstance(value, WorkflowRuntime):
            return value.registry
    raise TypeError(f"{app!r:.100} is neither a WorkflowRuntime nor a module with one")


def replay(app: WorkflowRuntime | Registry | Any, history: SavedHistory) -> Replayed:
    """Run the code of today over a history, silently, and say whether it fits.

    app: a runtime, a module that has one, or the name of an app. Nothing is executed but
    workflow code: no activity runs, nothing is written.
    """
    registry = registry_of(app)
    base = Replayed(history.instance_id, history.workflow, file=history.source)
    try:
        instance = Instance.load(history.instance_id, history.records, registry)
    except NonDeterministicWorkflow as exc:
        return _misfit(base, history, registry, exc)
    except TurnAborted:
        return replace(base, kind="hangs", why="its code runs without ever waiting")
    except Exception as exc:  # a damaged record may break anything
        return replace(base, kind="error", why=f"{type(exc).__name__}: {exc}")
    if not instance.has_code:
        why = str(instance.why).replace("no worker has", "the app has no code for")
        return replace(base, kind="no code", why=f"{why}; register it")
    status = instance.status
    instance.discard()
    return replace(base, status=status)


def assert_replays(
    app: WorkflowRuntime | Registry | Any,
    histories: SavedHistory | str | Path | Iterable[SavedHistory | str | Path],
) -> list[Replayed]:
    """Replay saved histories (files, folders, values); fail with the differences.

    Raises: AssertionError, which shows every history that no longer fits; ConfigurationError
    for a file that is no history.
    """
    registry = registry_of(app)
    results = [replay(registry, history) for history in as_histories(histories)]
    wrong = [result for result in results if not result.ok]
    if wrong:
        count = f"{len(wrong)} of {len(results)} histories no longer fit the code"
        raise AssertionError("\n".join([count, *(result.explain() for result in wrong)]))
    return results


def _misfit(
    base: Replayed, history: SavedHistory, registry: Registry, exc: NonDeterministicWorkflow
) -> Replayed:
    turn = exc.turn or 0
    return replace(
        base,
        kind="nondeterminism",
        why=str(exc),
        expected=exc.expected,
        found=exc.found,
        task_id=exc.task_id,
        event=_event_of(history.records, turn, exc.expected),
        source=exc.source or "",
        diff=tuple(_difference(history, registry, turn)),
    )


def _event_of(records: list[Record], turn: int, expected: str) -> int | None:
    """The number of the recorded event that the code did not repeat; else that of the next."""
    events = expand_history(records)
    actions = records[turn][T_ACTIONS] if turn else []
    for position, action in enumerate(actions):
        if describe(action) == expected:
            decided = len(expand_history([["T", 0, "", [], actions[position:], None]]))
            last = max(event.index for event in events if event.turn == turn)
            return last - decided + 1
    later = [event.index for event in events if event.turn > turn]
    return later[0] if later else None


def _difference(history: SavedHistory, registry: Registry, turn: int) -> list[str]:
    """The decisions of one turn, recorded against now."""
    if not turn:
        return []
    recorded = [describe(action) for action in said(history.records[turn])]
    try:
        actions, waits_for = decided_now(history.instance_id, history.records, registry, turn)
        now = [describe(action) for action in actions]
    except (TurnAborted, NonDeterministicWorkflow):
        return []
    if not _ends(actions):
        now.append(f"(waits for {waits_for})")
        if not _ends(history.records[turn][T_ACTIONS]):
            recorded.append(now[-1])
    compared = difflib.unified_diff(recorded, now, n=_CONTEXT, lineterm="")
    return [line for line in compared if not line.startswith(("---", "+++", "@@"))]


def _ends(actions: list[Action]) -> bool:
    return bool(actions) and actions[-1][0] in act.TERMINAL
