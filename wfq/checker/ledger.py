"""What the records of one generation say: its open tasks, and whether they are in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.events import Action, Event, Record
from wfq.core.steps import steps_of

#: The status that each terminal action leads to.
STATUS_OF = {act.COMPLETE: "COMPLETED", act.FAIL: "FAILED", act.TERMINATED: "TERMINATED"}
#: The kinds of task that an event may resolve.
_RESOLVES = {ev.COMPLETED: "AW", ev.FAILED: "AW", ev.FIRED: "TE"}
#: Event ids remembered for deduplication (`wfq.core.ports.Limits`).
RECENT = 1_000


@dataclass(slots=True)
class Open:
    """An open task: as in `wfq.core.opentask`, without code."""

    task_id: int
    kind: str
    nonce: str
    action: Action
    since_ms: int

    @property
    def due_ms(self) -> int | None:
        """When its timer or timeout is due; None when it has none."""
        if self.kind == act.CREATE_TIMER:
            return int(self.action[2])
        if self.kind == act.WAIT_FOR_EVENT and self.action[3]:
            return int(self.action[3])
        return None

    @property
    def child_inc(self) -> str:
        return f"{self.nonce}.{self.task_id}"


@dataclass(slots=True)
class Ledger:
    """The state of one generation as its records tell it; `wrong` lists (invariant, text)."""

    wrong: list[tuple[str, str]] = field(default_factory=list)
    open: dict[int, Open] = field(default_factory=dict)
    begun: bool = False
    suspended: bool = False
    #: Whether the last turn ran no code, so that events may be held back.
    deferred: bool = False
    #: The terminal action of the last turn.
    end: Action | None = None
    #: External events that nobody has taken, those that are held back included.
    untaken: int = 0
    last_ms: int = 0
    #: Task ids that were scheduled in this generation, with their nonces.
    scheduled: dict[int, str] = field(default_factory=dict)
    #: Queue, entry and field up to which the last partial commit has consumed the stream.
    position: tuple[str, tuple[int, int], int] | None = None

    #: Activities by the nonce of their turn, in order.
    activities: dict[str, list[int]] = field(default_factory=dict)

    @property
    def blocked(self) -> bool:
        """Whether events may have been recorded without being delivered."""
        return self.suspended or self.deferred


def read_records(records: list[Record]) -> Ledger:
    """Return the ledger of a birth record and its turns."""
    reader = _Reader()
    birth = records[0] if records else None
    if not isinstance(birth, list) or len(birth) < 8 or birth[0] != ev.BIRTH:
        reader.ledger.wrong.append(("H1", "the history does not begin with a birth record"))
        return reader.ledger
    reader.birth(birth)
    for index, record in enumerate(records[1:], 1):
        if not isinstance(record, list) or len(record) < 6 or record[0] != ev.TURN:
            reader.blame("H1", f"record {index} is no turn")
            return reader.ledger
        reader.turn(index, record)
    return reader.ledger


class _Reader:
    """Walks over the records of one generation.

    As the engine does, it holds back what comes while the instance is suspended or has no code,
    and delivers that in its order once code runs again. What it cannot know is when, within a
    turn, the code acted; it need not, since waits and events match first in, first out.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._next_id = 0
        self._nonces: set[str] = set()
        self._index = 0
        self._recent: dict[str, None] = {}
        self._commands: list[Event] = []
        self._waiters: dict[str, deque[Open]] = {}
        self._kept: dict[str, int] = {}
        self._held: list[tuple[Event, Open | None]] = []
        #: Event waits that an event has closed. Without code, the engine does not know of it,
        #: and lets a timeout that was on its way close them again.
        self._taken: dict[int, str] = {}
        self._kinds: dict[int, str] = {}

    def blame(self, invariant: str, text: str) -> None:
        self.ledger.wrong.append((invariant, text))

    def birth(self, record: Record) -> None:
        extra = record[ev.B_EXTRA] or {}
        # The turns of a rerun are those of an earlier run, with their times.
        self.ledger.last_ms = 0 if "rerun_of" in extra else record[ev.B_CREATED]
        self._recent = dict.fromkeys(extra.get("ids") or ())
        self._position(extra.get("pos"))
        for event in extra.get("carried") or ():
            if event[0] == ev.RAISED:
                self._keep(event[3])
            else:
                self._commands.append(event)
        self._count()

    def turn(self, index: int, record: Record) -> None:
        ledger, self._index = self.ledger, index
        now_ms, nonce = record[ev.T_NOW], record[ev.T_NONCE]
        if ledger.end is not None:
            self.blame("H1", f"turn {index} follows the end of the instance")
        if now_ms < ledger.last_ms:
            self.blame("H2", f"turn {index} is earlier than the one before")
        if nonce in self._nonces:
            self.blame("H2", f"turn {index} has the nonce {nonce} of another turn")
        self._nonces.add(nonce)
        ledger.last_ms = max(ledger.last_ms, now_ms)
        extra = record[ev.T_EXTRA] or {}
        ledger.deferred = bool(extra.get("deferred"))
        self._position(extra.get("pos"))
        for command in self._commands:
            self._obey(command)
        self._commands = []
        self._deliver()
        for events, actions in steps_of(record):
            for event in events:
                self._event(event)
            for action in actions:
                self._action(action, nonce, now_ms)
        if ledger.end is not None:
            ledger.open.clear()
            self._kept.clear()
            self._held.clear()
            ledger.suspended = False
        self._count()

    def _count(self) -> None:
        held = sum(1 for event, _ in self._held if event[0] == ev.RAISED)
        self.ledger.untaken = held + sum(self._kept.values())

    def _position(self, position: list[Any] | None) -> None:
        if not position:
            return
        queue, entry, index = position
        ms, _, seq = entry.partition("-")
        here = (queue, (int(ms), int(seq)), int(index))
        before = self.ledger.position
        if before is not None and before[0] == queue and here[1:] < before[1:]:
            self.blame("A5", f"turn {self._index} consumed entries before those of an earlier turn")
        self.ledger.position = here

    # --- events

    def _event(self, event: Event) -> None:
        code = event[0]
        if code == ev.STARTED:
            if self.ledger.begun:
                self.blame("H1", f"turn {self._index} starts the instance a second time")
            self.ledger.begun = True
        elif code in _RESOLVES:
            self._resolve(code, event[1], event[2])
        elif code == ev.RAISED:
            self._note(event[2], "")
            self._take(event, None)
        elif code == ev.LIFECYCLE:
            self._note(event[2], "\n")
            self._obey(event)
        elif code == ev.UNKNOWN_ACTIVITY:
            if self.ledger.scheduled.get(event[1]) != event[2]:
                self.blame("H3", f"turn {self._index} notes an activity that was not scheduled")
        else:
            self.blame("H3", f"turn {self._index} consumed an event of unknown kind {code!r}")

    def _resolve(self, code: str, task_id: int, nonce: str) -> None:
        ledger = self.ledger
        opened = ledger.open.get(task_id)
        if opened is not None and opened.nonce == nonce and opened.kind in _RESOLVES[code]:
            del ledger.open[task_id]
            if opened.kind == act.WAIT_FOR_EVENT:
                self._take([code], opened)
        elif code == ev.FIRED and ledger.deferred and self._taken.pop(task_id, None) == nonce:
            pass
        elif task_id not in ledger.scheduled:
            self.blame("H3", f"turn {self._index} resolves task {task_id}, which was not scheduled")
        elif ledger.scheduled[task_id] != nonce:
            self.blame("H3", f"turn {self._index} resolves task {task_id} with another nonce")
        elif self._kinds[task_id] not in _RESOLVES[code]:
            self.blame("H3", f"turn {self._index} resolves task {task_id} as another kind")
        else:
            self.blame("H3", f"turn {self._index} resolves task {task_id} a second time")

    def _take(self, event: Event, waiter: Open | None) -> None:
        """Deliver an external event, or the timeout of a wait, or hold it back."""
        if self.ledger.blocked:
            self._held.append((event, waiter))
        elif waiter is None:
            self._raised(event[3])
        else:
            waiters = self._waiters[waiter.action[2].casefold()]
            if waiter in waiters:
                waiters.remove(waiter)

    def _deliver(self) -> None:
        if not self.ledger.blocked:
            held, self._held = self._held, []
            for event, waiter in held:
                self._take(event, waiter)

    def _note(self, event_id: str | None, prefix: str) -> None:
        if not event_id:
            return
        key = prefix + event_id
        if key in self._recent:
            self.blame("H7", f"turn {self._index} consumes event id {event_id!r} a second time")
            return
        self._recent[key] = None
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]

    def _raised(self, name: str) -> None:
        waiters = self._waiters.get(name.casefold())
        if not waiters:
            self._keep(name)
            return
        waiter = waiters.popleft()
        self.ledger.open.pop(waiter.task_id, None)
        self._taken[waiter.task_id] = waiter.nonce

    def _keep(self, name: str) -> None:
        key = name.casefold()
        self._kept[key] = self._kept.get(key, 0) + 1

    def _obey(self, event: Event) -> None:
        if event[3] == ev.SUSPEND:
            self.ledger.suspended = True
        elif event[3] == ev.RESUME:
            self.ledger.suspended = False
            self._deliver()

    # --- actions

    def _action(self, action: Action, nonce: str, now_ms: int) -> None:
        ledger, code = self.ledger, action[0]
        if ledger.end is not None:
            self.blame("H1", f"turn {self._index} has actions behind its end")
        if code in act.OPENING:
            self._schedule(action, nonce, now_ms)
        elif code in STATUS_OF:
            ledger.end = action
        elif code == act.CONTINUE_AS_NEW:
            self.blame("H1", f"turn {self._index} continues as new within one history")

    def _schedule(self, action: Action, nonce: str, now_ms: int) -> None:
        ledger, (code, task_id) = self.ledger, action[:2]
        if task_id != self._next_id:
            self.blame("H2", f"turn {self._index} schedules task {task_id}, not {self._next_id}")
        if not ledger.begun:
            self.blame("H1", f"turn {self._index} schedules a task before the start")
        self._next_id = task_id + 1
        ledger.scheduled[task_id] = nonce
        self._kinds[task_id] = code
        if code == act.SCHEDULE_TASK:
            ledger.activities.setdefault(nonce, []).append(task_id)
        if code == act.WAIT_FOR_EVENT and self._is_over(action):
            return
        opened = Open(task_id, code, nonce, action, now_ms)
        ledger.open[task_id] = opened
        if code == act.WAIT_FOR_EVENT:
            self._waiters.setdefault(action[2].casefold(), deque()).append(opened)

    def _is_over(self, action: Action) -> bool:
        """Whether an event wait ended in the turn that began it."""
        if action[3] is not None:
            return bool(action[3] == 0)
        key = action[2].casefold()
        if not self._kept.get(key):
            return False
        self._kept[key] -= 1
        return True
