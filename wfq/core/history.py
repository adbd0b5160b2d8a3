"""History as users read it: one named event after the other, out of the compact records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.events import Action, Event, Record
from wfq.core.steps import unfold

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Fields = dict[str, Any]
#: Name of the event and what it says.
_Entry = tuple[str, Fields]


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One event of a history.

    index: dense, from 0; what ``--from-event`` and ``--at`` count by. time_ms: epoch ms. type:
    past tense, such as TaskScheduled. turn: number of the turn it comes from.
    fields: what it says, by name; payloads are JSON values.
    """

    index: int
    time_ms: int
    type: str
    turn: int
    fields: Fields = field(default_factory=dict)

    @property
    def time(self) -> datetime:
        """The time as an aware UTC datetime."""
        return _EPOCH + timedelta(milliseconds=self.time_ms)


def expand_history(records: Iterable[Record]) -> list[HistoryEvent]:
    """Return the events that `records` (birth record first) stand for, in order.

    Of each turn what was consumed comes first, then what was decided. ExecutionStarted carries
    the input; further types: TaskScheduled, TaskCompleted, TaskFailed, TaskStalled, TimerCreated,
    TimerFired, EventAwaited, EventRaised, EventTimedOut, EventSent, ChildWorkflowScheduled,
    ChildWorkflowCompleted, ChildWorkflowFailed, CustomStatusSet, PatchMarked, ExecutionSuspended,
    ExecutionResumed, ExecutionTerminated, ExecutionCompleted, ExecutionFailed, ContinuedAsNew.
    """
    found: list[HistoryEvent] = []
    opened: dict[int, Action] = {}
    for turn, record in enumerate(unfold(records)):
        entries = _birth(record) if record[0] == ev.BIRTH else _turn(record, opened)
        for name, fields in entries:
            found.append(HistoryEvent(len(found), record[1], name, turn, fields))
    return found


def _birth(record: Record) -> Iterator[_Entry]:
    extra = record[ev.B_EXTRA] or {}
    fields: Fields = {"name": record[ev.B_NAME]}
    if not extra.get("noinput"):
        fields["input"] = record[ev.B_INPUT]
    if record[ev.B_PARENT] is not None:
        fields["parent_instance_id"] = record[ev.B_PARENT][0]
    if record[ev.B_GEN]:
        fields["continued_as_new_count"] = record[ev.B_GEN]
    if extra.get("gens"):
        fields["earlier_generations"] = extra["gens"]
    for key in ("version", "tags"):
        if extra.get(key):
            fields[key] = extra[key]
    yield "ExecutionStarted", fields
    for event in extra.get("carried") or ():
        for name, said in _consumed(event, {}):
            yield name, {**said, "carried_over": True}


def _turn(record: Record, opened: dict[int, Action]) -> Iterator[_Entry]:
    extra = record[ev.T_EXTRA] or {}
    for event in record[ev.T_EVENTS]:
        for name, fields in _consumed(event, opened):
            if extra.get("deferred"):
                fields["deferred"] = True
            yield name, fields
    for action in record[ev.T_ACTIONS]:
        code = action[0]
        if code in act.OPENING:
            opened[action[1]] = action
        decide = _DECIDED.get(code)
        if decide is not None:
            yield decide(action)


def _consumed(event: Event, opened: dict[int, Action]) -> Iterator[_Entry]:
    code = event[0]
    if code in (ev.COMPLETED, ev.FAILED):
        yield _outcome(event, opened.get(event[1]))
    elif code == ev.FIRED:
        action = opened.get(event[1])
        if action is not None and action[0] == act.WAIT_FOR_EVENT:
            yield "EventTimedOut", {"task_id": event[1], "name": action[2]}
        else:
            yield "TimerFired", {"task_id": event[1]}
    elif code == ev.RAISED:
        fields: Fields = {"name": event[3], "data": event[4]}
        if event[2]:
            fields["event_id"] = event[2]
        yield "EventRaised", fields
    elif code == ev.UNKNOWN_ACTIVITY:
        action = opened.get(event[1])
        name = None if action is None else action[2]
        yield "TaskStalled", {"task_id": event[1], "name": name, "reason": event[3]}
    elif code == ev.LIFECYCLE and event[3] in _LIFECYCLE:
        reason = (event[4] or {}).get("reason")
        yield _LIFECYCLE[event[3]], {} if reason is None else {"reason": reason}


#: A terminate shows as the decision that follows it.
_LIFECYCLE = {ev.SUSPEND: "ExecutionSuspended", ev.RESUME: "ExecutionResumed"}


def _outcome(event: Event, action: Action | None) -> _Entry:
    fields: Fields = {"task_id": event[1]}
    child = action is not None and action[0] == act.START_CHILD
    if action is not None:
        fields["name"] = action[2]
        if child:
            fields["instance_id"] = action[3]
    failed = event[0] == ev.FAILED
    fields["failure" if failed else "result"] = event[3]
    if len(event) > 4 and event[4] is not None:
        fields["attempts"] = event[4]
        if len(event) > 5:
            fields["attempt_times"] = event[5]
    subject = "ChildWorkflow" if child else "Task"
    return f"{subject}{'Failed' if failed else 'Completed'}", fields


def _scheduled(action: Action) -> _Entry:
    _, task_id, name, payload, opts = action
    fields: Fields = {"task_id": task_id, "name": name}
    _add_options(fields, payload, opts)
    return "TaskScheduled", fields


def _child_scheduled(action: Action) -> _Entry:
    _, task_id, name, child_id, payload, opts = action
    fields: Fields = {"task_id": task_id, "name": name, "instance_id": child_id}
    _add_options(fields, payload, opts)
    return "ChildWorkflowScheduled", fields


def _detached(action: Action) -> _Entry:
    _, instance_id, name, payload, opts = action
    fields: Fields = {"name": name, "instance_id": instance_id}
    _add_options(fields, payload, opts)
    return "DetachedWorkflowScheduled", fields


_OPTION_NAMES = {
    "q": "queue",
    "r": "retry_policy",
    "t": "timeout_ms",
    "s": "schedule_to_start_timeout_ms",
    "h": "heartbeat_timeout_ms",
}


def _add_options(fields: Fields, payload: Any, opts: dict[str, Any] | None) -> None:
    opts = opts or {}
    if not opts.get("n"):
        fields["input"] = payload
    for key, name in _OPTION_NAMES.items():
        if key in opts:
            fields[name] = opts[key]


def _awaited(action: Action) -> _Entry:
    _, task_id, name, due_ms = action
    fields: Fields = {"task_id": task_id, "name": name}
    if due_ms == 0:
        fields["timed_out"] = True
    elif due_ms is not None:
        fields["timeout_at_ms"] = due_ms
    return "EventAwaited", fields


_DECIDED: dict[str, Callable[[Action], _Entry]] = {
    act.SCHEDULE_TASK: _scheduled,
    act.START_CHILD: _child_scheduled,
    act.START_DETACHED: _detached,
    act.WAIT_FOR_EVENT: _awaited,
    act.CREATE_TIMER: lambda a: ("TimerCreated", {"task_id": a[1], "fire_at_ms": a[2]}),
    act.SEND_EVENT: lambda a: ("EventSent", {"instance_id": a[1], "name": a[2], "data": a[3]}),
    act.SET_CUSTOM_STATUS: lambda a: ("CustomStatusSet", {"value": a[1]}),
    act.PATCH_MARKER: lambda a: ("PatchMarked", {"name": a[1], "patched": a[2]}),
    act.CONTINUE_AS_NEW: lambda a: ("ContinuedAsNew", {"input": a[1]}),
    act.COMPLETE: lambda a: ("ExecutionCompleted", {"output": a[1]}),
    act.FAIL: lambda a: ("ExecutionFailed", {"failure": a[1]}),
    act.TERMINATED: lambda a: ("ExecutionTerminated", {"output": a[1]}),
}
