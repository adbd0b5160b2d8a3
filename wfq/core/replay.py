"""Comparing what code decides now with what history says it decided."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from wfq.core.actions import (
    CONTINUE_AS_NEW,
    CREATE_TIMER,
    PATCH_MARKER,
    SEND_EVENT,
    SET_CUSTOM_STATUS,
    START_DETACHED,
    TERMINAL,
    WAIT_FOR_EVENT,
    describe,
)
from wfq.core.events import Action
from wfq.errors import NonDeterministicWorkflow

#: Recorded actions that code may leave out or add without breaking its history.
LENIENT = frozenset((SET_CUSTOM_STATUS, PATCH_MARKER))


class RecordedTurn:
    """The actions that history records for the turn being replayed, consumed in order.

    steps: how many events, and actions, came before each further step of the turn.
    """

    __slots__ = ("_actions", "_index", "_next", "steps")

    def __init__(self, actions: list[Action], index: int, steps: Sequence[int] = ()) -> None:
        self.steps = steps
        self._actions = actions
        self._index = index
        self._next = 0

    def match(self, action: Action) -> Action:
        """Return the recorded action that `action` repeats; it is the one that counts.

        Raises: NonDeterministicWorkflow when history says something else.
        """
        recorded = self._peek()
        if recorded is None or not is_same(recorded, action):
            raise self._mismatch(recorded, describe(action), _task_id(recorded, action))
        self._next += 1
        return recorded

    def take_patch(self, name: str) -> bool:
        """Return the recorded answer to ``is_patched(name)``; False where there is none."""
        for position in range(self._next, len(self._actions)):
            action = self._actions[position]
            if action[0] == PATCH_MARKER and action[1] == name:
                return bool(action[2])
            if action[0] not in LENIENT:
                break
        return False

    def finish(self, state: str, source: str | None) -> None:
        """Check that every recorded action was repeated; `state` says where the code is now.

        Raises: NonDeterministicWorkflow when history has more.
        """
        recorded = self._peek()
        if recorded is not None:
            raise self._mismatch(recorded, state, _task_id(recorded, recorded), source)

    def _peek(self) -> Action | None:
        actions = self._actions
        while self._next < len(actions):
            action = actions[self._next]
            if action[0] not in LENIENT:
                return action
            self._next += 1
        return None

    def _mismatch(
        self, recorded: Action | None, found: str, task_id: int | None, source: str | None = None
    ) -> NonDeterministicWorkflow:
        expected = "no further action in this turn" if recorded is None else describe(recorded)
        source = source or source_of_caller()
        where = f" at {source}" if source else ""
        return NonDeterministicWorkflow(
            f"the code no longer fits the history: turn {self._index} recorded {expected}, "
            f"the code{where} now decides {found}; deploy code that fits, or guard the change "
            "with ctx.is_patched()",
            expected=expected,
            found=found,
            task_id=task_id,
            turn=self._index,
            source=source,
        )


def is_same(recorded: Action, action: Action) -> bool:
    code = recorded[0]
    if code != action[0]:
        return False
    if code in TERMINAL:
        return True
    if code == SEND_EVENT:
        return bool(recorded[1] == action[1] and recorded[2] == action[2])
    if code == START_DETACHED:
        return bool(recorded[2] == action[2])
    if recorded[1] != action[1]:
        return False
    if code == CREATE_TIMER:
        return True
    if code == WAIT_FOR_EVENT:
        return bool(recorded[2].casefold() == action[2].casefold())
    return bool(recorded[2] == action[2])


def _task_id(recorded: Action | None, action: Action) -> int | None:
    for item in (recorded, action):
        if item is not None and len(item) > 1 and item[0] != CONTINUE_AS_NEW:
            value = item[1]
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return None


def source_of_caller() -> str | None:
    """Return ``file:line in function`` of the user code that is running now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_core(frame):
        frame = frame.f_back
    return None if frame is None else _location(frame)


def source_of_code(code: Any) -> str | None:
    """Return ``file:line in function`` where a suspended generator or coroutine waits."""
    found = None
    while code is not None:
        frame = getattr(code, "gi_frame", None) or getattr(code, "cr_frame", None)
        if frame is None or is_core(frame):
            break
        found = _location(frame)
        code = getattr(code, "gi_yieldfrom", None) or getattr(code, "cr_await", None)
    return found


def _location(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def is_core(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("wfq.")
