"""A history as spans: one for each activity, timer, event wait and child, from when to when."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from wfq.core.history import HistoryEvent

SpanState = Literal["done", "open", "failed", "dropped"]

#: Event types that open a span, with its kind.
_OPENS = {
    "TaskScheduled": "activity",
    "ChildWorkflowScheduled": "child",
    "TimerCreated": "timer",
    "EventAwaited": "event",
    "EventSent": "send",
    "ContinuedAsNew": "again",
}
_DONE = frozenset(("TaskCompleted", "ChildWorkflowCompleted", "TimerFired"))
_FAILED = frozenset(("TaskFailed", "ChildWorkflowFailed", "EventTimedOut"))
_ENDINGS = frozenset(("ExecutionCompleted", "ExecutionFailed", "ExecutionTerminated"))


@dataclass(slots=True)
class Span:
    """One task. Times in epoch ms; `end_ms` None while it is open.

    kind: that of a step of a graph. `dropped`: open when the instance ended. given, result,
    failure: payloads as stored. due_ms: of a timer or timeout. attempts: None where not told.
    attempt_times: when the last of several attempts began and ended, as far as that is known.
    idle_ms: since when an open one is not at work: queued, or between attempts.
    index: that of the event that opened it. target: the child, or where an event was sent to.
    """

    kind: str
    name: str
    index: int
    start_ms: int
    task_id: int | None = None
    end_ms: int | None = None
    state: SpanState = "open"
    attempts: int | None = None
    attempt_times: list[tuple[int, int]] = field(default_factory=list)
    idle_ms: int | None = None
    given: Any = None
    result: Any = None
    failure: Any = None
    due_ms: int | None = None
    target: str = ""
    queue: str = ""
    retry_policy: Any = None


@dataclass(slots=True)
class _Reading:
    spans: list[Span] = field(default_factory=list)
    by_task: dict[int, Span] = field(default_factory=dict)
    #: Event waits without an event, and events that no wait has taken, by name.
    waits: dict[str, deque[Span]] = field(default_factory=dict)
    raised: dict[str, deque[HistoryEvent]] = field(default_factory=dict)

    def take(self, event: HistoryEvent) -> None:
        kind = _OPENS.get(event.type)
        span = self.by_task.get(event.fields.get("task_id", -1))
        if kind is not None:
            self._open(kind, event)
        elif event.type == "EventRaised":
            name = _key(event)
            self.raised.setdefault(name, deque()).append(event)
            self._match(name)
        elif event.type in _DONE and span is not None:
            _close(span, "done", event)
        elif event.type in _FAILED and span is not None:
            _close(span, "failed", event)
            waiting = self.waits.get(_key(event))
            if waiting is not None and span in waiting:
                waiting.remove(span)
        elif event.type in _ENDINGS:
            for open_span in self.spans:
                if open_span.state == "open":
                    open_span.state, open_span.end_ms = "dropped", event.time_ms

    def _open(self, kind: str, event: HistoryEvent) -> None:
        said = event.fields
        span = Span(
            kind,
            str(said.get("name") or ""),
            event.index,
            event.time_ms,
            task_id=said.get("task_id"),
            given=said.get("input", said.get("data")),
            due_ms=said.get("fire_at_ms", said.get("timeout_at_ms")),
            target=str(said.get("instance_id") or ""),
            queue=str(said.get("queue") or ""),
            retry_policy=said.get("retry_policy"),
        )
        self.spans.append(span)
        if span.task_id is None:
            _close(span, "done", event)
            return
        self.by_task[span.task_id] = span
        if kind == "event":
            if said.get("timed_out"):
                _close(span, "failed", event)
            else:
                self.waits.setdefault(_key(event), deque()).append(span)
                self._match(_key(event))

    def _match(self, name: str) -> None:
        """First come, first served, on both sides."""
        waiting, raised = self.waits.get(name), self.raised.get(name)
        while waiting and raised:
            event = raised.popleft()
            span = waiting.popleft()
            span.state, span.end_ms = "done", max(event.time_ms, span.start_ms)
            span.result = event.fields.get("data")


def spans_of(events: Iterable[HistoryEvent]) -> list[Span]:
    """Return the spans of a history (`wfq.core.history`), in the order in which they began."""
    reading = _Reading()
    for event in events:
        reading.take(event)
    return reading.spans


def _key(event: HistoryEvent) -> str:
    # Event names match in any case.
    return str(event.fields.get("name") or "").casefold()


def _close(span: Span, state: SpanState, event: HistoryEvent) -> None:
    span.state = state
    span.end_ms = event.time_ms
    span.attempts = event.fields.get("attempts")
    span.attempt_times = [(began, ended) for began, ended in event.fields.get("attempt_times", ())]
    if "result" in event.fields:
        span.result = event.fields["result"]
    span.failure = event.fields.get("failure")
