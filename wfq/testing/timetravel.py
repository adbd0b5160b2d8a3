"""Going back: a workflow stopped before an event of its history, or with another past."""

from __future__ import annotations

import difflib
import linecache
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import orjson

from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.actions import describe
from wfq.core.events import B_EXTRA, B_INPUT, T_ACTIONS, T_EVENTS, Action, Event, Record
from wfq.core.failures import make_failure
from wfq.core.ports import TurnAborted
from wfq.core.probe import Probe, Stop, replay_until, said
from wfq.errors import ConfigurationError
from wfq.management.history import HistoryEvent, Place, expand, place_of
from wfq.registry import Registry
from wfq.testing.histories import SavedHistory
from wfq.testing.replaying import registry_of

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 300
_short.maxdict = _short.maxlist = _short.maxtuple = _short.maxset = 20


@dataclass(frozen=True, slots=True)
class Frame:
    """One function of the workflow. `text` is its source line, `locals` short reprs by name."""

    function: str
    file: str
    line: int
    text: str
    locals: dict[str, str]


@dataclass(frozen=True, slots=True)
class Stopped:
    """A workflow right before `event`. `frames`: innermost first; none before it began."""

    event: HistoryEvent
    frames: list[Frame]


def stop_before(
    app: Any,
    history: SavedHistory,
    index: int,
    on_halt: Callable[[list[FrameType]], None] | None = None,
) -> Stopped:
    """Replay up to an event and tell where the code stands and what its variables hold.

    index: as ``wfq history`` numbers events. on_halt: called there with the live frames,
    innermost first, such as for a debugger.
    Raises: ConfigurationError for a number that there is not, or without code;
    NonDeterministicWorkflow when the history does not fit the code up to there.
    """
    registry = registry_of(app)
    place = _place(history, index)
    event = expand(history.records, registry.codec)[index]
    frames: list[Frame] = []

    def halt(live: list[FrameType]) -> None:
        frames.extend(_frame(frame) for frame in live)
        if on_halt is not None:
            on_halt(live)

    stop = Stop(place.record, place.position, place.is_action)
    probe = replay_until(history.instance_id, history.records, registry, stop, halt)
    if not probe.has_code:
        raise _no_code(history)
    return Stopped(event, frames)


def _frame(frame: FrameType) -> Frame:
    code = frame.f_code
    text = linecache.getline(code.co_filename, frame.f_lineno).strip()
    values = {name: _repr(value) for name, value in frame.f_locals.items()}
    return Frame(code.co_qualname if hasattr(code, "co_qualname") else code.co_name,
                 code.co_filename, frame.f_lineno, text, values)  # fmt: skip


def _repr(value: object) -> str:
    try:
        return _short.repr(value)
    except Exception as exc:  # a user's __repr__
        return f"<{type(value).__name__}: its repr raised {type(exc).__name__}>"


def _place(history: SavedHistory, index: int) -> Place:
    place = place_of(history.records, index)
    if place is None:
        last = len(expand_indexes(history)) - 1
        raise ConfigurationError(
            f"{str(history)!r} has no event {index}; its history has 0 to {last}"
        )
    return place


def expand_indexes(history: SavedHistory) -> list[int]:
    """Return the numbers of the events of a history."""
    from wfq.core.history import expand_history

    return [event.index for event in expand_history(history.records)]


def _no_code(history: SavedHistory) -> ConfigurationError:
    return ConfigurationError(
        f"the app has no code for the workflow {history.workflow!r}; name another app"
    )


# -- what if


@dataclass(frozen=True, slots=True)
class WhatIf:
    """How decisions differ when one result had been another.

    before, after: what was decided from there on, in words. diff: the two compared. ending:
    where the changed run comes to.
    """

    event: HistoryEvent
    before: list[str]
    after: list[str]
    diff: list[str]
    ending: str

    @property
    def differs(self) -> bool:
        return self.before != self.after


def what_if(app: Any, history: SavedHistory, index: int, value: Any) -> WhatIf:
    """Replay a history with another result in one place, and compare the decisions.

    index: the event of a result (a completed or failed task or child, a raised event), or 0,
    the input. value: the other result, as plain JSON; an exception means that it failed. What
    the changed run asks for is answered from the history as long as it asks for the same.
    Raises: ConfigurationError for another kind of event; NonDeterministicWorkflow, PayloadError.
    """
    registry = registry_of(app)
    place = _place(history, index)
    event = expand(history.records, registry.codec)[index]
    records = orjson.loads(orjson.dumps(history.records))
    first = _change(records, place, event, value, registry)
    probe = Probe.over(history.instance_id, records, registry, first)
    if not probe.has_code:
        raise _no_code(history)
    try:
        after, ending = _play_on(probe, records, first)
    finally:
        probe.discard()
    before = [_words(action) for record in history.records[first:] for action in said(record)]
    compared = difflib.unified_diff(before, after, n=len(before) + 1, lineterm="")
    diff = [line for line in compared if not line.startswith(("---", "+++", "@@"))]
    return WhatIf(event, before, after, diff, ending)


def _change(
    records: list[Record], place: Place, event: HistoryEvent, value: Any, registry: Registry
) -> int:
    """Put another result into its place; returns the first record to be played anew."""
    failure = None
    payload: Any = None
    if isinstance(value, BaseException):
        failure = make_failure(type(value).__name__, str(value))
    else:
        payload = orjson.loads(orjson.dumps(registry.encode(value, "what-if", event.name or "")))
    if place.record == 0 and place.position < 0 and failure is None:
        records[0][B_INPUT] = payload
        extra = {k: v for k, v in (records[0][B_EXTRA] or {}).items() if k != "noinput"}
        records[0][B_EXTRA] = extra or None
        return 1
    changed = None if place.is_action or not place.record else records[place.record][T_EVENTS]
    found: Event = changed[place.position] if changed else [""]
    if found[0] == ev.RAISED and failure is None:
        found[4] = payload
    elif found[0] in (ev.COMPLETED, ev.FAILED):
        found[0] = ev.COMPLETED if failure is None else ev.FAILED
        found[3] = payload if failure is None else failure
    else:
        raise ConfigurationError(
            f"event {event.index} is {event.event_type.value}: only a result can be another; take "
            "a completed or failed task or child, a raised event, or 0 for the input"
        )
    return place.record


def _play_on(probe: Probe, records: list[Record], first: int) -> tuple[list[str], str]:
    """Answer what the code asks for from the records, as far as they know the answer."""
    opened: dict[int, Action] = {}
    for record in records[1:first]:
        _note_opened(record, opened)
    after: list[str] = []
    for record in records[first:]:
        _note_opened(record, opened)
        events: list[Event] = []
        for event in record[T_EVENTS]:
            fitting = _fitting(probe, event, opened)
            if fitting is None:
                after += _run(probe, record, events)
                return after, _ending(probe, "which the history has no answer for")
            events.append(fitting)
        after += _run(probe, record, events)
        if probe.status not in ("RUNNING", "SUSPENDED"):
            break
    return after, _ending(probe, "at the end of the history")


def _note_opened(record: Record, opened: dict[int, Action]) -> None:
    for action in record[T_ACTIONS]:
        if action[0] in act.OPENING:
            opened[action[1]] = action


def _run(probe: Probe, record: Record, events: list[Event]) -> list[str]:
    try:
        return [_words(action) for action in probe.observe(record, events)]
    except TurnAborted:
        raise ConfigurationError("the code runs without ever waiting; it was aborted") from None


def _fitting(probe: Probe, event: Event, opened: dict[int, Action]) -> Event | None:
    """The event for the task that now stands in its task's place; None when there is none."""
    if event[0] not in (ev.COMPLETED, ev.FAILED, ev.FIRED, ev.UNKNOWN_ACTIVITY):
        return event
    before, now = opened.get(event[1]), probe.open.get(event[1])
    if before is None or now is None or now.kind != before[0]:
        return None
    if now.kind != act.CREATE_TIMER and now.action[2] != before[2]:
        return None
    return [event[0], event[1], now.nonce, *event[3:]]


def _ending(probe: Probe, where: str) -> str:
    if probe.status in ("COMPLETED", "FAILED", "TERMINATED"):
        return f"it ends {probe.status}"
    if probe.status == "CONTINUED":
        return "it continues as new"
    return f"it waits for {probe.waits_for()}, {where}"


def _words(action: Action) -> str:
    """A decision with its payload."""
    at = {"A": 3, "W": 4, "M": 3, "N": 1, "K": 1}.get(action[0])
    text = describe(action)
    if at is None or action[at] is None:
        return text
    payload = orjson.dumps(action[at]).decode()
    return f"{text} {payload if len(payload) <= 200 else payload[:197] + '...'}"
