"""Drives a world in an order that a seed draws, or that a script says.

A step is a short text, so that a script can be read, edited and run again:

==================  ======================================================================
``start``           the start reaches the instance
``complete a#1``    activity `a`, task 1, ends well (``child b#2`` likewise reports)
``fail a#1``        an attempt of it fails; its retry policy decides what follows
``time-out a#1``    it is silent until its timeout
``repeat a#1``      its outcome arrives a second time
``fire timer#2``    the timer, retry or timeout that is due next; the clock goes on to it
``raise e#0``       the external event number 0, `e`, arrives: early, in time or late
``raise-again e#0`` it arrives a second time, under the same event id
``crash``           every worker dies; the instances are loaded from their histories
``lose-turn``       the worker dies before the commit of its next turn, which is run again
``suspend``         the instance is suspended; ``resume`` lets it go on
==================  ======================================================================

A step of a child ends with ``@`` and the child's workflow and number: ``fail a#0 @ship.1``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.events import Event
from wfq.core.failures import make_failure
from wfq.core.turn import SUSPENDED, Turn
from wfq.testing.activities import Done, Performer, Task
from wfq.testing.lives import Life
from wfq.testing.world import Arrival, Firing, Item, World

#: Type of the failures that the fuzzer makes up.
INJECTED = "InjectedFailure"
#: Kinds of steps that a seed switches on or off for its whole run: runs that mix everything
#: find less than runs that mix some things.
FAULTS = (
    "fail", "time-out", "repeat", "raise", "raise-again", "crash", "lose-turn", "suspend", "fire",
    "shuffle",
)  # fmt: skip
#: The instance that is fuzzed.
ROOT = "fuzz"


@dataclass(frozen=True, slots=True)
class Given:
    """An external event that may come at any time. `data` is a payload."""

    name: str
    data: Any

    def label(self, number: int) -> str:
        return f"{self.name}#{number}"


@dataclass(slots=True)
class Attempted:
    """An attempt of an activity: what it was called with and how it ended."""

    name: str
    input: Any
    ok: bool
    result: Any = None
    error: str = ""


@dataclass(slots=True)
class Tape:
    """What happened in one run. `trail`: every step. `chosen`: those not in the usual order."""

    trail: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    attempts: list[Attempted] = field(default_factory=list)


class FuzzWorld(World):
    """A world whose turns may be lost before their commit."""

    lose_next = False

    def deliver(self, instance_id: str, event: Event) -> Turn | None:
        life = self.lives.get(instance_id)
        if self.lose_next and life is not None and not life.ended:
            self.lose_next = False
            life.instance.apply([list(event)], self.now_ms, "lost")
            life.instance.discard()
            life.instance = self._load(life)
        return super().deliver(instance_id, event)


class Director:
    """One run: a world, what may happen in it, and what happens by itself."""

    def __init__(
        self, performer: Performer, now_ms: int, given: Sequence[Given], *, seed: int = 0
    ) -> None:
        self.world = FuzzWorld(performer, now_ms, seed=seed)
        self.tape = Tape()
        self._given = given
        self._unraised = list(range(len(given)))
        self._raised_once: list[int] = []
        self._outcomes: dict[str, tuple[str, Event]] = {}
        self._aliases: dict[str, str] = {}
        #: Names of events that somebody still waited for at the end and that were never given.
        self.missing: set[str] = set()

    def start(self, name: str, payload: Any, given: bool) -> None:
        """Create the instance that is fuzzed."""
        self.world.start(name, payload, given, instance_id=ROOT)

    @property
    def root(self) -> Life:
        return self.world.lives[ROOT]

    @property
    def over(self) -> bool:
        """Whether the root has ended and nothing is left to happen at once."""
        return self.root.ended and not self.world.ready

    # -- what may happen

    def steps(self) -> dict[str, list[str]]:
        """Return the steps that are possible now, by kind."""
        found: dict[str, list[str]] = {"shuffle": [], "fail": [], "time-out": []}
        for item in self.world.ready:
            label = self._label(item)
            if not isinstance(item, Task):
                found["shuffle"].append(label)
                continue
            found["shuffle"].append(f"complete {label}")
            found["fail"].append(f"fail {label}")
            if self.world.limit_of(item) is not None:
                found["time-out"].append(f"time-out {label}")
        due = next(self.world.due(), None)
        found["fire"] = [] if due is None else [self._label(due[1])]
        found["raise"] = [f"raise {self._given[n].label(n)}" for n in self._unraised]
        found["raise-again"] = [f"raise-again {self._given[n].label(n)}" for n in self._raised_once]
        found["repeat"] = [f"repeat {label}" for label in self._outcomes]
        live = [life for life in self.world.lives.values() if not life.ended]
        found["crash"] = ["crash"] if live else []
        found["lose-turn"] = ["lose-turn"] if live and not self.world.lose_next else []
        found["suspend"] = [
            ("resume" if life.status == SUSPENDED else "suspend") + self._at(life.instance_id)
            for life in live
        ]
        return found

    def usual(self) -> str | None:
        """Return what happens when nothing is disturbed; None when nothing can happen."""
        for life in self.world.lives.values():
            if life.status == SUSPENDED:
                return "resume" + self._at(life.instance_id)
        if self.world.ready:
            item = self.world.ready[0]
            return f"complete {self._label(item)}" if isinstance(item, Task) else self._label(item)
        if self.root.ended:
            return None
        for number in self._unraised:
            if self._awaited(self._given[number].name):
                return f"raise {self._given[number].label(number)}"
        due = next(self.world.due(), None)
        if due is not None:
            return self._label(due[1])
        if self._unraised:
            return f"raise {self._given[self._unraised[0]].label(self._unraised[0])}"
        return None

    def _awaited(self, name: str) -> bool:
        return any(
            opened.kind == act.WAIT_FOR_EVENT and opened.action[2].casefold() == name.casefold()
            for opened in self.root.instance.open.values()
        )

    # -- letting it happen

    def perform(self, step: str) -> bool:
        """Let a step happen; False when it is not possible now.

        Raises: NonDeterministicWorkflow when a replay decides otherwise.
        """
        verb, _, subject = step.partition(" ")
        verb, at, alias = verb.partition("@") if "@" in verb else (verb, "", "")
        return self._do(verb, f"@{alias}" if at else subject, step)

    def _do(self, verb: str, subject: str, step: str) -> bool:
        world = self.world
        if verb in ("complete", "fail", "time-out"):
            task = self._ready(subject)
            if not isinstance(task, Task):
                return False
            limit = world.limit_of(task)
            if verb == "time-out" and limit is None:
                return False
            self.tape.trail.append(step)
            world.ready.remove(task)
            self._end(task, verb, limit)
            return True
        if verb in ("raise", "raise-again"):
            return self._raise(verb, subject, step)
        if verb == "crash":
            self.tape.trail.append(step)
            for instance_id in list(world.lives):
                world.crash(instance_id)
            return True
        if verb == "lose-turn":
            if world.lose_next:
                return False
            self.tape.trail.append(step)
            world.lose_next = True
            return True
        if verb in ("suspend", "resume"):
            return self._command(verb, subject, step)
        if verb == "repeat":
            if subject not in self._outcomes:
                return False
            self.tape.trail.append(step)
            instance_id, event = self._outcomes.pop(subject)
            world.deliver(instance_id, event)
            return True
        return self._happen(step)

    def _happen(self, step: str) -> bool:
        """Let an arrival or a timer happen, by its own label."""
        world = self.world
        item = self._ready(step)
        if item is None:
            due = next(world.due(), None)
            if due is None or self._label(due[1]) != step:
                return False
            item = due[1]
            self.tape.trail.append(step)
            world.take_due(item)
            if isinstance(item, Task):
                world.ready.append(item)  # a retry: its attempt may end well or not
                return True
        else:
            self.tape.trail.append(step)
            world.ready.remove(item)
        world.perform(item)
        return True

    def _end(self, task: Task, verb: str, limit: Any) -> None:
        world = self.world
        if verb == "complete":
            if not world.performer.knows(task):
                world.run_task(task)
                return
            done = world.performer.perform(task, world.now_ms)
        elif verb == "fail":
            text = f"{task.name} fails, says the fuzzer"
            done = Done(failure=make_failure(INJECTED, text), names=(INJECTED,))
        else:
            world.advance(world.now_ms + limit[0])
            done = Done(failure=limit[1])
        label = self._label(task)
        self.tape.attempts.append(_attempted(world, task, done))
        event = world.report(task, done)
        if event is not None:
            self._outcomes[label] = (task.instance_id, event)

    def _raise(self, verb: str, subject: str, step: str) -> bool:
        pool = self._unraised if verb == "raise" else self._raised_once
        number = next((n for n in pool if self._given[n].label(n) == subject), None)
        if number is None or (self.root.ended and verb == "raise-again"):
            return False
        self.tape.trail.append(step)
        pool.remove(number)
        if verb == "raise":
            self._raised_once.append(number)
        if not self.root.ended:
            given, root = self._given[number], self.root
            event = [ev.RAISED, root.inc, f"event-{number}", given.name, given.data]
            self.world.deliver(ROOT, event)
        return True

    def _command(self, verb: str, subject: str, step: str) -> bool:
        instance_id = self._instance(subject.removeprefix("@"))
        life = self.world.lives.get(instance_id)
        if life is None or life.ended or (life.status == SUSPENDED) != (verb == "resume"):
            return False
        self.tape.trail.append(step)
        arrival = self.world.command(instance_id, verb, {})
        self.world.ready.remove(arrival)
        self.world.perform(arrival)
        return True

    # -- names

    def _ready(self, label: str) -> Item | None:
        return next((item for item in self.world.ready if self._label(item) == label), None)

    def _label(self, item: Item) -> str:
        if isinstance(item, Arrival):
            return self._arrival(item)
        if isinstance(item, Firing):
            return f"fire {self._timer(item)}{self._at(item.instance_id)}"
        task = item if isinstance(item, Task) else item.task
        retry = item in self.world.ready or not isinstance(item, Task)
        verb = "" if retry else "fire retry of "
        return f"{verb}{task.name}#{task.task_id}{self._at(task.instance_id)}"

    def _timer(self, item: Firing) -> str:
        opened = self.world.lives[item.instance_id].instance.open.get(item.task_id)
        event = opened is not None and opened.kind == act.WAIT_FOR_EVENT
        name = f"timeout of {opened.action[2]}" if event and opened is not None else "timer"
        return f"{name}#{item.task_id}"

    def _arrival(self, item: Arrival) -> str:
        event, at = item.event, self._at(item.instance_id)
        code = event[0]
        if code == ev.STARTED:
            return f"start{at}"
        if code in (ev.COMPLETED, ev.FAILED):
            return f"child #{event[1]}{at}"
        if code == ev.RAISED:
            return f"event {event[3]}{at}"
        return f"{event[3]}{at}"

    def _at(self, instance_id: str) -> str:
        if instance_id == ROOT:
            return ""
        alias = self._aliases.get(instance_id)
        if alias is None:
            name = self.world.lives[instance_id].instance.name
            number = 1 + sum(a.rpartition(".")[0] == name for a in self._aliases.values())
            alias = self._aliases[instance_id] = f"{name}.{number}"
        return f" @{alias}"

    def _instance(self, alias: str) -> str:
        return next((i for i, a in self._aliases.items() if a == alias), ROOT if not alias else "")


def _attempted(world: World, task: Task, done: Done) -> Attempted:
    registry = world.registry
    given = registry.plain(task.payload)
    if done.failure is None:
        return Attempted(task.name, given, True, registry.plain(done.payload))
    return Attempted(task.name, given, False, error=str(done.failure.get("type")))


def draw(director: Director, rng: random.Random) -> Iterator[tuple[str, bool]]:
    """Yield the steps of a random run, each with whether it is not the usual one."""
    on = {fault for fault in FAULTS if rng.random() < 0.5}
    calm = rng.choice((0.3, 0.6, 0.9))
    while True:
        usual = director.usual()
        possible = {kind: steps for kind, steps in director.steps().items() if kind in on and steps}
        if usual is None and not possible.get("raise"):
            return
        if possible and (usual is None or rng.random() > calm):
            step = rng.choice(possible[rng.choice(sorted(possible))])
            yield step, step != usual
        elif usual is not None:
            yield usual, False
        else:
            return
