"""The order fuzzer: one workflow under thousands of orders of what may happen to it.

What counts as a failure of a run, `Finding.kind`:

``nondeterminism``  run again over its own history the code decides otherwise, payloads included
``failed``          the workflow FAILED with a programming error, or with any error though no
                    fault was put in: also when an activity itself raised. A fault that it
                    lets through (an injected failure, a timeout) is its right, unless
                    `must_complete` is asked for
``stuck``           it has not ended and nothing can happen any more, although every event that
                    was given has come. Waiting for an event that was not given is no failure
``stalled``         it needs an activity or a child that the app has not
``hangs``           its code runs without ever waiting (found by a watchdog: the CLI has one)
``check``           the user's own `check` raised, or returned False
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import orjson

from wfq.core.failures import details_from_failure
from wfq.core.ports import NO_INPUT, TurnAborted
from wfq.errors import ConfigurationError, FailureDetails, NonDeterministicWorkflow
from wfq.management.history import HistoryEvent, expand
from wfq.testing.activities import Done, Performer, Task, make_mock
from wfq.testing.director import INJECTED, Attempted, Director, Given, draw
from wfq.testing.environment import START, Env, epoch_ms
from wfq.testing.lives import Life
from wfq.testing.world import Stuck

#: Steps of one run; an eternal workflow is left alone then.
MAX_STEPS = 400
#: Runs that shrinking may take.
MAX_SHRINKS = 1_000

#: Errors of the code itself. Not deliberate, whatever they follow.
_MISTAKES = frozenset(
    (
        "ArithmeticError", "AssertionError", "AttributeError", "IndexError", "KeyError",
        "LookupError", "NameError", "NotImplementedError", "OverflowError", "PayloadError",
        "RecursionError", "StopIteration", "SyntaxError", "SystemExit", "TypeError",
        "UnboundLocalError", "WorkflowMisuse", "ZeroDivisionError",
    )
)  # fmt: skip
#: Types of what the fuzzer, or the virtual clock, does to a workflow.
_FAULTS = frozenset((INJECTED, "ActivityTimeout", "TimeoutError", "WorkflowTerminated"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, for `check`.

    status: as of an instance. output, failure: of the workflow. steps: what happened, in
    order. attempts: of activities, children's too, in order, repeated runs included.
    """

    status: str
    output: Any
    failure: FailureDetails | None
    history: list[HistoryEvent]
    attempts: list[Attempted]
    steps: list[str]

    def done(self, name: str) -> list[Any]:
        """The inputs of the attempts of an activity that ended well."""
        return [attempt.input for attempt in self.attempts if attempt.ok and attempt.name == name]


@dataclass(frozen=True, slots=True)
class Finding:
    """A failing run. `script`: the few steps that it takes, besides the usual ones."""

    kind: str
    message: str
    script: list[str]
    outcome: Outcome
    run: int = 0

    def explain(self) -> str:
        """Return the finding for people: what, the script, and all that happened."""
        lines = [f"{self.kind}: {self.message}", ""]
        if self.script:
            lines.append("It takes these steps; everything else goes as usual:")
            lines += [f"  {step}" for step in self.script]
        else:
            lines.append("It happens in the usual order, without any fault.")
        lines += ["", "All that happened:"]
        steps = self.outcome.steps
        lines += [f"  {number:3} {step}" for number, step in enumerate(steps[:60], 1)]
        if len(steps) > 60:
            lines.append(f"  ... and {len(steps) - 60} more")
        lines.append(f"  {self.outcome.status}")
        return "\n".join(lines)


@dataclass(slots=True)
class Report:
    """What a search did. `statuses`: how runs ended. `waiting`: events that were not given."""

    runs: int = 0
    orders: int = 0
    finding: Finding | None = None
    statuses: dict[str, int] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)


Check = Callable[[Outcome], object]


@dataclass(slots=True)
class Subject:
    """What is fuzzed; see `fuzz`."""

    env: Env
    name: str
    payload: Any
    given: bool
    events: Sequence[Given]
    check: Check | None
    must_complete: bool
    allow: frozenset[str]
    max_steps: int
    #: Around each run: raises TurnAborted into code that does not yield.
    guard: Callable[[], AbstractContextManager[object]] = nullcontext

    def run(
        self, number: int, rng: random.Random | None, script: Sequence[str] = ()
    ) -> tuple[Director, Finding | None]:
        """Run once: by a seed, or a script and then in the usual order."""
        performer = self.env._world.performer
        director = Director(performer, epoch_ms(START), self.events, seed=number)
        director.start(self.name, self.payload, self.given)
        try:
            with self.guard():
                self._drive(director, rng, script)
            finding = self._judge(director)
        except NonDeterministicWorkflow as exc:
            finding = self._finding(director, "nondeterminism", str(exc))
        except (TurnAborted, Stuck) as exc:
            finding = self._finding(director, "hangs", str(exc))
        director.missing = _missing_events(director)
        for life in director.world.lives.values():
            life.instance.discard()
        return director, finding

    def _drive(self, director: Director, rng: random.Random | None, script: Sequence[str]) -> None:
        if rng is not None:
            for step, chosen in draw(director, rng):
                if director.perform(step) and chosen:
                    director.tape.chosen.append(step)
                if len(director.tape.trail) >= self.max_steps:
                    break
        for step in script:
            self._reach(director, step)
        # Whatever was disturbed: from here on everything goes well, and so it must end.
        for _ in range(self.max_steps):
            usual = director.usual()
            if usual is None or not director.perform(usual):
                return

    def _reach(self, director: Director, step: str) -> None:
        """Let a step of a script happen, as soon as the usual course has made it possible."""
        for _ in range(self.max_steps):
            if director.perform(step):
                director.tape.chosen.append(step)
                return
            usual = director.usual()
            if usual is None or not director.perform(usual):
                return

    def _finding(self, director: Director, kind: str, message: str) -> Finding:
        outcome = self._outcome(director)
        return Finding(kind, message, list(director.tape.chosen), outcome)

    def _outcome(self, director: Director) -> Outcome:
        root, codec = director.root, director.world.registry.codec
        failure = output = None
        last = root.records[-1]
        if root.ended:
            action = last[4][-1]
            if action[0] == "!":
                failure = details_from_failure(action[1])
            else:
                output = codec.plain(action[1])
        history = expand(root.records, codec)
        tape = director.tape
        return Outcome(root.status, output, failure, history, tape.attempts, tape.trail)

    def _judge(self, director: Director) -> Finding | None:
        root = director.root
        outcome = self._outcome(director)
        if outcome.failure is not None:
            why = self._unexpected(outcome.failure)
            if why:
                return self._finding(director, "failed", why)
        elif not root.ended:
            found = self._stays(director, root)
            if found is not None or self._unfinished(director):
                return found
        if self.check is not None and root.ended:
            return self._checked(director, outcome)
        return None

    def _unexpected(self, failure: FailureDetails) -> str:
        """Say why a workflow must not have failed so; "" when it may."""
        said = f"{failure.error_type}: {failure.message}"
        if failure.error_type in self.allow:
            return ""
        if self.must_complete or failure.error_type in _MISTAKES:
            return said
        link: FailureDetails | None = failure
        while link is not None:
            if link.error_type in _FAULTS or link.error_type in self.allow:
                return ""
            link = link.cause
        return f"{said}, though no fault was put in"

    def _stays(self, director: Director, root: Life) -> Finding | None:
        world = director.world
        for life in world.lives.values():
            if life.stalled and not life.ended:
                return self._finding(director, "stalled", life.stalled)
        if self._unfinished(director):
            return None
        if _missing_events(director):
            return None
        return self._finding(director, "stuck", root.explain())

    def _unfinished(self, director: Director) -> bool:
        return director.usual() is not None or bool(_missing_events(director))

    def _checked(self, director: Director, outcome: Outcome) -> Finding | None:
        assert self.check is not None
        try:
            answer = self.check(outcome)
        except Exception as exc:
            # pytest explains an assertion in further lines.
            message = (str(exc).strip() or type(exc).__name__).splitlines()[0]
            return self._finding(director, "check", f"{_name(self.check)}: {message}")
        if answer is False:
            return self._finding(director, "check", f"{_name(self.check)} returned False")
        return None

    # -- searching

    def search(
        self, seeds: int, seed: int, progress: Callable[[int], object] | None = None
    ) -> Report:
        """Run until something is found or `seeds` runs are over; run 0 is the usual order."""
        report = Report()
        seen: set[tuple[str, ...]] = set()
        for number in range(seeds):
            rng = random.Random(f"{seed}:{number}") if number else None
            director, finding = self.run(number, rng)
            report.runs += 1
            seen.add(tuple(director.tape.trail))
            status = director.root.status
            report.statuses[status] = report.statuses.get(status, 0) + 1
            report.waiting |= director.missing
            if progress is not None:
                progress(report.runs)
            if finding is not None:
                report.finding = self.shrink(finding, number)
                break
        report.orders = len(seen)
        return report

    def shrink(self, finding: Finding, number: int) -> Finding:
        """Leave out of a script whatever it does not take."""
        left = MAX_SHRINKS

        def still(script: list[str]) -> Finding | None:
            nonlocal left
            left -= 1
            found = self.run(number, None, script)[1] if left > 0 else None
            same = found is not None and _key(found) == _key(finding)
            return found if same else None

        # The random part is replaced by a script of all steps, then of fewer and fewer.
        best = still(list(finding.outcome.steps))
        if best is None:
            return Finding(
                finding.kind, finding.message, finding.outcome.steps, finding.outcome, number
            )
        script = list(finding.outcome.steps)
        size = len(script)
        while size >= 1:
            start, smaller = 0, False
            while start < len(script):
                shorter = script[:start] + script[start + size :]
                found = still(shorter)
                if found is None:
                    start += size
                else:
                    script, best, smaller = shorter, found, True
            size = size // 2 if not (smaller and size == 1) else 1
        return Finding(best.kind, best.message, script, best.outcome, number)


def _key(finding: Finding) -> tuple[str, str]:
    """What makes two findings the same: the kind, and the type of what was raised."""
    failure = finding.outcome.failure
    if finding.kind == "failed" and failure is not None:
        return finding.kind, failure.error_type
    return finding.kind, finding.message.partition(":")[0] if finding.kind == "check" else ""


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", "check"))


def _missing_events(director: Director) -> set[str]:
    """Names of events that live instances wait for and that were never given."""
    given = {event.name.casefold() for event in director._given}
    found = set()
    for life in director.world.lives.values():
        if life.ended:
            continue
        for opened in life.instance.open.values():
            if opened.kind == "E" and opened.action[2].casefold() not in given:
                found.add(opened.action[2])
    return found


class _Remembering(Performer):
    """Calls each activity once for each input, and remembers what came of it."""

    def perform(self, task: Task, now_ms: int) -> Done:
        if task.name in self.mocks:
            return Performer.perform(self, task, now_ms)
        key = (task.name, orjson.dumps(task.payload))
        known = self.known.get(key)
        if known is None:
            known = self.known[key] = Performer.perform(self, task, now_ms)
        return known

    known: dict[tuple[str, bytes], Done]


def make_subject(
    workflow: Callable[..., Any] | str,
    input: Any = NO_INPUT,  # noqa: A002 - the client's name
    *,
    app: Any = None,
    events: Sequence[tuple[str, Any]] | Mapping[str, Any] = (),
    activities: Mapping[Any, Any] | None = None,
    check: Check | None = None,
    must_complete: bool = False,
    allow: Sequence[str | type[BaseException]] = (),
    max_steps: int = MAX_STEPS,
) -> Subject:
    """Return what `fuzz` fuzzes. Raises: ConfigurationError, PayloadError."""
    env = Env(app)
    if app is None and not isinstance(workflow, str):
        env._find_app(workflow)
    registry = env._world.registry
    name = registry.workflow_ref(workflow)[0]
    if registry.find_workflow(name) is None:
        known = ", ".join(sorted({entry.name for entry in registry.workflows()}))
        raise ConfigurationError(f"the app has no workflow {name!r}; it has {known}")
    performer = _Remembering(registry, env._mocks)
    performer.known = {}
    env._world.performer = performer
    for activity, behaviour in (activities or {}).items():
        label = env._name_of(activity)
        env._mocks[label] = make_mock(label, behaviour)
    pairs = list(events.items()) if isinstance(events, Mapping) else list(events)
    given = input is not NO_INPUT and input is not None
    return Subject(
        env=env,
        name=name,
        payload=registry.encode(input, "input of workflow", name) if given else None,
        given=given,
        events=[Given(n, registry.encode(data, "data of event", n)) for n, data in pairs],
        check=check,
        must_complete=must_complete,
        allow=frozenset(a if isinstance(a, str) else a.__name__ for a in allow),
        max_steps=max_steps,
    )


class Found(AssertionError):
    """The fuzzer has found a failing order; `finding` tells which."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.explain())
        self.finding = finding


def fuzz(
    workflow: Callable[..., Any] | str,
    input: Any = NO_INPUT,  # noqa: A002 - the client's name
    *,
    seeds: int = 300,
    seed: int = 0,
    script: Sequence[str] | None = None,
    **options: Any,
) -> Report:
    """Run a workflow in memory under many orders of what may happen; fail with the shortest.

    app: as of `Env`. events: external events that may come at any time, as a dict or as pairs
    of name and data. activities: mocks by function or name, as `Env.mock` takes them; others are
    called for real, once for each input, and their answer is remembered. check: called with the
    `Outcome` of every run that ended; it fails the run by raising or returning False.
    must_complete: no fault excuses a FAILED workflow. allow: names or classes of errors that
    the workflow may fail with. seeds: how many runs. seed: what they are
    drawn from. script: run once, with these steps, such as those of an earlier finding.

    Returns what was done. Raises: AssertionError with the finding, shrunk.
    """
    subject = make_subject(workflow, input, **options)
    try:
        if script is not None:
            finding = subject.run(0, None, script)[1]
            report = Report(runs=1, orders=1, finding=finding)
        else:
            report = subject.search(seeds, seed)
    finally:
        subject.env.close()
    if report.finding is not None:
        raise Found(report.finding)
    return report
