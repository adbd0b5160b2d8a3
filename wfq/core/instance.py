"""One workflow instance in memory: loaded from its history, then one `apply` a turn."""

from __future__ import annotations

from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.events import Event, Record
from wfq.core.generation import NO_TURN
from wfq.core.intake import Intake
from wfq.core.opentask import OpenTask
from wfq.core.ports import Host, TurnAborted
from wfq.core.replay import RecordedTurn
from wfq.core.turn import COMPLETED, CONTINUED, FAILED, RUNNING, STALLED, TERMINATED, More, Turn
from wfq.errors import NonDeterministicWorkflow

_STATUS_OF = {
    act.COMPLETE: COMPLETED,
    act.FAIL: FAILED,
    act.TERMINATED: TERMINATED,
    act.CONTINUE_AS_NEW: CONTINUED,
}

#: Stands for the time of the first turn without code.
_FROM_NOW = -1
#: Rough bytes of an instance without tasks, of a consumed event and of a decided action.
_BASE_SIZE, _EVENT_SIZE, _ACTION_SIZE = 2_000, 200, 300


class Instance(Intake):
    """The live state of one generation of an instance, kept between turns.

    When `apply` raises, or its turn cannot be committed, the instance is useless: `discard`
    it and `load` it again.

    id, inc, gen, name, parent, birth: from the birth record. turns: history elements, the
    birth included. status: as in `Turn`. why: the reason when STALLED, else None. open: the
    open tasks by task id. length: events consumed by this generation. size: a rough number of
    bytes, for bounding a cache; whoever knows the size of payloads may add to it.
    """

    __slots__ = ("_aborted", "_most_events", "_no_code", "_was_deferred", "length", "size")

    def __init__(self, instance_id: str, birth: Record, host: Host) -> None:
        super().__init__(instance_id, birth, host)
        self.size = _BASE_SIZE
        self.length = 0
        self._most_events = host.limits.history_events
        self._aborted = False
        self._no_code: str | None = None
        #: Whether the last turn on record was one without code.
        self._was_deferred = False

    @classmethod
    def load(
        cls, instance_id: str, records: list[Record], host: Host, *, stalled: str | None = None
    ) -> Instance:
        """Return the instance that `records` (birth record first) describe.

        The code is run again over the history, silently. Where `host` has no code for it, or
        `stalled` gives a reason not to run it, the result only keeps the books: its `apply`
        records events without delivering them, and obeys lifecycle commands.
        Raises: NonDeterministicWorkflow when the code does not repeat what history records.
        """
        instance = cls(instance_id, records[0], host)
        waits = instance._find_code(records, host, stalled)
        if len(records) > 1:
            instance._replay(records)
            instance._was_deferred = _is_deferred(records[-1])
        if waits:
            instance._codeless_since = _codeless_since(records)
        return instance

    def _find_code(self, records: list[Record], host: Host, stalled: str | None) -> bool:
        """Choose the version that `records` are pinned to, or none for the reason `stalled`.

        Returns whether it waits for a worker that has its code.
        """
        if len(records) == 1:
            version, begun = self._decisions.version, False
        else:
            version, begun = _version_of(records)
            self._decisions.version = version
        waits = False
        if stalled is None:
            asked = "" if begun and version is None else version
            self._executor = host.resolve(self.name, asked)
            if self._executor is None:
                of = f" version {version!r}" if version else ""
                stalled = f"no worker has the workflow {self.name!r}{of}"
                waits = True
        self._no_code = self.why = stalled
        return waits

    @property
    def now_ms(self) -> int:
        """The time of the last turn; of the birth before the first."""
        return self._decisions.now_ms

    @property
    def version(self) -> str | None:
        """The version that the instance is pinned to."""
        return self._decisions.version

    @property
    def has_code(self) -> bool:
        """Whether turns run the workflow's code."""
        return self._no_code is None

    @property
    def lacks_code(self) -> bool:
        """Whether nobody here has the workflow, or the version of it."""
        return self._codeless_since is not None

    def apply(self, events: list[Event], now_ms: int, nonce: str, more: More | None = None) -> Turn:
        """Run one turn: consume `events` in order, advancing the code after each.

        Time never goes back: a `now_ms` before the last turn's is replaced by it, and no timer
        fires before it is due. `nonce` is unique to the turn. `more` may bring results of what
        the turn decides, to be consumed in it. Raises: TurnAborted when a watchdog gave the turn
        up; what `more` raises.
        """
        last_ms, no_code = self._decisions.now_ms, self._no_code
        if self._ordinary and len(events) == 1 and self.length < self._most_events:
            event = events[0]
            if event[0] == ev.COMPLETED:
                opened = self.open.get(event[1])
                if opened is not None and opened.nonce == event[2] and opened.kind in "AW":
                    if now_ms < last_ms:
                        now_ms = last_ms
                    return self._booked(self._plain_turn(event, opened, now_ms, nonce, more))
        for event in events:
            if event[0] == ev.FIRED:
                last_ms = max(last_ms, self._due_ms(event))
        if now_ms < last_ms:
            now_ms = last_ms
        if no_code is not None and self._codeless_since == _FROM_NOW:
            self._codeless_since = now_ms
        # By position: names would cost as much as the rest of the call.
        turn = self._run_turn(
            events, now_ms, nonce, no_code, None, self.length >= self._most_events, more
        )
        if no_code is not None:
            self._held = []  # whoever loads it with code delivers them from the records
        elif self._was_deferred:
            turn.has_code_again = True
            turn.plain = False
            self._was_deferred = False
        return self._booked(turn)

    def _booked(self, turn: Turn) -> Turn:
        if self._aborted:
            raise TurnAborted(f"the turn of {self.id!r} was aborted")
        consumed, decided = len(turn.events), len(turn.actions)
        if consumed or decided or not turn.empty:
            self.turns += 1
            self.length += consumed
            self.size += _EVENT_SIZE * consumed + _ACTION_SIZE * decided
        # There may be a hundred thousand instances: none keeps what it does not need any more.
        self._turn = NO_TURN
        self._decisions.forget_turn()
        return turn

    def _due_ms(self, event: Event) -> int:
        """When a timer that has fired was due: the caller's clock may lag behind the server's."""
        opened = self.open.get(event[1])
        if opened is None or opened.nonce != event[2] or opened.kind not in "TE":
            return 0
        return opened.action[2 if opened.kind == act.CREATE_TIMER else 3] or 0

    def abort(self) -> None:
        """Make the `apply` that runs in another thread raise TurnAborted, at its end at latest.

        For a watchdog, to be called before it raises TurnAborted in that thread: the workflow's
        code may swallow the exception.
        """
        self._aborted = True

    @property
    def aborted(self) -> bool:
        """Whether `abort` was called."""
        return self._aborted

    def discard(self) -> None:
        """Drop the code: what its `finally` clauses still do has no effect and is not logged."""
        self._drop_code()
        self._held = []
        self.open.clear()

    # -- replay

    def _replay(self, records: list[Record]) -> None:
        decisions = self._decisions
        decisions.replaying = True
        try:
            for index in range(1, len(records)):
                self._replay_turn(records[index], index)
        except (TurnAborted, NonDeterministicWorkflow):
            mismatch = decisions.mismatch
            self.discard()
            if mismatch is not None:
                raise mismatch from None
            raise
        decisions.replaying = self.status == TERMINATED
        self.turns = len(records)

    def _replay_turn(self, record: Record, index: int) -> None:
        events, now_ms, nonce = record[ev.T_EVENTS], record[ev.T_NOW], record[ev.T_NONCE]
        extra = record[ev.T_EXTRA] or {}
        deferred = "deferred" if extra.get("deferred") else None
        self.turns = index
        if self._no_code is not None:
            self._run_turn(events, now_ms, nonce, deferred=self._no_code)
            self._adopt(record)
            if self.status == STALLED and deferred is None:
                self.status = RUNNING
        else:
            recorded = RecordedTurn(record[ev.T_ACTIONS], index, extra.get(ev.STEPS) or ())
            full = bool(extra.get("full"))
            self._run_turn(events, now_ms, nonce, deferred=deferred, recorded=recorded, full=full)
            if self._decisions.mismatch is not None:
                raise TurnAborted  # the workflow swallowed the one that was thrown at it
            if self._end is None:
                recorded.finish(self._whereabouts(), self._flow.source())
        if self.status == STALLED and extra.get("grace"):
            self.status = RUNNING
        self.length += len(events)
        self.size += _EVENT_SIZE * len(events) + _ACTION_SIZE * len(record[ev.T_ACTIONS])

    def _whereabouts(self) -> str:
        awaiting = self._flow.awaiting
        return "nothing" if awaiting is None else f"nothing and waits for {awaiting!r}"

    def _adopt(self, record: Record) -> None:
        """Enter recorded decisions into the books of an instance without code.

        An event wait stays open until its timeout: which event it took is not known without
        the code, and keeping one timer too many is harmless.
        """
        for action in record[ev.T_ACTIONS]:
            code = action[0]
            if code in act.OPENING:
                self._decisions.next_id = action[1] + 1
                self.open[action[1]] = OpenTask(
                    code, record[ev.T_NONCE], action, record[ev.T_NOW], None
                )
            elif code in act.TERMINAL:
                self._end = action
                self.status = _STATUS_OF[code]
        if (record[ev.T_EXTRA] or {}).get(ev.STEPS):
            for event in record[ev.T_EVENTS]:
                if event[0] in (ev.COMPLETED, ev.FAILED) and event[2] == record[ev.T_NONCE]:
                    del self.open[event[1]]
        self._held = []


def _is_deferred(record: Record) -> bool:
    return record[0] == ev.TURN and bool((record[ev.T_EXTRA] or {}).get("deferred"))


def _codeless_since(records: list[Record]) -> int:
    """When the instance was first found without code, of the time that still lasts."""
    since = _FROM_NOW
    for record in reversed(records):
        if not _is_deferred(record):
            break
        since = record[ev.T_NOW]
    return since


def _version_of(records: list[Record]) -> tuple[str | None, bool]:
    """Return the version that the instance is pinned to, and whether its code has begun."""
    started = begun = False
    for index in range(1, len(records)):
        record = records[index]
        extra = record[ev.T_EXTRA]
        if extra and "version" in extra:
            return extra["version"], True
        if not begun:
            started = started or any(event[0] == ev.STARTED for event in record[ev.T_EVENTS])
            begun = started and not (extra and extra.get("deferred"))
    return (records[0][ev.B_EXTRA] or {}).get("version"), begun
