"""What storage and workers do around the core, in memory and on a virtual clock.

The turns are the core's own. Everything that Redis, orchestrators and workers add is here as
plain values: what is `ready` to happen, and what happens at a later time. Whoever drives a
world chooses the order: `wfq.testing.Env` takes things as they come, the fuzzer does not.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.decisions import UNSET
from wfq.core.events import Action, Event
from wfq.core.failures import make_failure
from wfq.core.instance import Instance
from wfq.core.ports import TurnAborted
from wfq.core.probe import redecide
from wfq.core.retry import is_retryable, next_delay_ms
from wfq.core.turn import CONTINUED, RUNNING, STALLED, Turn
from wfq.errors import WfqError
from wfq.registry import Registry
from wfq.testing.activities import Done, Performer, Task
from wfq.testing.lives import Life

#: A history is replayed in full after each of so many turns, then whenever it has doubled, and at
#: its end: every decision is checked, and a long loop does not cost the square of its turns.
_CHECK_ALWAYS = 16


class Stuck(WfqError, AssertionError):
    """A test waits for what cannot happen; the message says what the instance waits for."""


@dataclass(slots=True, eq=False)
class Arrival:
    """An event on its way to an instance."""

    instance_id: str
    event: Event


@dataclass(slots=True, eq=False)
class Firing:
    """A timer, or the timeout of an event wait."""

    instance_id: str
    task_id: int
    nonce: str


@dataclass(slots=True, eq=False)
class Outcome:
    """The end of an attempt that took its time."""

    task: Task
    done: Done


Item = Arrival | Firing | Task | Outcome


class World:
    """Instances, what is ready to happen, and the clock."""

    def __init__(
        self, performer: Performer, now_ms: int, *, seed: int = 0, check: bool = True
    ) -> None:
        self.performer = performer
        self.registry: Registry = performer.registry
        self.now_ms = now_ms
        self.lives: dict[str, Life] = {}
        self.ready: deque[Item] = deque()
        #: Attempts of activities that nobody knows; they wait for a mock.
        self.parked: list[Task] = []
        #: Told of each turn, once its effects are in place.
        self.on_turn: Callable[[Life, Turn], None] | None = None
        self._check = check
        self._agenda: list[tuple[int, int, Item]] = []
        self._count = itertools.count()
        self._random = random.Random(seed)

    # -- commands

    def start(
        self,
        name: str,
        payload: Any,
        given: bool,
        *,
        instance_id: str,
        queue: str = "default",
        parent: list[Any] | None = None,
        inc: str | None = None,
        delay_ms: int = 0,
        version: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> Life:
        """Create an instance, whose start is ready at once or after `delay_ms`."""
        extra: dict[str, Any] = {} if given else {"noinput": True}
        if tags:
            extra["tags"] = tags
        if version is not None:
            extra["version"] = version
        number = next(self._count)
        birth = _stored(
            [ev.BIRTH, self.now_ms, inc or f"i{number}", 0, name, payload, parent, extra or None]
        )
        instance = Instance.load(instance_id, [birth], self.registry)
        life = Life(
            instance_id, queue, instance, [birth], self.now_ms, self.now_ms, dict(tags or {})
        )
        self.lives[instance_id] = life
        arrival = Arrival(instance_id, [ev.STARTED, life.inc])
        if delay_ms > 0:
            self.later(delay_ms, arrival)
        else:
            self.ready.append(arrival)
        return life

    def raise_event(
        self, instance_id: str, name: str, data: Any, event_id: str | None = None
    ) -> Arrival:
        """Put an external event on its way; data is a payload."""
        inc = self.lives[instance_id].inc
        event_id = event_id or f"e{next(self._count)}"
        arrival = Arrival(instance_id, _stored([ev.RAISED, inc, event_id, name, data]))
        self.ready.append(arrival)
        return arrival

    def command(self, instance_id: str, verb: str, data: dict[str, Any]) -> Arrival:
        """Put a lifecycle command on its way."""
        inc = self.lives[instance_id].inc
        number = f"c{next(self._count)}"
        arrival = Arrival(instance_id, _stored([ev.LIFECYCLE, inc, number, verb, data]))
        self.ready.append(arrival)
        return arrival

    def crash(self, instance_id: str) -> None:
        """Let the worker of an instance die: another loads it from its history."""
        life = self.lives[instance_id]
        if life.ended:
            return
        life.instance.discard()
        life.instance = self._load(life)

    def unpark(self) -> None:
        """Try again what nobody knew."""
        known = [task for task in self.parked if self.performer.knows(task)]
        self.parked = [task for task in self.parked if task not in known]
        self.ready.extend(known)

    # -- time

    def later(self, delay_ms: int, item: Item) -> None:
        """Let something become ready after a while."""
        self._at(self.now_ms + delay_ms, item)

    def _at(self, due_ms: int, item: Item) -> None:
        heapq.heappush(self._agenda, (due_ms, next(self._count), item))

    @property
    def next_due_ms(self) -> int | None:
        """When the next thing is due that is still wanted; None when nothing is."""
        agenda = self._agenda
        while agenda and not self.wanted(agenda[0][2]):
            heapq.heappop(agenda)
        return agenda[0][0] if agenda else None

    def due(self) -> Iterator[tuple[int, Item]]:
        """Yield what will be due and is wanted, earliest first."""
        for due_ms, _, item in sorted(self._agenda, key=lambda entry: entry[:2]):
            if self.wanted(item):
                yield due_ms, item

    def advance(self, to_ms: int) -> None:
        """Set the clock forward and make ready what is due by then. Never backward."""
        self.now_ms = max(self.now_ms, to_ms)
        while self._agenda and self._agenda[0][0] <= self.now_ms:
            item = heapq.heappop(self._agenda)[2]
            if self.wanted(item):
                self.ready.append(item)

    def take_due(self, item: Item) -> None:
        """Take one thing out of its time: the clock goes on to it if it is ahead."""
        for entry in self._agenda:
            if entry[2] is item:
                self._agenda.remove(entry)
                heapq.heapify(self._agenda)
                self.now_ms = max(self.now_ms, entry[0])
                return

    def wanted(self, item: Item) -> bool:
        """Whether something still has an effect: its instance lives and its task is open."""
        if isinstance(item, Arrival):
            return True
        task = item.task if isinstance(item, Outcome) else item
        life = self.lives.get(task.instance_id)
        if life is None:
            return False
        if isinstance(task, Task) and task.number == 1 and not isinstance(item, Outcome):
            return True  # a first attempt runs, whether or not anybody waits for it
        opened = life.instance.open.get(task.task_id)
        return opened is not None and opened.nonce == task.nonce

    # -- what happens

    def perform(self, item: Item) -> None:
        """Let one thing happen. Raises: NonDeterministicWorkflow when a replay differs."""
        match item:
            case Arrival():
                self.deliver(item.instance_id, item.event)
            case Firing():
                if self.wanted(item):
                    self.deliver(item.instance_id, [ev.FIRED, item.task_id, item.nonce])
            case Task():
                self.run_task(item)
            case Outcome():
                self.report(item.task, item.done)

    def deliver(self, instance_id: str, event: Event) -> Turn | None:
        """Run a turn of an instance over one event; None when there is nobody to get it."""
        life = self.lives.get(instance_id)
        if life is None or life.ended:
            return None
        if event[0] in (ev.RAISED, ev.LIFECYCLE) and event[1] != life.inc:
            return None
        nonce = f"n{next(self._count)}"
        turn = life.instance.apply(_stored([event]), self.now_ms, nonce)
        self.now_ms = max(self.now_ms, turn.now_ms)
        self._commit(life, turn)
        return turn

    def _commit(self, life: Life, turn: Turn) -> None:
        record = None if turn.empty else _stored(turn.record())
        if record is not None:
            life.records.append(record)
        life.changed_ms = self.now_ms
        if turn.custom is not UNSET:
            life.custom = _stored(turn.custom)
        life.status = turn.status
        life.stalled = turn.stalled or ""
        if not life.instance.has_code and not turn.ended:
            # A worker gives others some time to show that they have it; here there are none.
            life.status, life.stalled = STALLED, str(life.instance.why)
        if self._check and record is not None:
            self._check_replay(life, turn.ended)
        self._effects(life, turn, [] if record is None else record[ev.T_ACTIONS])
        if turn.status == CONTINUED:
            self._continue(life, turn)
        elif turn.stalled is not None:
            life.instance.discard()
            life.instance = self._load(life)
        if self.on_turn is not None:
            self.on_turn(life, turn)

    def _load(self, life: Life) -> Instance:
        return Instance.load(life.instance_id, _stored(life.records), self.registry)

    def _continue(self, life: Life, turn: Turn) -> None:
        life.generations.append(life.records)
        life.records = [_stored(turn.birth)]
        life.checked = 0
        life.status = RUNNING
        life.instance = self._load(life)
        self.ready.append(Arrival(life.instance_id, [ev.STARTED, life.inc]))

    def _check_replay(self, life: Life, ended: bool) -> None:
        turns = len(life.records)
        if ended or turns <= _CHECK_ALWAYS or turns >= life.checked * 2:
            life.checked = turns
            self.replay(life)

    def replay(self, life: Life) -> None:
        """Run the code over the whole history. Raises: NonDeterministicWorkflow."""
        try:
            redecide(life.instance_id, _stored(life.records), self.registry)
        except TurnAborted:
            raise Stuck(f"the replay of {life.instance_id!r} was aborted") from None

    # -- what a turn asks for

    def _effects(self, life: Life, turn: Turn, actions: list[Action]) -> None:
        waits = not turn.ended
        for index, action in enumerate(actions):
            code = action[0]
            if code == act.SCHEDULE_TASK:
                _, task_id, name, payload, opts = action
                self.ready.append(self._task(life, turn, task_id, name, payload, opts))
            elif code == act.CREATE_TIMER and waits:
                self._at(action[2], Firing(life.instance_id, action[1], turn.nonce))
            elif code == act.WAIT_FOR_EVENT and action[3] and waits:
                self._at(action[3], Firing(life.instance_id, action[1], turn.nonce))
            elif code == act.START_CHILD:
                self._child(life, turn, action)
            elif code == act.SEND_EVENT and action[1] in self.lives:
                self.raise_event(action[1], action[2], action[3], f"{turn.nonce}.{index}")
        for child_id, child_inc in turn.children_to_terminate:
            child = self.lives.get(child_id)
            if child is not None and child.inc == child_inc:
                self.command(child_id, ev.TERMINATE, {"recursive": True})
        if turn.parent_event is not None and life.instance.parent is not None:
            parent_id, parent_inc = life.instance.parent[:2]
            parent = self.lives.get(parent_id)
            if parent is not None and parent.inc == parent_inc:
                self.ready.append(Arrival(parent_id, _stored(turn.parent_event)))

    def _task(
        self, life: Life, turn: Turn, task_id: int, name: str, payload: Any, opts: Any
    ) -> Task:
        return Task(
            life.instance_id, life.run, task_id, turn.nonce, name, payload, opts or {},
            self.now_ms,
        )  # fmt: skip

    def _child(self, life: Life, turn: Turn, action: Action) -> None:
        _, task_id, name, child_id, payload, opts = action
        opts = opts or {}
        if name in self.performer.mocks:
            task = self._task(life, turn, task_id, name, payload, opts)
            # A child's retries are the parent's business: they run inside its turns.
            task.is_child, task.options = True, {k: v for k, v in opts.items() if k == "n"}
            self.ready.append(task)
            return
        taken = self.lives.get(child_id)
        if taken is not None and not (opts.get("x") and taken.ended):
            failure = make_failure(
                "InstanceAlreadyExists",
                f"child workflow {child_id!r} was not started: an instance with this id exists",
            )
            self.ready.append(Arrival(life.instance_id, [ev.FAILED, task_id, turn.nonce, failure]))
            return
        self.start(
            name, payload, not opts.get("n"), instance_id=child_id,
            queue=opts.get("q", life.queue), inc=f"{turn.nonce}.{task_id}",
            parent=[life.instance_id, life.inc, task_id, turn.nonce],
        )  # fmt: skip

    # -- activities

    def run_task(self, task: Task) -> None:
        """Run one attempt and report what came of it, at once or when its time is over."""
        if not self.performer.knows(task):
            text = f"no worker of queue 'default' knows activity {task.name!r}; mock or register it"
            self.parked.append(task)
            self.deliver(task.instance_id, [ev.UNKNOWN_ACTIVITY, task.task_id, task.nonce, text])
            return
        done = self.performer.perform(task, self.now_ms)
        limit = self.limit_of(task)
        if limit is not None and (done.hangs or done.after_ms > limit[0]):
            self.later(limit[0], Outcome(task, Done(failure=limit[1])))
        elif done.hangs:
            return
        elif done.after_ms:
            self.later(done.after_ms, Outcome(task, done))
        else:
            self.report(task, done)

    def limit_of(self, task: Task) -> tuple[int, dict[str, Any]] | None:
        """Milliseconds after which a silent attempt is given up, and its failure then."""
        run_ms: int | None = task.options.get("t")
        silence_ms: int | None = task.options.get("h")
        if run_ms is None and silence_ms is None:
            return None
        name = task.name
        if silence_ms is not None and (run_ms is None or silence_ms < run_ms):
            text = f"activity {name!r} sent no heartbeat for {silence_ms / 1000:g} s"
            return silence_ms, make_failure("ActivityTimeout", text)
        assert run_ms is not None
        text = f"activity {name!r} ran longer than its timeout of {run_ms / 1000:g} s"
        return run_ms, make_failure("ActivityTimeout", text)

    def report(self, task: Task, done: Done) -> Event | None:
        """Deliver the outcome of an attempt, or let its retry policy try again later.

        Returns the event that was delivered, None when there will be another attempt.
        """
        if done.failure is not None:
            policy = task.options.get("r")
            if policy is not None and is_retryable(policy, done.failure, done.names):
                elapsed_ms = self.now_ms - task.scheduled_ms
                delay_ms = next_delay_ms(policy, task.number, elapsed_ms, self._random.random)
                if delay_ms is not None:
                    task.number += 1
                    self.later(delay_ms, task)
                    return None
            event: Event = [ev.FAILED, task.task_id, task.nonce, done.failure]
        else:
            event = [ev.COMPLETED, task.task_id, task.nonce, done.payload]
        if task.number > 1:
            event.append(task.number)
        self.deliver(task.instance_id, event)
        return event


def _stored(value: Any) -> Any:
    """What comes back when a value is written to Redis and read again."""
    return orjson.loads(orjson.dumps(value))
