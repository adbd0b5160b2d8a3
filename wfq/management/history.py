"""The history of an instance as clients show it: numbered events with decoded payloads.

`wfq.core.history` says what the stored records mean and numbers the events; this adds types,
plain payloads and JSON. `place_of` leads back from a number into the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from wfq.codec import Codec
from wfq.core import history as core
from wfq.core.events import T_ACTIONS, T_EVENTS, TURN, Record
from wfq.core.failures import details_from_failure
from wfq.core.steps import unfold
from wfq.errors import FailureDetails
from wfq.management.state import from_ms


class HistoryEventType(Enum):
    """What an event of a history says has happened."""

    EXECUTION_STARTED = "ExecutionStarted"
    EXECUTION_COMPLETED = "ExecutionCompleted"
    EXECUTION_FAILED = "ExecutionFailed"
    EXECUTION_TERMINATED = "ExecutionTerminated"
    EXECUTION_SUSPENDED = "ExecutionSuspended"
    EXECUTION_RESUMED = "ExecutionResumed"
    CONTINUED_AS_NEW = "ContinuedAsNew"
    TASK_SCHEDULED = "TaskScheduled"
    TASK_COMPLETED = "TaskCompleted"
    TASK_FAILED = "TaskFailed"
    #: No worker knew the activity; the instance waited for one.
    TASK_STALLED = "TaskStalled"
    TIMER_CREATED = "TimerCreated"
    TIMER_FIRED = "TimerFired"
    EVENT_AWAITED = "EventAwaited"
    EVENT_RAISED = "EventRaised"
    EVENT_SENT = "EventSent"
    EVENT_TIMED_OUT = "EventTimedOut"
    CHILD_WORKFLOW_SCHEDULED = "ChildWorkflowScheduled"
    CHILD_WORKFLOW_COMPLETED = "ChildWorkflowCompleted"
    CHILD_WORKFLOW_FAILED = "ChildWorkflowFailed"
    DETACHED_WORKFLOW_SCHEDULED = "DetachedWorkflowScheduled"
    CUSTOM_STATUS_SET = "CustomStatusSet"
    PATCH_MARKED = "PatchMarked"
    # Dapr's names of the same.
    CONTINUE_AS_NEW = CONTINUED_AS_NEW
    CHILD_WORKFLOW_INSTANCE_CREATED = CHILD_WORKFLOW_SCHEDULED
    CHILD_WORKFLOW_INSTANCE_COMPLETED = CHILD_WORKFLOW_COMPLETED
    CHILD_WORKFLOW_INSTANCE_FAILED = CHILD_WORKFLOW_FAILED
    DETACHED_WORKFLOW_INSTANCE_CREATED = DETACHED_WORKFLOW_SCHEDULED


_T = HistoryEventType
_OUTCOMES = frozenset(
    (
        _T.TASK_COMPLETED,
        _T.TASK_FAILED,
        _T.TIMER_FIRED,
        _T.EVENT_TIMED_OUT,
        _T.CHILD_WORKFLOW_COMPLETED,
        _T.CHILD_WORKFLOW_FAILED,
    )
)
_RERUNNABLE = frozenset((_T.TASK_SCHEDULED, _T.CHILD_WORKFLOW_SCHEDULED))
#: What the core calls a payload, by the event it is in.
_PAYLOADS = ("input", "result", "data", "output", "value")
_TIMES = ("fire_at_ms", "timeout_at_ms")


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One event. `timestamp` is naive UTC; `turn` counts from 1, 0 is the start.

    name: of the activity, child workflow, external event, patch or workflow. value: plain JSON,
    the input, result, data, output or status. task_id: ties what was scheduled to its outcome.
    due_at: of a timer or timeout. target_id: the child, or the instance that an event was sent
    to. details: what else is known, such as options.
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
    details: Mapping[str, Any] = field(default_factory=dict)

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
        """Whether it scheduled what a rerun from here can do again with another input."""
        return self.event_type in _RERUNNABLE

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
            **self.details,
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


def expand(records: Sequence[Record], codec: Codec) -> list[HistoryEvent]:
    """Return the events that `records` (birth record first) stand for, in order."""
    return [_shown(event, codec) for event in core.expand_history(records)]


def _shown(event: core.HistoryEvent, codec: Codec) -> HistoryEvent:
    said = dict(event.fields)
    value = next((said.pop(name) for name in _PAYLOADS if name in said), None)
    due_ms = next((said.pop(name) for name in _TIMES if name in said), None)
    failure = said.pop("failure", None)
    return HistoryEvent(
        index=event.index,
        event_type=HistoryEventType(event.type),
        timestamp=from_ms(event.time_ms),
        turn=event.turn,
        name=said.pop("name", None),
        task_id=said.pop("task_id", None),
        value=codec.plain(value),
        failure_details=None if failure is None else details_from_failure(failure),
        attempts=said.pop("attempts", None),
        due_at=None if due_ms is None else from_ms(due_ms),
        target_id=said.pop("instance_id", None),
        details=said,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands: in which record, and where among its events or its actions.

    In the birth record (record 0), `position` -1 is the start itself, others are events that it
    carries over.
    """

    record: int
    position: int
    is_action: bool = False


def place_of(records: Sequence[Record], index: int) -> Place | None:
    """Where the event of that number stands in the records, unfolded; None when there is none."""
    records = unfold(records)
    events = core.expand_history(records)
    if not 0 <= index < len(events):
        return None
    turn = events[index].turn
    offset = index - next(event.index for event in events if event.turn == turn)
    if turn == 0:
        return Place(0, offset - 1)
    record = records[turn]
    for position in range(len(record[T_EVENTS])):
        if _count(record[T_EVENTS][: position + 1], []) > offset:
            return Place(turn, position)
    offset -= _count(record[T_EVENTS], [])
    for position in range(len(record[T_ACTIONS])):
        if _count([], record[T_ACTIONS][: position + 1]) > offset:
            return Place(turn, position, is_action=True)
    raise AssertionError("an event of the history has no place in its record")


def _count(events: list[Any], actions: list[Any]) -> int:
    """How many events of the history a part of a turn makes."""
    return len(core.expand_history([[TURN, 0, "", events, actions, None]]))
