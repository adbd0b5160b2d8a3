"""The history of an instance as a flat list of events, numbered as `wfq history` shows them.

Index 0 is the start of the generation; then, turn by turn, the events that the turn consumed
and what it decided. The stored form has one element a turn; `expand` is where the two meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from wfq.codec import Codec
from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.events import Action, Event, Record
from wfq.core.failures import details_from_failure
from wfq.errors import FailureDetails
from wfq.state import from_ms


class HistoryEventType(Enum):
    """What an event of a history says has happened."""

    EXECUTION_STARTED = "ExecutionStarted"
    EXECUTION_COMPLETED = "ExecutionCompleted"
    EXECUTION_FAILED = "ExecutionFailed"
    EXECUTION_TERMINATED = "ExecutionTerminated"
    EXECUTION_SUSPENDED = "ExecutionSuspended"
    EXECUTION_RESUMED = "ExecutionResumed"
    CONTINUED_AS_NEW = "ContinuedAsNew"
    TERMINATION_REQUESTED = "TerminationRequested"
    TASK_SCHEDULED = "TaskScheduled"
    TASK_COMPLETED = "TaskCompleted"
    TASK_FAILED = "TaskFailed"
    #: No worker knew the activity; the instance waited for one.
    TASK_UNKNOWN = "TaskUnknown"
    TIMER_CREATED = "TimerCreated"
    TIMER_FIRED = "TimerFired"
    EVENT_AWAITED = "EventAwaited"
    EVENT_RAISED = "EventRaised"
    EVENT_SENT = "EventSent"
    EVENT_TIMED_OUT = "EventTimedOut"
    CHILD_STARTED = "ChildStarted"
    CHILD_COMPLETED = "ChildCompleted"
    CHILD_FAILED = "ChildFailed"
    CUSTOM_STATUS_SET = "CustomStatusSet"
    PATCH_MARKED = "PatchMarked"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One event. `timestamp` is naive UTC; `turn` counts from 1, 0 is the start.

    name: of the activity, child workflow, external event, patch or workflow. value: plain JSON,
    the input, result, data or status. task_id: ties what was scheduled to its outcome. due_at:
    of a timer or timeout. target_id: the child, or the instance that an event was sent to.
    """

    index: int
    event_type: HistoryEventType
    timestamp: datetime
    turn: int
    name: str | None = None
    task_id: int | None = None
    value: Any = None
    failure_details: FailureDetails | None = None
    attempts: int | None = None
    due_at: datetime | None = None
    target_id: str | None = None
    event_id_given: str | None = None

    @property
    def event_id(self) -> int:
        """The index, in Dapr's word: what `rerun_workflow_from_event` takes."""
        return self.index

    @property
    def task_scheduled_id(self) -> int | None:
        """For an outcome, the task that it closes; None otherwise (Dapr's word)."""
        return self.task_id if self.event_type in _OUTCOMES else None

    @property
    def is_rerunnable(self) -> bool:
        """Whether it scheduled something that a rerun from here does again, with other input."""
        return self.event_type in RERUNNABLE

    def to_json(self) -> dict[str, Any]:
        """Return the event as a dict of JSON-ready values, without what it does not have."""
        document: dict[str, Any] = {
            "index": self.index,
            "type": self.event_type.value,
            "timestamp": _iso(self.timestamp),
            "turn": self.turn,
        }
        optional = {
            "name": self.name,
            "task_id": self.task_id,
            "attempts": self.attempts,
            "due_at": None if self.due_at is None else _iso(self.due_at),
            "target_id": self.target_id,
            "event_id": self.event_id_given,
            "value": self.value,
        }
        document.update({name: value for name, value in optional.items() if value is not None})
        if self.failure_details is not None:
            document["failure"] = {
                "type": self.failure_details.error_type,
                "message": self.failure_details.message,
                "stack_trace": self.failure_details.stack_trace,
            }
        return document


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds") + "Z"


_T = HistoryEventType
_OUTCOMES = frozenset(
    (
        _T.TASK_COMPLETED,
        _T.TASK_FAILED,
        _T.TIMER_FIRED,
        _T.EVENT_TIMED_OUT,
        _T.CHILD_COMPLETED,
        _T.CHILD_FAILED,
    )
)
#: What can be done again with another input.
RERUNNABLE = frozenset((_T.TASK_SCHEDULED, _T.CHILD_STARTED))


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands in the stored history: record, and position among its events
    (`action` False) or its actions."""

    record: int
    action: bool
    position: int


def places(records: Sequence[Record]) -> list[Place]:
    """Where each event of the flat history stands, by index."""
    found = [Place(0, False, 0)]
    for number in range(1, len(records)):
        record = records[number]
        for position, event in enumerate(record[ev.T_EVENTS]):
            # The start is told by the birth record, wake-ups say nothing.
            if event[0] not in (ev.STARTED, ev.WAKE_UP):
                found.append(Place(number, False, position))
        found += (Place(number, True, n) for n in range(len(record[ev.T_ACTIONS])))
    return found


def expand(records: Sequence[Record], codec: Codec) -> list[HistoryEvent]:
    """Return the flat history of `records`, birth record first."""
    return list(_expanded(records, codec))


def _expanded(records: Sequence[Record], codec: Codec) -> Iterator[HistoryEvent]:
    scheduled: dict[int, Action] = {}
    for index, place in enumerate(places(records)):
        record = records[place.record]
        if place.record == 0:
            details = _started(record, codec)
            at_ms = record[ev.B_CREATED]
        elif place.action:
            action = record[ev.T_ACTIONS][place.position]
            if action[0] in act.OPENING:
                scheduled[action[1]] = action
            details = _ACTIONS.get(action[0], _unknown)(action, codec)
            at_ms = record[ev.T_NOW]
        else:
            event = record[ev.T_EVENTS][place.position]
            details = _EVENTS.get(event[0], _unknown_event)(event, scheduled, codec)
            at_ms = record[ev.T_NOW]
        yield HistoryEvent(index=index, timestamp=from_ms(at_ms), turn=place.record, **details)


Details = dict[str, Any]


def _started(birth: Record, codec: Codec) -> Details:
    return {
        "event_type": _T.EXECUTION_STARTED,
        "name": birth[ev.B_NAME],
        "value": codec.plain(birth[ev.B_INPUT]),
    }


# --- events


def _outcome(event: Event, scheduled: dict[int, Action], codec: Codec) -> Details:
    action = scheduled.get(event[1])
    child = action is not None and action[0] == act.START_CHILD
    details: Details = {"task_id": event[1], "name": action[2] if action is not None else None}
    if len(event) > 4:
        details["attempts"] = event[4]
    if event[0] == ev.COMPLETED:
        details["event_type"] = _T.CHILD_COMPLETED if child else _T.TASK_COMPLETED
        details["value"] = codec.plain(event[3])
    else:
        details["event_type"] = _T.CHILD_FAILED if child else _T.TASK_FAILED
        details["failure_details"] = details_from_failure(event[3])
    return details


def _fired(event: Event, scheduled: dict[int, Action], _: Codec) -> Details:
    action = scheduled.get(event[1])
    if action is not None and action[0] == act.WAIT_FOR_EVENT:
        return {"event_type": _T.EVENT_TIMED_OUT, "task_id": event[1], "name": action[2]}
    return {"event_type": _T.TIMER_FIRED, "task_id": event[1]}


def _raised(event: Event, _: dict[int, Action], codec: Codec) -> Details:
    return {
        "event_type": _T.EVENT_RAISED,
        "event_id_given": event[2],
        "name": event[3],
        "value": codec.plain(event[4]),
    }


_COMMANDS = {
    ev.TERMINATE: _T.TERMINATION_REQUESTED,
    ev.SUSPEND: _T.EXECUTION_SUSPENDED,
    ev.RESUME: _T.EXECUTION_RESUMED,
}


def _commanded(event: Event, _: dict[int, Action], codec: Codec) -> Details:
    data = event[4] if len(event) > 4 and isinstance(event[4], dict) else {}
    return {
        "event_type": _COMMANDS.get(event[3], _T.TERMINATION_REQUESTED),
        "name": event[3],
        "value": codec.plain(data.get("output", data.get("reason"))),
    }


def _not_known(event: Event, scheduled: dict[int, Action], _: Codec) -> Details:
    action = scheduled.get(event[1])
    name = action[2] if action is not None else None
    return {
        "event_type": _T.TASK_UNKNOWN,
        "task_id": event[1],
        "name": name,
        "value": event[3] if len(event) > 3 else None,
    }


def _unknown_event(event: Event, _: dict[int, Action], codec: Codec) -> Details:
    return _unknown(event, codec)


_EVENTS = {
    ev.COMPLETED: _outcome,
    ev.FAILED: _outcome,
    ev.FIRED: _fired,
    ev.RAISED: _raised,
    ev.LIFECYCLE: _commanded,
    ev.UNKNOWN_ACTIVITY: _not_known,
}


# --- actions


def _scheduled_task(action: Action, codec: Codec) -> Details:
    return {
        "event_type": _T.TASK_SCHEDULED,
        "task_id": action[1],
        "name": action[2],
        "value": codec.plain(action[3]),
    }


def _created_timer(action: Action, _: Codec) -> Details:
    return {"event_type": _T.TIMER_CREATED, "task_id": action[1], "due_at": from_ms(action[2])}


def _awaited_event(action: Action, _: Codec) -> Details:
    due = action[3]
    return {
        "event_type": _T.EVENT_AWAITED,
        "task_id": action[1],
        "name": action[2],
        "due_at": from_ms(due) if due else None,
    }


def _started_child(action: Action, codec: Codec) -> Details:
    return {
        "event_type": _T.CHILD_STARTED,
        "task_id": action[1],
        "name": action[2],
        "target_id": action[3],
        "value": codec.plain(action[4]),
    }


def _sent_event(action: Action, codec: Codec) -> Details:
    return {
        "event_type": _T.EVENT_SENT,
        "target_id": action[1],
        "name": action[2],
        "value": codec.plain(action[3]),
    }


def _marked_patch(action: Action, _: Codec) -> Details:
    return {"event_type": _T.PATCH_MARKED, "name": action[1], "value": action[2]}


def _valued(event_type: HistoryEventType) -> Any:
    def details(action: Action, codec: Codec) -> Details:
        return {"event_type": event_type, "value": codec.plain(action[1])}

    return details


def _failed(action: Action, _: Codec) -> Details:
    return {
        "event_type": _T.EXECUTION_FAILED,
        "failure_details": details_from_failure(action[1]),
    }


def _unknown(action: Action, _: Codec) -> Details:
    # Written by a newer wfq of the same schema: it keeps its place in the numbering.
    return {"event_type": _T.UNKNOWN, "name": str(action[0])}


_ACTIONS = {
    act.SCHEDULE_TASK: _scheduled_task,
    act.CREATE_TIMER: _created_timer,
    act.WAIT_FOR_EVENT: _awaited_event,
    act.START_CHILD: _started_child,
    act.SEND_EVENT: _sent_event,
    act.SET_CUSTOM_STATUS: _valued(_T.CUSTOM_STATUS_SET),
    act.PATCH_MARKER: _marked_patch,
    act.CONTINUE_AS_NEW: _valued(_T.CONTINUED_AS_NEW),
    act.COMPLETE: _valued(_T.EXECUTION_COMPLETED),
    act.FAIL: _failed,
    act.TERMINATED: _valued(_T.EXECUTION_TERMINATED),
}
