"""Consuming events: the half of an instance that runs turns.

Events are delivered one at a time, in order, and the code is run until it waits again after
each; so what a turn decides depends on the order of events only, not on how they were batched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.decisions import UNSET
from wfq.core.events import Event
from wfq.core.generation import Generation
from wfq.core.opentask import OpenTask
from wfq.core.replay import RecordedTurn
from wfq.core.turn import RUNNING, STALLED, SUSPENDED, More, Turn

#: Marks the id of a lifecycle command among the recent event ids.
_COMMAND = "\n"
#: Milliseconds between looks for code: at first, and at most.
_FIRST_LOOK_MS, _LOOK_MS = 1_000, 5_000


class Intake(Generation):
    """Runs turns: filters events, holds them back while the instance is suspended or stalled."""

    __slots__ = ()

    # -- the turn

    def _run_turn(
        self,
        events: list[Event],
        now_ms: int,
        nonce: str,
        deferred: str | None,
        recorded: RecordedTurn | None = None,
        full: bool = False,
        more: More | None = None,
    ) -> Turn:
        """Run one turn; `deferred` is the reason why code must not run in it.

        `full`: the history is at its limit. The record tells, since the limit may be changed.
        """
        decisions = self._decisions
        decisions.open_turn(now_ms, nonce, recorded)
        turn = self._turn = Turn(self.turns, now_ms, nonce, self.status)
        self._blocked = decisions.suspended
        if deferred is not None:
            self._blocked = True
            turn.extra = {"deferred": True}
        elif full:
            decisions.fill()
            turn.extra = {"full": True}
        if self._carried_commands:
            self._obey_carried()
        if self._held and not self._blocked:
            self._deliver_held()
        if recorded is not None and recorded.steps:
            events = self._repeat_steps(events, recorded.steps)
        for event in events:
            if self._end is None:
                _HANDLERS.get(event[0], _ignore)(self, event)
            else:
                self._receive_late(event)
        if more is not None and turn.ran and not full:
            self._run_on(turn, more)
        return self._close_turn(turn, deferred)

    def _plain_turn(
        self, event: Event, opened: OpenTask, now_ms: int, nonce: str, more: More | None
    ) -> Turn:
        """Run what nearly every turn is: one task of an ordinary instance has completed.

        As `_run_turn` does, spelled out: what a turn costs is how much code it runs.
        """
        decisions, flow = self._decisions, self._flow
        # What else `open_turn` sets is as it should be, or the last turn was not ordinary.
        decisions.now_ms, decisions.nonce, decisions.recorded = now_ms, nonce, None
        decisions.actions, decisions.limit = [], decisions.most_actions
        turn = self._turn = Turn(self.turns, now_ms, nonce, RUNNING)
        turn.events.append(event)
        del self.open[event[1]]
        task = opened.task
        assert task is not None
        task._complete(event[3])
        awaiting = flow.awaiting
        if awaiting is not None and awaiting._done:
            turn.ran = True
            if flow.run(awaiting):
                self._end_code()
            elif more is not None:
                self._run_on(turn, more)
        if (
            self._end is None
            and decisions.custom is UNSET
            and not (decisions.handed or decisions.cancelled)
        ):
            turn.actions = decisions.actions
            turn.plain = True
            decisions.limit = -1
            return turn
        return self._close_turn(turn, None)

    def _close_turn(self, turn: Turn, deferred: str | None) -> Turn:
        """Fill in what a turn that may be anything has come to."""
        decisions = self._decisions
        turn.actions = decisions.actions
        if decisions.custom is not UNSET:
            turn.custom = decisions.custom
        if decisions.handed:
            turn.delivered += decisions.handed
        if decisions.cancelled:
            turn.cancel_timers = decisions.cancelled
        if turn.ran_to_end:
            self._wind_up(turn)
        elif self._end is None and (
            self.status != RUNNING or deferred is not None or decisions.suspended or self._stuck
        ):
            self._settle_status(turn, deferred)
        turn.status = self.status
        decisions.limit = -1
        turn.plain = turn.is_plain
        self._ordinary = (
            turn.plain
            and not (decisions.suspended or decisions.full)
            and not (self._held or self._stuck)
        )
        return turn

    def _run_on(self, turn: Turn, more: More) -> None:
        """Go on with what `more` brings, step by step: the record says where each one began."""
        decisions = self._decisions
        actions, asked, names = decisions.actions, 0, more.names
        for action in actions:
            if action[0] == act.SCHEDULE_TASK and action[2] in names:
                break
        else:
            return
        flow, opened, consumed = self._flow, self.open, turn.events
        while not (turn.ran_to_end or self._blocked) and len(actions) > asked:
            # No other code may decide anything meanwhile.
            decisions.limit = -1
            events = more.bring(turn, actions, asked)
            if not events:
                return
            asked = len(actions)
            if turn.steps is None:
                turn.steps = [len(consumed), asked]
            else:
                turn.steps += (len(consumed), asked)
            decisions.open_step()
            for event in events:
                if self._end is not None:
                    self._receive_late(event)
                elif event[0] == ev.COMPLETED:
                    # As `_on_completion`, of a task that this very turn has scheduled.
                    task = opened.pop(event[1]).task
                    assert task is not None
                    consumed.append(event)
                    task._complete(event[3])
                    awaiting = flow.awaiting
                    if awaiting is not None and awaiting._done and flow.run(awaiting):
                        self._end_code()
                else:
                    self._on_completion(event)

    def _repeat_steps(self, events: list[Event], steps: Sequence[int]) -> list[Event]:
        """Repeat all but the last step of a recorded turn; return the events of that one."""
        consumed = 0
        for before in steps[::2]:
            for event in events[consumed:before]:
                if self._end is None:
                    _HANDLERS.get(event[0], _ignore)(self, event)
            consumed = before
            if self._end is None:
                self._decisions.open_step()
        return events[consumed:]

    def _settle_status(self, turn: Turn, deferred: str | None) -> None:
        if deferred is None and not self._stuck:
            self.why = None
            self.status = SUSPENDED if self._decisions.suspended else RUNNING
            return
        if self._codeless_since is not None and self._is_in_time(turn, self._codeless_since):
            turn.lacks_code = deferred
            # For whoever replays it, with whatever settings.
            turn.extra = {"deferred": True, "grace": True}
            suspended = self._decisions.suspended
            self.status, self.why = (SUSPENDED, None) if suspended else (RUNNING, deferred)
            return
        why = deferred or next(iter(self._stuck.values()))
        if self._decisions.suspended:
            self.why = None
            self.status = SUSPENDED
        else:
            turn.stalled = self.why = why
            self.status = STALLED

    def _is_in_time(self, turn: Turn, since_ms: int) -> bool:
        """Whether an instance without code is still given time to find some.

        It is woken again and again: its partition may go to an orchestrator that has the code.
        """
        now_ms = turn.now_ms
        end_ms = since_ms + self._decisions.host.limits.unknown_grace_ms
        waited_ms = now_ms - since_ms
        turn.look_again_ms = min(end_ms, now_ms + max(_FIRST_LOOK_MS, min(waited_ms, _LOOK_MS)))
        return now_ms < end_ms

    # -- one event each

    def _on_start(self, event: Event) -> None:
        if self._start_seen:
            return
        self._start_seen = True
        # A birth record that came along is in the history, and with it the incarnation, which here
        # would only take room.
        kept = [ev.STARTED, "" if len(event) > 2 else event[1]]
        self._turn.events.append(kept)
        if self._blocked:
            self._held.append((kept, None))
        else:
            self._begin()

    def _on_completion(self, event: Event) -> None:
        task_id = event[1]
        opened = self.open.get(task_id)
        if opened is None or opened.nonce != event[2] or opened.kind not in "AW":
            return  # late, repeated, or of another generation
        del self.open[task_id]
        self._turn.events.append(event)
        if self._stuck:
            self._stuck.pop(task_id, None)
        if self._blocked:
            self._held.append((event, opened))
        else:
            self._complete(event, opened)

    def _on_fired(self, event: Event) -> None:
        task_id = event[1]
        opened = self.open.get(task_id)
        if opened is None or opened.nonce != event[2] or opened.kind not in "TE":
            return
        del self.open[task_id]
        self._turn.events.append(event)
        if self._blocked:
            self._held.append((event, opened))
        else:
            self._fire(opened)

    def _on_raised(self, event: Event) -> None:
        if not self._is_mine(event):
            return
        if not self._is_new(event[2]):
            self._turn.delivered += 1
            return
        self._turn.events.append(event)
        if self._blocked:
            self._held.append((event, None))
        else:
            self._raise(event)

    def _on_command(self, event: Event) -> None:
        verb = event[3]
        if verb == ev.SUSPEND or verb == ev.RESUME:
            if self._decisions.suspended == (verb == ev.SUSPEND):
                return  # it changes nothing
        elif verb != ev.TERMINATE and verb != ev.ADOPT:
            return
        if self._is_mine(event) and self._is_new(event[2], _COMMAND):
            self._turn.events.append(event)
            self._obey(event)

    def _on_unknown_activity(self, event: Event) -> None:
        task_id, message = event[1], event[3]
        opened = self.open.get(task_id)
        if opened is None or opened.nonce != event[2] or self._stuck.get(task_id) == message:
            return
        self._turn.events.append(event)
        self._stuck[task_id] = message

    def _is_mine(self, event: Event) -> bool:
        # What is in history was accepted; a rerun keeps the events of the run it repeats.
        return event[1] == self.inc or self._decisions.replaying

    def _is_new(self, event_id: str | None, prefix: str = "") -> bool:
        """Note an event id; return whether it is seen for the first time. No id is always new."""
        if not event_id:
            return True
        key = prefix + event_id
        recent = self._recent
        if key in recent:
            return False
        recent[key] = None
        if len(recent) > self._decisions.host.limits.recent_event_ids:
            del recent[next(iter(recent))]
        return True

    def _receive_late(self, event: Event) -> None:
        """Take an event that came in the turn in which the generation ended, after its end.

        The next generation gets what this one never saw; otherwise nobody does.
        """
        code = event[0]
        if code not in (ev.RAISED, ev.LIFECYCLE) or not self._is_mine(event):
            return
        is_event = code == ev.RAISED
        continued = self._end is not None and self._end[0] == act.CONTINUE_AS_NEW
        if continued and self._is_new(event[2], "" if is_event else _COMMAND):
            self._carry(event)
        elif is_event:
            self._turn.delivered += 1

    def _obey(self, event: Event) -> None:
        verb, decisions = event[3], self._decisions
        if verb == ev.TERMINATE:
            self._terminate(event[4] or {})
        elif verb == ev.ADOPT:
            # A rerun of a child has no parent, whatever its records say.
            if self.parent is not None:
                self.parent = event[4]
        elif verb == ev.SUSPEND:
            decisions.suspended = self._blocked = True
        else:
            decisions.suspended = False
            self._blocked = self._turn.extra is not None and "deferred" in self._turn.extra
            if not self._blocked:
                self._deliver_held()

    def _obey_carried(self) -> None:
        for event in self._carried_commands:
            if self._end is None:
                self._obey(event)
        self._carried_commands = ()

    def _deliver_held(self) -> None:
        """Deliver what was held back, as if it came now, in the order in which it came."""
        held, self._held = self._held, []
        for event, opened in held:
            code = event[0]
            if self._end is not None:
                if code == ev.RAISED:
                    self._carry_or_drop(event)
            elif code == ev.RAISED:
                self._raise(event)
            elif code == ev.STARTED:
                self._begin()
            elif opened is not None and code == ev.FIRED:
                self._fire(opened)
            elif opened is not None:
                self._complete(event, opened)


def _ignore(_: Intake, __: Event) -> None:
    """Drop an event that says nothing, such as a wake-up."""


_HANDLERS: dict[str, Callable[[Intake, Event], None]] = {
    ev.COMPLETED: Intake._on_completion,
    ev.FAILED: Intake._on_completion,
    ev.FIRED: Intake._on_fired,
    ev.RAISED: Intake._on_raised,
    ev.STARTED: Intake._on_start,
    ev.LIFECYCLE: Intake._on_command,
    ev.UNKNOWN_ACTIVITY: Intake._on_unknown_activity,
}
