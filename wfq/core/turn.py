"""The outcome of one turn."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, Protocol

from wfq.core.decisions import UNSET
from wfq.core.events import STEPS, TURN, Action, Event, Payload, Record

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
    CONTINUED. stalled: why, when the status is STALLED. lacks_code: why it waits, while it is
    given time to find code before it is STALLED. look_again_ms: when to wake it meanwhile.
    has_code_again: the first turn with code after some without.
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
    steps: where the turn went on with results of its own tasks (see `wfq.core.steps`).
    """

    # Defaults of the class instead of slots: most turns set only a few of these, and one is
    # made for every turn.
    actions: list[Action]
    extra: dict[str, Any] | None = None
    ran = False
    ran_to_end = False
    stalled: str | None = None
    lacks_code: str | None = None
    look_again_ms = 0
    has_code_again = False
    cancel_timers: Sequence[tuple[int, str]] = ()
    drop_tasks: Sequence[tuple[int, str, Action]] = ()
    custom: Payload = UNSET
    delivered = 0
    birth: Record | None = None
    children_to_terminate: Sequence[tuple[str, str]] = ()
    parent_event: Event | None = None
    version: str | None = None
    steps: list[int] | None = None
    #: Known to be plain, without asking `is_plain`; most turns are.
    plain = False

    def __init__(self, index: int, now_ms: int, nonce: str, status: str) -> None:
        self.index = index
        self.now_ms = now_ms
        self.nonce = nonce
        self.status_before = self.status = status
        self.events: list[Event] = []

    @property
    def is_plain(self) -> bool:
        """Whether events and actions are all there is to it, of an instance that goes on."""
        return (
            self.status == self.status_before == RUNNING
            and self.extra is None
            and self.custom is UNSET
            and not (self.cancel_timers or self.delivered or self.has_code_again)
        )

    @property
    def is_plain_end(self) -> bool:
        """Whether it is COMPLETED, and there is nothing to undo or to tell anybody."""
        return (
            self.status == COMPLETED
            and self.status_before == RUNNING
            and self.extra is None
            and self.version is None
            and self.parent_event is None
            and self.custom is UNSET
            and not (self.cancel_timers or self.drop_tasks or self.delivered or self.has_code_again)
        )

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
        extra = self.extra
        if self.steps is not None:
            extra = {**(extra or {}), STEPS: self.steps}
        return [TURN, self.now_ms, self.nonce, self.events, self.actions, extra]


class More(Protocol):
    """Brings results of what a turn has decided while it is still open.

    names: the activities of which it knows results.
    """

    @property
    def names(self) -> Container[str]: ...

    def bring(self, turn: Turn, actions: list[Action], asked: int) -> list[Event] | None:
        """Events for the turn's `actions` from number `asked` on; nothing ends the turn."""
