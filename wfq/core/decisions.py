"""What one generation of an instance has decided: the side of the engine that faces `ctx`.

`WorkflowContext` forwards here. Every decision goes through `_decide`, which in replay checks
it against history and puts the recorded action in its place, so that a due time or an option
that the code computes differently today cannot change what was promised then.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from wfq.core import actions as act
from wfq.core.childretry import ChildRetry
from wfq.core.events import (
    B_CREATED,
    B_EXTRA,
    B_GEN,
    B_INC,
    B_NAME,
    B_PARENT,
    Action,
    Payload,
    Record,
)
from wfq.core.mailbox import Mailbox
from wfq.core.opentask import OpenTask
from wfq.core.options import (
    checked_child_id,
    checked_name,
    checked_queue,
    checked_retry,
    checked_target_id,
    due_ms,
)
from wfq.core.ports import NO_INPUT, Host, TurnAborted
from wfq.core.replay import RecordedTurn
from wfq.core.tasks import SingleTask, Task
from wfq.errors import HistoryTooLong, NonDeterministicWorkflow, WorkflowMisuse

#: Shared by all tasks without input and without other options; never changed.
_ONLY_NO_INPUT = {"n": True}
#: "No custom status was set"; None is a status like any other.
UNSET: Any = object()
#: Stands for the actions of no turn: what decides outside of one is refused before it gets here.
_NO_ACTIONS: Any = ()


class Decisions:
    """Open tasks, the current turn's actions, and everything `ctx` answers from."""

    __slots__ = (
        "_custom_at",
        "_encode",
        "_patches",
        "_plain",
        "_seed",
        "_short",
        "_uuids",
        "actions",
        "cancelled",
        "continuation",
        "custom",
        "dying",
        "full",
        "gen",
        "handed",
        "host",
        "id",
        "inc",
        "limit",
        "mailbox",
        "mismatch",
        "most_actions",
        "name",
        "next_id",
        "nonce",
        "now_ms",
        "open",
        "parent",
        "recorded",
        "replaying",
        "suspended",
        "version",
    )

    def __init__(self, instance_id: str, birth: Record, host: Host) -> None:
        self.id = instance_id
        self.inc: str = birth[B_INC]
        self.gen: int = birth[B_GEN]
        self.name: str = birth[B_NAME]
        self.parent: list[Any] | None = birth[B_PARENT]
        self.version: str | None = None
        #: A rerun keeps the seed of the run whose decisions it repeats.
        self._seed: str | None = None
        extra = birth[B_EXTRA]
        if extra:
            self.version, self._seed = extra.get("version"), extra.get("seed")
        self.host = host
        self.open: dict[int, OpenTask] = {}
        self.mailbox: Mailbox | None = None
        self.next_id = 0
        self.suspended = False
        self.replaying = False
        self.custom: Payload = UNSET
        self.continuation: tuple[Payload, bool] | None = None
        self.mismatch: NonDeterministicWorkflow | None = None
        self._patches: dict[str, bool] = {}
        self._uuids = 0
        self._short: str | None = None
        # Bound once: they are called for every task of every turn.
        self._encode = host.encode
        self._plain = host.plain
        self.most_actions = host.limits.actions_per_turn
        # The current turn.
        self.now_ms: int = birth[B_CREATED]
        self.nonce = ""
        self.actions: list[Action] = _NO_ACTIONS
        self.limit = -1
        self.dying = False
        #: The generation's history is at its limit: it may only end, or continue as new.
        self.full = False
        self.recorded: RecordedTurn | None = None
        self.cancelled: list[tuple[int, str]] | tuple[()] = ()
        self.handed = 0
        self._custom_at: int | None = None

    @property
    def seed(self) -> str:
        """What random numbers and UUIDs are made from; few instances ask for any."""
        return self._seed or f"{self.id}:{self.inc}:{self.gen}"

    # -- the turn's frame, called by the instance

    def open_turn(self, now_ms: int, nonce: str, recorded: RecordedTurn | None) -> None:
        """Begin to collect the decisions of one turn."""
        self.now_ms = now_ms
        self.nonce = nonce
        self.actions = []
        self.cancelled = ()
        self.handed = 0
        self.custom = UNSET
        self.recorded = recorded
        self._custom_at = None
        self.full = False
        self.limit = self.most_actions

    def open_step(self) -> None:
        """Go on to collect decisions: a step of a turn may decide as much as a turn."""
        self.limit = len(self.actions) + self.most_actions
        # What was shown at an earlier step stays in the history.
        self._custom_at = None

    def fill(self) -> None:
        """Refuse what would make the history longer, in the present turn."""
        self.full = True
        self.limit = 0

    def close(self) -> None:
        """Refuse every further decision: between turns, and after the end."""
        self.limit = -1

    def forget_turn(self) -> None:
        """Let go of what the last turn decided: others have it now."""
        self.actions = _NO_ACTIONS

    def kill(self) -> None:
        """Refuse every decision for good and fall silent: the code is about to be dropped."""
        self.dying = True
        self.replaying = True
        self.limit = -1

    def satisfied(self, waiter: OpenTask) -> None:
        """Close an event wait whose event has come; its timeout is not needed any more."""
        action = waiter.action
        if self.open.pop(action[1], None) is None or not action[3]:
            return
        if waiter.nonce != self.nonce:
            # None are kept where nothing is cancelled: an instance in memory has no list for it.
            self.cancelled = self.cancelled or []
            self.cancelled.append((action[1], waiter.nonce))
        elif self.recorded is None:
            action[3] = None  # decided in this very turn: the timer is never set

    def decide(self, action: Action) -> Action:
        """Add an action that the engine, not the code, asks for."""
        if self.recorded is not None:
            action = self._match(action)
        self.actions.append(action)
        return action

    # -- what workflow code asks for

    def call_activity(self, activity: Any, value: Any, opts: dict[str, Any] | None) -> Task[Any]:
        name, decode = self.host.activity_ref(activity)
        if value is NO_INPUT:
            payload = None
            if opts is None:
                opts = _ONLY_NO_INPUT
            else:
                opts["n"] = True
        else:
            payload = self._encode(value, "input of activity", name)
        task_id = self.next_id
        if len(self.actions) >= self.limit:
            self._refuse()
        self.next_id = task_id + 1
        action: Action = ["A", task_id, name, payload, opts]
        if self.recorded is not None:
            action = self._match(action)
        self.actions.append(action)
        task: SingleTask[Any] = SingleTask(self, "activity", name, decode)
        self.open[task_id] = OpenTask("A", self.nonce, action, self.now_ms, task)
        return task

    def call_child(
        self, workflow: Any, value: Any, instance_id: str | None, retry: Any, app_id: str | None
    ) -> Task[Any]:
        name, decode = self.host.workflow_ref(workflow)
        opts: dict[str, Any] = {}
        if app_id is not None:
            opts["q"] = checked_queue(app_id)
        if retry is not None:
            opts["r"] = checked_retry(retry)
        if value is NO_INPUT:
            payload = None
            opts["n"] = True
        else:
            payload = self._encode(value, "input of child workflow", name)
        if instance_id is not None:
            checked_child_id(instance_id)
        self._check_limit()
        task: SingleTask[Any] = SingleTask(self, "child workflow", name, decode)
        opened = self._start_child(name, instance_id, payload, opts or None, task)
        opts = opened.action[5] or {}
        if "r" in opts:
            opened.retry = ChildRetry(
                name=name,
                payload=opened.action[4],
                opts=opts,
                user_id=instance_id,
                task=task,
                started_ms=self.now_ms,
                seed=f"{self.seed}:{opened.action[1]}",
            )
        return task

    def start_detached(
        self, workflow: Any, value: Any, instance_id: str | None, app_id: str | None
    ) -> str:
        name, _ = self.host.workflow_ref(workflow)
        opts: dict[str, Any] = {} if app_id is None else {"q": checked_queue(app_id)}
        payload = None
        if value is NO_INPUT:
            opts["n"] = True
        else:
            payload = self._encode(value, "input of workflow", name)
        if instance_id is None:
            # New in every incarnation, so that a rerun does not ask for ids that are taken.
            run = f"{self.id}:{self.inc}:{self.gen}:{self.nonce}:{len(self.actions)}"
            instance_id = hashlib.sha256(run.encode()).hexdigest()[:32]
        else:
            checked_child_id(instance_id)
        self._check_limit()
        action = self.decide([act.START_DETACHED, instance_id, name, payload, opts or None])
        return str(action[1])

    def create_timer(self, fire_at: datetime | timedelta) -> Task[None]:
        due = due_ms(fire_at, self.now_ms, "fire_at")
        self._check_limit()
        task: SingleTask[None] = SingleTask(self, "timer", str(self.next_id), self._plain)
        self._open_timer(due, task, None)
        return task

    def wait_for_event(self, name: str, timeout: timedelta | datetime | None) -> Task[Any]:
        checked_name(name, "the event name")
        due = None if timeout is None else due_ms(timeout, self.now_ms, "timeout")
        if isinstance(timeout, timedelta) and timeout < timedelta(0):
            due = None  # Dapr's way to say "for ever"
        self._check_limit()
        mailbox = self.mail()
        event = mailbox.take(name)
        if event is not None:
            due = None
        elif due is not None and due <= self.now_ms:
            due = 0
        task_id = self._new_id()
        action = self.decide([act.WAIT_FOR_EVENT, task_id, name, due])
        task: SingleTask[Any] = SingleTask(self, "event", name, self._plain)
        if event is not None:
            self.handed += 1
            task._complete(event[4])
        elif action[3] == 0:
            task._fail(event_timeout(name))
        else:
            opened = OpenTask("E", self.nonce, action, self.now_ms, task)
            self.open[task_id] = opened
            mailbox.wait(name, opened)
        return task

    def continue_as_new(self, new_input: Any, save_events: bool) -> None:
        payload = self._encode(new_input, "input of continue_as_new", self.name)
        self._check_open()
        self.continuation = (payload, save_events)

    def set_custom_status(self, value: Any) -> None:
        payload = self._encode(value, "custom status of", self.name)
        self._check_small()
        self.custom = payload
        if self.recorded is not None:
            return
        # Only the last status of a turn is ever seen, so only that is recorded.
        action = [act.SET_CUSTOM_STATUS, payload]
        if self._custom_at is None:
            self._custom_at = len(self.actions)
            self.actions.append(action)
        else:
            self.actions[self._custom_at] = action

    def send_event(self, instance_id: str, name: str, data: Any) -> None:
        checked_target_id(instance_id)
        checked_name(name, "the event name")
        payload = self._encode(data, "data of event", name)
        self._check_limit()
        self.decide([act.SEND_EVENT, instance_id, name, payload])

    def is_patched(self, name: str) -> bool:
        checked_name(name, "the patch name")
        answer = self._patches.get(name)
        if answer is None:
            self._check_small()
            if self.recorded is not None:
                answer = self.recorded.take_patch(name)
            else:
                answer = True
                self.actions.append([act.PATCH_MARKER, name, True])
            self._patches[name] = answer
        return answer

    def next_uuid(self) -> int:
        self._uuids += 1
        return self._uuids

    # -- for the engine

    def mail(self) -> Mailbox:
        """Return the mailbox, made at first use: most instances never get an event."""
        if self.mailbox is None:
            self.mailbox = Mailbox()
        return self.mailbox

    def retry_later(self, retry: ChildRetry, delay_ms: int) -> None:
        """Open the timer after which a failed child is started again."""
        retry.attempt += 1
        self._open_timer(self.now_ms + delay_ms, None, retry)

    def retry_now(self, retry: ChildRetry) -> None:
        """Start a failed child again, under a new task id."""
        opts = retry.opts
        if retry.user_id is not None:
            opts = {**opts, "x": True}
        opened = self._start_child(retry.name, retry.user_id, retry.input, opts, retry.task)
        opened.retry = retry

    def _start_child(
        self,
        name: str,
        instance_id: str | None,
        payload: Payload,
        opts: dict[str, Any] | None,
        task: SingleTask[Any] | None,
    ) -> OpenTask:
        task_id = self._new_id()
        child_id = instance_id or f"{self.id}~{self._short_run()}{task_id}"
        action = self.decide([act.START_CHILD, task_id, name, child_id, payload, opts])
        opened = OpenTask("W", self.nonce, action, self.now_ms, task)
        self.open[task_id] = opened
        return opened

    def _open_timer(self, due: int, task: SingleTask[Any] | None, retry: ChildRetry | None) -> None:
        task_id = self._new_id()
        action = self.decide([act.CREATE_TIMER, task_id, due])
        self.open[task_id] = OpenTask("T", self.nonce, action, self.now_ms, task, retry)

    def _new_id(self) -> int:
        task_id = self.next_id
        self.next_id = task_id + 1
        return task_id

    def _short_run(self) -> str:
        """Six characters that differ between incarnations and generations."""
        if self._short is None:
            run = f"{self.inc}.{self.gen}".encode()
            self._short = hashlib.sha256(run).hexdigest()[:6]
        return self._short

    def _match(self, action: Action) -> Action:
        assert self.recorded is not None
        try:
            return self.recorded.match(action)
        except NonDeterministicWorkflow as exc:
            # Kept, and thrown as what `except Exception` in the workflow cannot stop. Only the
            # first counts: code that swallows it goes on to others.
            self.mismatch = self.mismatch or exc
            self.dying = True
            self.limit = -1
            raise TurnAborted("the code does not fit its history") from None

    def _check_limit(self) -> None:
        if len(self.actions) >= self.limit:
            self._refuse()

    def _check_open(self) -> None:
        if self.limit < 0:
            self._refuse()

    def _check_small(self) -> None:
        """Check for an action that hardly lengthens a history, and may help to end it."""
        if self.full:
            self._check_open()
        else:
            self._check_limit()

    def _refuse(self) -> None:
        if self.dying:
            # Thrown so that `except Exception` in a `finally` that still runs cannot go on.
            raise TurnAborted(f"instance {self.id!r} was discarded")
        if self.limit < 0:
            raise WorkflowMisuse(f"the context of {self.id!r} was used outside of its own turn")
        if self.full:
            raise HistoryTooLong(
                f"instance {self.id!r} has consumed {self.host.limits.history_events} events since "
                "it last continued as new, and may only end now; call ctx.continue_as_new() in "
                "time, or raise limits.history_events"
            )
        raise WorkflowMisuse(
            f"more than {self.most_actions} actions in one turn; await some tasks before "
            "scheduling more, or use child workflows"
        )


def event_timeout(name: str) -> TimeoutError:
    """Return what awaiting an event wait raises when its timeout has passed."""
    return TimeoutError(f"no event {name!r} came in time")
