"""The outcome of one turn."""

from __future__ import annotations

from typing import Any

from wfq.core.decisions import UNSET
from wfq.core.events import TURN, Action, Event, Payload, Record

RUNNING = "RUNNING"
SUSPENDED = "SUSPENDED"
STALLED = "STALLED"
COMPLETED = "COMPLETED"
FAILED = "FAILED"
TERMINATED = "TERMINATED"
#: The generation ended with continue_as_new; `Turn.birth` begins the next.
CONTINUED = "CONTINUED"

#: Statuses in which the instance has ended for good.
FINAL = frozenset((COMPLETED, FAILED, TERMINATED))


class Turn:
    """What one turn consumed and decided; everything a commit needs.

    index: where the record goes in the history list. events: those to record, in order; what
    was dropped is not among them. actions, extra: of the record. ran: user code was run.
    ran_to_end: the generation ended in this turn.
    status_before, status: RUNNING, SUSPENDED, STALLED, COMPLETED, FAILED, TERMINATED,
    CONTINUED. stalled: why, when the status is STALLED.
    cancel_timers: (task_id, nonce) of timers set by earlier turns that are not needed any more.
    drop_tasks: (task_id, nonce, action) of activities scheduled by earlier turns that are still
    open though the generation has ended.
    When the generation has ended, timers of this very turn's actions must not be set either;
    its other actions (activities, children, events that nobody awaits) still count.
    custom: the custom status set last, or UNSET. delivered: external events that left the
    inbox: handed to a waiter, refused as duplicates, or dropped when the generation ended.
    birth: the birth record of the next generation when CONTINUED.
    children_to_terminate: (child_id, child_inc) of open children, for a recursive terminate.
    parent_event: the event for the parent instance when the status is final and there is one.
    version: the version that the instance was pinned to in this turn, or None.
    """

    __slots__ = (
        "actions",
        "birth",
        "cancel_timers",
        "children_to_terminate",
        "custom",
        "delivered",
        "drop_tasks",
        "events",
        "extra",
        "index",
        "nonce",
        "now_ms",
        "parent_event",
        "ran",
        "ran_to_end",
        "stalled",
        "status",
        "status_before",
        "version",
    )

    def __init__(self, index: int, now_ms: int, nonce: str, status: str) -> None:
        self.index = index
        self.now_ms = now_ms
        self.nonce = nonce
        self.events: list[Event] = []
        self.actions: list[Action] = []
        self.extra: dict[str, Any] | None = None
        self.ran = self.ran_to_end = False
        self.status_before = self.status = status
        self.stalled: str | None = None
        self.cancel_timers: list[tuple[int, str]] = []
        self.drop_tasks: list[tuple[int, str, Action]] = []
        self.custom: Payload = UNSET
        self.delivered = 0
        self.birth: Record | None = None
        self.children_to_terminate: list[tuple[str, str]] = []
        self.parent_event: Event | None = None
        self.version: str | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to record: every event was dropped, nothing changed."""
        return not self.events and not self.actions and self.status == self.status_before

    @property
    def ended(self) -> bool:
        """Whether the generation has ended."""
        return self.status in FINAL or self.status == CONTINUED

    def record(self) -> Record:
        """Return the history element of this turn."""
        return [TURN, self.now_ms, self.nonce, self.events, self.actions, self.extra]
