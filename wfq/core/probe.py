"""Looking into a replay: stop it at a point, or let the code decide what it likes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.decisions import Decisions
from wfq.core.events import Action, Event, Payload, Record
from wfq.core.instance import Instance
from wfq.core.ports import Host, TurnAborted
from wfq.core.replay import LENIENT, RecordedTurn, is_core, is_same
from wfq.errors import NonDeterministicWorkflow

#: Called with the user's frames, innermost first, while they still exist.
OnHalt = Callable[[list[FrameType]], None]


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a replay stops: before an event, or before an action, of a history element."""

    record: int
    position: int
    is_action: bool


class Observed(RecordedTurn):
    """Lets the code decide what it likes; patches are answered as they were recorded."""

    def match(self, action: Action) -> Action:
        recorded = self._peek()
        if recorded is not None and is_same(recorded, action):
            self._next += 1
        return action

    def finish(self, state: str, source: str | None) -> None:
        """Nothing is missed."""


class Probe(Instance):
    """An instance whose last turns are looked at. Silent: nothing is logged by `ctx.logger`."""

    __slots__ = ()

    @classmethod
    def over(cls, instance_id: str, records: list[Record], host: Host, upto: int) -> Self:
        """Return the instance as it is after the records before `upto`.

        Raises: NonDeterministicWorkflow when these do not fit the code; TurnAborted.
        """
        probe = cls(instance_id, records[0], host)
        probe._find_code(records, host, None)
        if upto > 1:
            probe._replay(records[:upto])
        probe._decisions.replaying = True
        return probe

    def observe(self, record: Record, events: list[Event] | None = None) -> list[Action]:
        """Run a recorded turn, or `events` in its place, and return what is decided now.

        Custom statuses and patch markers are not among it. Raises: TurnAborted.
        """
        extra = record[ev.T_EXTRA]
        deferred = "deferred" if extra and extra.get("deferred") else None
        decisions = self._decisions
        given = record[ev.T_EVENTS] if events is None else events
        steps = extra.get(ev.STEPS) if extra and events is None else None
        recorded = Observed(record[ev.T_ACTIONS], self.turns, steps or ())
        self._run_turn(given, record[ev.T_NOW], record[ev.T_NONCE], deferred=deferred,
                       recorded=recorded)  # fmt: skip
        self.turns += 1
        return decisions.actions

    def where(self) -> str | None:
        """Return ``file:line in function`` of the user code that waits."""
        return self._flow.source()

    def waits_for(self) -> str:
        """Return what the code waits for, in words."""
        if self._end is not None:
            return "nothing: it has ended"
        return "nothing" if self._flow.awaiting is None else repr(self._flow.awaiting)


def decided_now(
    instance_id: str, records: list[Record], host: Host, turn: int
) -> tuple[list[Action], str]:
    """Return what the code decides in a recorded turn whose predecessors fit, and its waiting."""
    probe = Probe.over(instance_id, records, host, turn)
    try:
        decided = list(probe.observe(records[turn]))
        return decided, probe.waits_for()
    finally:
        probe.discard()


def said(record: Record) -> list[Action]:
    """Return the recorded actions that code must repeat."""
    return [action for action in record[ev.T_ACTIONS] if action[0] not in LENIENT]


# -- stopping


class _Halt(TurnAborted):
    """The place was reached."""


class _Actions(list[Action]):
    """The actions of the turn in which the replay stops."""

    def __init__(self, reach: Callable[[], None]) -> None:
        super().__init__()
        self._reach = reach

    def append(self, action: Action) -> None:
        self._reach()
        super().append(action)


class _HaltingDecisions(Decisions):
    """Decisions that stop the code right before one of them."""

    __slots__ = ("before", "halt", "target")

    def aim(self, target: Action, before: int, halt: Callable[[], None]) -> None:
        """Stop before `target`, which follows `before` decisions of its turn."""
        self.target, self.before, self.halt = target, before, halt

    def open_turn(self, now_ms: int, nonce: str, recorded: RecordedTurn | None) -> None:
        super().open_turn(now_ms, nonce, recorded)
        if isinstance(recorded, Observed):
            self.actions = _Actions(self._reached)

    def _reached(self) -> None:
        if len(self.actions) == self.before and self.target[0] in act.NAMES.keys() - LENIENT:
            self._stop()

    def _stop(self) -> None:
        self.halt()
        self.dying = True
        self.limit = -1
        raise _Halt("stopped")

    def set_custom_status(self, value: Any) -> None:
        if self._at(act.SET_CUSTOM_STATUS):
            payload = self.host.encode(value, "custom status of", self.name)
            if _plain(self.host, payload) == _plain(self.host, self.target[1]):
                self._stop()
        super().set_custom_status(value)

    def is_patched(self, name: str) -> bool:
        if self._at(act.PATCH_MARKER) and self.target[1] == name and name not in self._patches:
            self._stop()
        return super().is_patched(name)

    def _at(self, code: str) -> bool:
        here = isinstance(self.recorded, Observed) and self.target[0] == code
        return here and len(self.actions) == self.before


def _nowhere() -> None:
    """Before a place was aimed at."""


def _plain(host: Host, payload: Payload) -> Any:
    return host.plain(payload)


class _Halting(Probe):
    __slots__ = ()

    def _new_decisions(self, instance_id: str, birth: Record, host: Host) -> Decisions:
        decisions = _HaltingDecisions(instance_id, birth, host)
        decisions.aim([""], 0, _nowhere)
        return decisions


def replay_until(
    instance_id: str, records: list[Record], host: Host, stop: Stop, on_halt: OnHalt
) -> Probe:
    """Replay to a stop and call `on_halt` there, once, with the user's frames.

    There are none where no code has begun, or where `host` has none. The instance that is
    returned has been discarded.
    Raises: NonDeterministicWorkflow.
    """
    probe = _Halting.over(instance_id, records, host, max(stop.record, 1))
    try:
        if stop.record == 0 or not probe.has_code:
            on_halt([])
        elif stop.is_action:
            _until_action(probe, records[stop.record], stop, on_halt)
        else:
            record = records[stop.record]
            probe.observe(record, record[ev.T_EVENTS][: stop.position])
            on_halt(_waiting_frames(probe._flow._code))
    finally:
        probe.discard()
    return probe


def _until_action(probe: _Halting, record: Record, stop: Stop, on_halt: OnHalt) -> None:
    decisions = probe._decisions
    assert isinstance(decisions, _HaltingDecisions)
    outermost: list[FrameType] = _waiting_frames(probe._flow._code)[-1:]

    def halt() -> None:
        frames = _running_frames()
        # An action of the engine, such as the end: the function has returned, its frame is kept.
        on_halt(frames or outermost)

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and not outermost and not is_core(frame):
            outermost.append(frame)

    before_it = record[ev.T_ACTIONS][: stop.position]
    decisions.aim(
        record[ev.T_ACTIONS][stop.position],
        sum(action[0] not in LENIENT for action in before_it),
        halt,
    )
    profile = sys.getprofile()
    sys.setprofile(watch)
    try:
        probe.observe(record)
    except _Halt:
        return
    finally:
        sys.setprofile(profile)
    # A status or patch that the code of today does not come by.
    on_halt(_waiting_frames(probe._flow._code))


def _running_frames() -> list[FrameType]:
    """The user's frames below the engine's, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_core(frame):
        frame = frame.f_back
    frames = []
    while frame is not None and not is_core(frame):
        frames.append(frame)
        frame = frame.f_back
    # Whoever called the engine is not the workflow: its frames end at the engine's own.
    return frames if frame is not None else []


def _waiting_frames(code: Any) -> list[FrameType]:
    """The frames of suspended code, innermost first."""
    frames: list[FrameType] = []
    while code is not None:
        frame = getattr(code, "gi_frame", None) or getattr(code, "cr_frame", None)
        if frame is None or is_core(frame):
            break
        frames.append(frame)
        code = getattr(code, "gi_yieldfrom", None) or getattr(code, "cr_await", None)
    return frames[::-1]


# -- deciding again


def redecide(instance_id: str, records: list[Record], host: Host) -> None:
    """Run the code over a history as replay does, and compare payloads and due times as well.

    Stricter than a replay, which takes what was recorded: for tests, which want to know that
    code is not deterministic before it takes another branch. Without code nothing is compared.
    Raises: NonDeterministicWorkflow; TurnAborted.
    """
    Instance.load(instance_id, records, host).discard()
    probe = Probe.over(instance_id, records, host, 1)
    try:
        for turn in range(1, len(records) if probe.has_code else 1):
            decided = probe.observe(records[turn])
            for recorded, now in zip(said(records[turn]), decided, strict=True):
                difference = _changed(host, recorded, now)
                if difference:
                    raise _differs(turn, recorded, difference, probe.where())
    finally:
        probe.discard()


def _changed(host: Host, recorded: Action, now: Action) -> str:
    """Say what the same decision has that it did not have before; "" when it is the same."""
    code = recorded[0]
    parts: dict[str, int] = _PAYLOAD_AT.get(code, {})
    for what, at in parts.items():
        before, after = _plain(host, recorded[at]), _plain(host, now[at])
        if before != after and before is not None:
            return f"{what} {_short(before)} is now {_short(after)}"
    if code == act.FAIL and recorded[1].get("type") != now[1].get("type"):
        return f"failure {recorded[1].get('type')} is now {now[1].get('type')}"
    return ""


#: What of an action is compared, by code. A due time that is None was not needed in the end.
_PAYLOAD_AT: dict[str, dict[str, int]] = {
    act.SCHEDULE_TASK: {"input": 3},
    act.CREATE_TIMER: {"due time": 2},
    act.WAIT_FOR_EVENT: {"timeout": 3},
    act.START_CHILD: {"instance id": 3, "input": 4},
    act.SEND_EVENT: {"data": 3},
    act.CONTINUE_AS_NEW: {"input": 1},
    act.COMPLETE: {"output": 1},
}


def _differs(
    turn: int, recorded: Action, difference: str, source: str | None
) -> NonDeterministicWorkflow:
    what = act.describe(recorded)
    where = f" near {source}" if source else ""
    found = recorded[1] if recorded[0] in act.OPENING else None
    return NonDeterministicWorkflow(
        f"the workflow is not deterministic: turn {turn} decided {what}; run again over the same "
        f"history{where}, its {difference}; use ctx.current_utc_datetime, ctx.random and "
        "ctx.new_uuid(), and move I/O to activities",
        expected=what,
        found=f"{what}, whose {difference}",
        task_id=found,
        turn=turn,
        source=source,
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
