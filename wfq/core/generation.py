"""One generation of an instance: its state, what events do to it, and its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.decisions import Decisions, event_timeout
from wfq.core.events import Action, Event, Payload, Record
from wfq.core.failures import failure_from_exception, make_failure
from wfq.core.flow import NOT_DURABLE, Flow
from wfq.core.opentask import OpenTask
from wfq.core.ports import Executor, Host
from wfq.core.turn import COMPLETED, CONTINUED, FAILED, RUNNING, TERMINATED, Turn
from wfq.errors import PayloadError

#: Earlier generations that a birth record tells of: a loop without an end must not grow.
GENERATIONS_KEPT = 10
#: Stands for the turn before the first.
NO_TURN = Turn(0, 0, "", RUNNING)


class Generation:
    """The state that turns change. `Intake` feeds it events, `Instance` is what others see."""

    __slots__ = (
        "_blocked",
        "_carried_commands",
        "_codeless_since",
        "_decisions",
        "_end",
        "_executor",
        "_flow",
        "_held",
        "_ordinary",
        "_recent",
        "_start_seen",
        "_stuck",
        "_turn",
        "birth",
        "gen",
        "id",
        "inc",
        "name",
        "open",
        "parent",
        "status",
        "turns",
        "why",
    )

    def __init__(self, instance_id: str, birth: Record, host: Host) -> None:
        self.id = instance_id
        self.birth = birth
        self.inc: str = birth[ev.B_INC]
        self.gen: int = birth[ev.B_GEN]
        self.name: str = birth[ev.B_NAME]
        self.parent: list[Any] | None = birth[ev.B_PARENT]
        self.turns = 1
        self.status = RUNNING
        self.why: str | None = None
        self._decisions = self._new_decisions(instance_id, birth, host)
        self.open: dict[int, OpenTask] = self._decisions.open
        self._executor: Executor | None = None
        self._flow = Flow(self._decisions)
        self._turn: Turn = NO_TURN
        #: The action that ended the generation.
        self._end: Action | None = None
        #: Whether events are held back: suspended, stalled or without code.
        self._blocked = False
        #: Events recorded but not delivered yet, with the task that each one ends.
        self._held: list[tuple[Event, OpenTask | None]] = []
        #: Ids of recent external events and commands, oldest first.
        self._recent: dict[str, None] = {}
        self._start_seen = False
        #: Whether a completed task may take the short way: nothing is held, stuck or suspended.
        self._ordinary = False
        #: When an instance without code began to wait for some; None where it has it, or where
        #: something else keeps it from running.
        self._codeless_since: int | None = None
        #: Tasks whose activity no worker knows, and what was said about each.
        self._stuck: dict[int, str] = {}
        self._carried_commands: Sequence[Event] = ()
        if birth[ev.B_EXTRA]:
            self._inherit(birth[ev.B_EXTRA])

    def _new_decisions(self, instance_id: str, birth: Record, host: Host) -> Decisions:
        return Decisions(instance_id, birth, host)

    def _inherit(self, extra: dict[str, Any]) -> None:
        """Take over what the generation before handed on."""
        self._recent = dict.fromkeys(extra.get("ids") or ())
        for event in extra.get("carried") or ():
            if event[0] == ev.RAISED:
                self._decisions.mail().put(event)
            else:
                self._carried_commands = [*self._carried_commands, event]

    @property
    def begun(self) -> bool:
        """Whether the start was consumed; a delayed one may take events and commands before."""
        return self._start_seen

    # -- effects

    def _begin(self) -> None:
        executor, decisions = self._executor, self._decisions
        assert executor is not None
        if executor.version is not None:
            decisions.version = executor.version
            self._turn.version = executor.version
            if not decisions.replaying:
                self._turn.extra = {**(self._turn.extra or {}), "version": executor.version}
        self._turn.ran = True
        extra = self.birth[ev.B_EXTRA]
        given = not (extra and extra.get("noinput"))
        if self._flow.begin(executor, self.birth[ev.B_INPUT], given):
            self._end_code()

    def _advance(self) -> None:
        """Run the code on if what it waits for has ended."""
        flow = self._flow
        awaiting = flow.awaiting
        if awaiting is not None and awaiting._done:
            self._turn.ran = True
            if flow.run(awaiting):
                self._end_code()

    def _complete(self, event: Event, opened: OpenTask) -> None:
        task = opened.task
        assert task is not None
        if event[0] == ev.COMPLETED:
            task._complete(event[3])
        else:
            retry = opened.retry
            if retry is not None:
                delay_ms = retry.delay_ms(event[3], self._decisions.now_ms)
                if delay_ms is not None:
                    self._decisions.retry_later(retry, delay_ms)
                    return
            task._fail(event[3])
        self._advance()

    def _fire(self, opened: OpenTask) -> None:
        if opened.retry is not None:
            self._decisions.retry_now(opened.retry)
            return
        task = opened.task
        assert task is not None
        if opened.kind == act.CREATE_TIMER:
            task._complete(None)
        elif task._done:
            return  # held back together with the event, which was first
        else:
            self._decisions.mail().leave(opened.action[2], opened)
            task._fail(event_timeout(opened.action[2]))
        self._advance()

    def _raise(self, event: Event) -> None:
        decisions = self._decisions
        waiter = decisions.mail().put(event)
        if waiter is None:
            return
        decisions.handed += 1
        decisions.satisfied(waiter)
        assert waiter.task is not None
        waiter.task._complete(event[4])
        self._advance()

    # -- the end

    def _end_code(self) -> None:
        flow, decisions = self._flow, self._decisions
        error = flow.error
        payload: Payload = None
        if error is None and decisions.continuation is None:
            try:
                payload = decisions.host.encode(flow.value, "output of workflow", self.name)
            except PayloadError as exc:
                error = exc
        if error is not None:
            failure = failure_from_exception(error)
            if flow.is_coroutine and _needs_event_loop(error):
                failure["message"] += f"; {NOT_DURABLE}"
            self._finish([act.FAIL, failure], FAILED)
            flow.error = None  # it holds the frames of the workflow
        elif decisions.continuation is not None:
            payload, save_events = decisions.continuation
            self._finish([act.CONTINUE_AS_NEW, payload, [], False], CONTINUED)
            if decisions.mailbox is not None:
                for event in decisions.mailbox.untaken():
                    if save_events:
                        self._carry(event)
                    else:
                        decisions.handed += 1
            return
        else:
            self._finish([act.COMPLETE, payload], COMPLETED)
        self._drop_mail()

    def _terminate(self, data: dict[str, Any]) -> None:
        if data.get("recursive"):
            self._turn.children_to_terminate = [
                (opened.action[3], f"{opened.nonce}.{task_id}")
                for task_id, opened in self.open.items()
                if opened.kind == act.START_CHILD
            ]
        self._finish([act.TERMINATED, data.get("output")], TERMINATED)
        self._drop_mail()
        self._decisions.handed += sum(event[0] == ev.RAISED for event, _ in self._held)
        self._held = []
        self._drop_code()

    def _drop_code(self) -> None:
        """Drop the code; what its `finally` clauses do has no effect and is not logged."""
        decisions = self._decisions
        self._ordinary = False
        decisions.kill()
        self._flow.drop()
        # Only code that is being dropped is stopped by TurnAborted; whoever else still holds
        # the context is told that it is misused.
        decisions.dying = False

    def _finish(self, action: Action, status: str) -> None:
        self._end = self._decisions.decide(action)
        self.status = status
        self._turn.ran_to_end = True
        self._decisions.close()

    def _carry(self, event: Event) -> None:
        assert self._end is not None
        if not self._decisions.replaying:
            self._end[2].append(event)

    def _carry_or_drop(self, event: Event) -> None:
        if self._end is not None and self._end[0] == act.CONTINUE_AS_NEW:
            self._carry(event)
        else:
            self._turn.delivered += 1

    def _drop_mail(self) -> None:
        mailbox = self._decisions.mailbox
        if mailbox is not None:
            self._decisions.handed += len(mailbox.untaken())
            self._decisions.mailbox = None

    def _wind_up(self, turn: Turn) -> None:
        """Fill in what a commit must undo, start or tell when the generation has ended."""
        dropped: list[tuple[int, str, Action]] = []
        cancelled = [*turn.cancel_timers]
        for task_id, opened in self.open.items():
            if opened.nonce == turn.nonce:
                continue  # the turn says that it has ended: its timers are not set at all
            kind = opened.kind
            if kind == act.SCHEDULE_TASK:
                dropped.append((task_id, opened.nonce, opened.action))
            elif kind == act.CREATE_TIMER or (kind == act.WAIT_FOR_EVENT and opened.action[3]):
                cancelled.append((task_id, opened.nonce))
        turn.drop_tasks, turn.cancel_timers = dropped, cancelled
        # Open tasks refer to their owner, which refers to them: break the ring.
        self.open.clear()
        self._flow.awaiting = None
        if self.status == CONTINUED:
            turn.birth = self._next_birth(turn)
        elif self.parent is not None:
            turn.parent_event = self._parent_event(self.parent)

    def _next_birth(self, turn: Turn) -> Record:
        assert self._end is not None
        _, payload, carried, noinput = self._end
        extra = dict(self.birth[ev.B_EXTRA] or {})
        extra.setdefault("created", self.birth[ev.B_CREATED])
        for key in ("carried", "ids", "noinput", "seed"):
            extra.pop(key, None)
        ended = [self.gen, self.birth[ev.B_CREATED], turn.now_ms, self.turns]
        extra["gens"] = [*(extra.get("gens") or ())[1 - GENERATIONS_KEPT :], ended]
        if carried:
            extra["carried"] = carried
        if self._recent:
            extra["ids"] = list(self._recent)
        if noinput:
            extra["noinput"] = True
        return [
            ev.BIRTH,
            turn.now_ms,
            self.inc,
            self.gen + 1,
            self.name,
            payload,
            self.parent,
            extra,
        ]

    def _parent_event(self, parent: list[Any]) -> Event:
        assert self._end is not None
        _, _, task_id, nonce = parent
        if self.status == COMPLETED:
            return [ev.COMPLETED, task_id, nonce, self._end[1]]
        if self.status == FAILED:
            return [ev.FAILED, task_id, nonce, self._end[1]]
        failure = make_failure(
            "WorkflowTerminated",
            f"child workflow {self.id!r} was terminated",
            non_retryable=True,
        )
        return [ev.FAILED, task_id, nonce, failure]


def _needs_event_loop(error: BaseException) -> bool:
    """Whether asyncio was asked for something: a workflow's coroutine runs without a loop."""
    return type(error) is RuntimeError and "event loop" in str(error)
