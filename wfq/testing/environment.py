"""`Env`: workflows in one process, in memory, on a virtual clock. The fixture `wfq_env`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from wfq.core.ports import NO_INPUT
from wfq.errors import ConfigurationError, InstanceAlreadyExists, InstanceFinished, InstanceNotFound
from wfq.management.history import HistoryEvent, expand
from wfq.management.state import WorkflowState, WorkflowStatus, from_ms
from wfq.registry import Registry, WorkflowEntry, is_workflow_function
from wfq.runtime import WorkflowRuntime
from wfq.testing.activities import Call, Mock, Performer, make_mock
from wfq.testing.handle import Handle, Moment
from wfq.testing.histories import SavedHistory
from wfq.testing.lives import Life, snapshot_of
from wfq.testing.replaying import registry_of
from wfq.testing.world import Stuck, World

#: Where the virtual clock starts unless a test says otherwise.
START = datetime(2026, 1, 1)
#: Steps between two moments of a test; more is a workflow that never comes to rest.
MAX_STEPS = 200_000

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


class Env:
    """Runs workflows in memory on a virtual clock, by the rules of the real engine.

    ::

        def test_a_trial_ends_after_thirty_days(wfq_env):
            mail = wfq_env.mock(send_mail)
            trial = wfq_env.start(trial_workflow, input="ada")

            wfq_env.skip(days=30)

            assert trial.output == "ended"
            assert mail.inputs == ["welcome ada", "goodbye ada"]

    app: a runtime, a module with one, or an app's name; None = found with the first workflow
    function that is started. start: where the clock starts, naive UTC. skip_time: let
    `result` go on to the next timer by itself when nothing else can happen.
    check_replay: run each history again and compare, so that code that is not deterministic
    fails its test with NonDeterministicWorkflow. seed: of the jitter in retries.

    Every verb lets happen what can happen without the clock going on, then returns; so there
    is nothing to poll. In an ``async`` test the verbs may be awaited. Activities run one after
    the other, in the order in which they were scheduled.
    """

    def __init__(
        self,
        app: Any = None,
        *,
        start: datetime = START,
        skip_time: bool = False,
        check_replay: bool = True,
        seed: int = 0,
    ) -> None:
        self.skip_time = skip_time
        self._started_ms = epoch_ms(start)
        self._check = check_replay
        self._seed = seed
        self._made: World | None = None
        self._mocks: dict[str, Mock] = {}
        if app is not None:
            self.use(app)

    # -- the program

    def use(self, app: Any) -> None:
        """Say which workflows and activities there are, before the first start.

        Raises: ConfigurationError once something runs.
        """
        if self._made is not None and self._made.lives:
            raise ConfigurationError("this Env has an app already; make another for another app")
        performer = Performer(registry_of(app), self._mocks)
        self._made = World(performer, self._started_ms, seed=self._seed, check=self._check)

    @property
    def _world(self) -> World:
        if self._made is None:
            raise ConfigurationError(
                "this Env has no app yet; start a workflow function, or call env.use(runtime)"
            )
        return self._made

    def mock(
        self, activity: Callable[..., Any] | str, *value: Any, after: timedelta | None = None,
        **behaviour: Any,
    ) -> Mock:  # fmt: skip
        """Let an activity, or a child workflow, be answered by the test.

        ``mock(charge, "ok")`` returns a value; an exception is raised; a function is called
        with the input (and the context, if it takes one); `HANGS` never answers. Said outright:
        ``returns=``, ``raises=``, ``calls=``; ``side_effect=[error, "ok"]`` takes one after the
        other. after: how long the activity takes on the virtual clock. A later mock replaces
        an earlier one. Returns the mock, whose `calls` and `inputs` tell how it was called.
        """
        name = self._name_of(activity)
        mock = make_mock(name, *value, after=after, **behaviour)
        self._mocks[name] = mock
        if self._made is not None:
            self._made.unpark()
            self.settle()
        return mock

    def _name_of(self, activity: Callable[..., Any] | str) -> str:
        if isinstance(activity, str):
            return activity
        if self._made is None:
            self._find_app(activity)
        registry = self._world.registry
        if any(entry.function is activity for entry in registry.workflows()):
            return registry.workflow_ref(activity)[0]
        return registry.activity_ref(activity)[0]

    def _find_app(self, function: Callable[..., Any]) -> None:
        """Use the runtime that a function is registered with; its own module is looked into."""
        module = sys.modules.get(getattr(function, "__module__", ""))
        for value in vars(module).values() if module is not None else ():
            if isinstance(value, WorkflowRuntime) and _holds(value.registry, function):
                return self.use(value)
        registry = Registry()
        if is_workflow_function(function):
            registry.register_workflow(function)
            return self.use(registry)
        raise ConfigurationError(
            f"no runtime in {getattr(function, '__module__', '?')!r} has {function!r}; give the "
            "runtime to Env(app), or override the fixture wfq_app"
        )

    # -- verbs

    def start(
        self,
        workflow: Callable[..., Any] | str,
        input: Any = NO_INPUT,  # noqa: A002 - the client's name
        *,
        instance_id: str | None = None,
        start_at: datetime | timedelta | None = None,
        tags: dict[str, str] | None = None,
        app_id: str = "default",
    ) -> Handle:
        """Start an instance and run it as far as it goes now. None as input means no input.

        Raises: InstanceAlreadyExists for an id of this Env; ConfigurationError for a workflow
        that the app has not; NonDeterministicWorkflow.
        """
        if self._made is None and not isinstance(workflow, str):
            self._find_app(workflow)
        world = self._world
        name = world.registry.workflow_ref(workflow)[0]
        if world.registry.find_workflow(name) is None:
            raise ConfigurationError(f"the app has no workflow {name!r}; register it")
        chosen = str(instance_id) if instance_id is not None else self._new_id(name)
        if chosen in world.lives:
            raise InstanceAlreadyExists(
                f"workflow instance {chosen!r} exists already; use another id", chosen
            )
        given = input is not NO_INPUT and input is not None
        payload = world.registry.encode(input, "input of workflow", name) if given else None
        world.start(
            name, payload, given, instance_id=chosen, queue=app_id,
            delay_ms=self._delay_ms(start_at), tags=tags,
        )  # fmt: skip
        self.settle()
        return Handle.of(chosen, self)

    def _new_id(self, name: str) -> str:
        base = _UNSAFE.sub("-", name).strip("-.") or "workflow"
        number = 1
        while f"{base}-{number}" in self._world.lives:
            number += 1
        return f"{base}-{number}"

    def _delay_ms(self, at: datetime | timedelta | None) -> int:
        if at is None:
            return 0
        if isinstance(at, timedelta):
            return int(at / timedelta(milliseconds=1))
        return epoch_ms(at) - self._world.now_ms

    def run(
        self,
        workflow: Callable[..., Any] | str,
        input: Any = NO_INPUT,  # noqa: A002 - the client's name
        **options: Any,
    ) -> Any:
        """Start an instance, skip time as needed, and return its output; see `result`."""
        return self.result(self.start(workflow, input, **options), skip_time=True)

    def raise_event(
        self, instance_id: str, name: str, data: Any = None, *, event_id: str | None = None
    ) -> Moment:
        """Raise an external event. Raises: InstanceNotFound, InstanceFinished."""
        self._live(instance_id)
        payload = self._world.registry.encode(data, "data of event", name)
        self._world.raise_event(instance_id, name, payload, event_id)
        return self.settle()

    def suspend(self, instance_id: str) -> Moment:
        """Suspend an instance. Raises: InstanceNotFound, InstanceFinished."""
        return self._command(instance_id, "suspend", {})

    def resume(self, instance_id: str) -> Moment:
        """Let a suspended instance go on. Raises: InstanceNotFound, InstanceFinished."""
        return self._command(instance_id, "resume", {})

    def terminate(self, instance_id: str, output: Any = None, *, recursive: bool = True) -> Moment:
        """Terminate an instance, and its children. Raises: InstanceNotFound, InstanceFinished."""
        data: dict[str, Any] = {"recursive": recursive}
        if output is not None:
            data["output"] = self._world.registry.encode(output, "output of", "terminate")
        return self._command(instance_id, "terminate", data)

    def _command(self, instance_id: str, verb: str, data: dict[str, Any]) -> Moment:
        self._live(instance_id)
        self._world.command(instance_id, verb, data)
        return self.settle()

    def crash(self) -> Moment:
        """Let all workers die: every instance is loaded again from its history.

        What `finally` clauses of workflow code decide while it dies has no effect, as always.
        """
        for instance_id in list(self._world.lives):
            self._world.crash(instance_id)
        return self.settle()

    # -- time

    @property
    def now(self) -> datetime:
        """The virtual time, naive UTC as in `ctx.current_utc_datetime`."""
        return from_ms(self._started_ms if self._made is None else self._made.now_ms)

    def skip(self, by: timedelta | None = None, **units: float) -> Moment:
        """Let time pass: ``skip(days=30)``. Timers fire in order, each at its own time."""
        return self.skip_to(self.now + (by or timedelta()) + timedelta(**units))

    def skip_to(self, moment: datetime) -> Moment:
        """Let time pass until a moment (naive = UTC); one that is past changes nothing."""
        world, target_ms = self._world, epoch_ms(moment)
        self.settle()
        while (due_ms := world.next_due_ms) is not None and due_ms <= target_ms:
            world.advance(due_ms)
            self.settle()
        world.advance(target_ms)
        return Moment()

    def skip_to_next(self) -> bool:
        """Go on to the next timer, retry or timeout; False when there is none."""
        self.settle()
        due_ms = self._world.next_due_ms
        if due_ms is None:
            return False
        self._world.advance(due_ms)
        self.settle()
        return True

    def settle(self) -> Moment:
        """Let happen all that can happen now; called by every verb.

        Raises: Stuck when there is no end to it; NonDeterministicWorkflow.
        """
        world = self._world
        for _ in range(MAX_STEPS):
            if not world.ready:
                return Moment()
            world.perform(world.ready.popleft())
        raise Stuck(f"the workflows of this test do not come to rest within {MAX_STEPS} steps")

    # -- reading

    def result(self, instance_id: str, *, skip_time: bool | None = None) -> Any:
        """The output of an instance, once it has completed.

        skip_time: go on to the next timer while it has not; None = as the Env was made.
        Raises: TaskFailedError when it failed; Stuck when it was terminated, or has not ended
        and nothing more can happen, with what it waits for.
        """
        self._life(instance_id)
        skips = self.skip_time if skip_time is None else skip_time
        self.settle()
        for _ in range(MAX_STEPS):
            life = self._life(instance_id)
            if life.ended or not (skips and self.skip_to_next()):
                break
        state = self.state(instance_id)
        state.raise_if_failed()
        if state.runtime_status is not WorkflowStatus.COMPLETED:
            raise Stuck(f"{instance_id!r} has no result: {self._why_not(life, skips)}")
        return state.output()

    def _why_not(self, life: Life, skips: bool) -> str:
        world = self._world
        why = life.explain()
        for other in world.lives.values():
            if other is not life and other.stalled:
                why += f"; {other.instance_id!r} is STALLED: {other.stalled}"
        if life.ended:
            return why
        waits = {opened.kind for opened in life.instance.open.values()}
        if "E" in waits and not skips:
            why += "; raise it with env.raise_event"
        due_ms = world.next_due_ms
        if due_ms is None:
            return f"{why}; nothing more can happen by itself"
        return f"{why}; the next timer is due at {from_ms(due_ms)}: env.skip, or skip_time=True"

    def state(self, instance_id: str) -> WorkflowState[Any]:
        """The state of an instance, as a client would read it. Raises: InstanceNotFound."""
        life = self._life(instance_id)
        registry = self._world.registry
        entry: WorkflowEntry | None = registry.find_workflow(life.instance.name)
        # What it was terminated with is of the terminator's type.
        typed = entry is not None and life.status == "COMPLETED"
        output_type = entry.output_type if entry is not None and typed else None
        return WorkflowState(snapshot_of(life), registry.codec, output_type=output_type)

    def history(self, instance_id: str) -> list[HistoryEvent]:
        """The events of an instance's present generation. Raises: InstanceNotFound."""
        return expand(self._life(instance_id).records, self._world.registry.codec)

    def generations(self, instance_id: str) -> list[list[HistoryEvent]]:
        """The events of every generation, oldest first. Raises: InstanceNotFound."""
        life = self._life(instance_id)
        codec = self._world.registry.codec
        return [expand(records, codec) for records in (*life.generations, life.records)]

    def saved(self, instance_id: str) -> SavedHistory:
        """The history of an instance for replay tests. Raises: InstanceNotFound."""
        life = self._life(instance_id)
        records = orjson.loads(orjson.dumps(life.records))
        return SavedHistory.of(life.instance_id, records, status=life.status, app_id=life.queue)

    @property
    def instances(self) -> list[Handle]:
        """All instances, children too, in the order in which they were started."""
        return [Handle.of(instance_id, self) for instance_id in self._world.lives]

    def handle(self, instance_id: str) -> Handle:
        """The handle of an instance, such as a child. Raises: InstanceNotFound."""
        return Handle.of(self._life(instance_id).instance_id, self)

    @property
    def calls(self) -> list[Call]:
        """Every attempt of an activity so far, mocked or real, in order."""
        return [] if self._made is None else self._made.performer.calls

    def _life(self, instance_id: str) -> Life:
        life = self._world.lives.get(str(instance_id))
        if life is None:
            known = ", ".join(self._world.lives) or "none"
            raise InstanceNotFound(
                f"no workflow instance {str(instance_id)!r}; there are: {known:.200}",
                str(instance_id),
            )
        return life

    def _live(self, instance_id: str) -> Life:
        life = self._life(instance_id)
        if life.ended:
            raise InstanceFinished(
                f"workflow instance {str(instance_id)!r} has ended and is {life.status}",
                str(instance_id),
            )
        return life

    def close(self) -> None:
        """Close what dependencies of activities opened; drop the workflows' code."""
        if self._made is None:
            return
        for life in self._made.lives.values():
            life.instance.discard()
        self._made.performer.close()

    def __enter__(self) -> Env:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Env:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


def _holds(registry: Registry, function: Callable[..., Any]) -> bool:
    return any(entry.function is function for entry in registry.workflows()) or any(
        entry.function is function for entry in registry.activities()
    )


def epoch_ms(at: datetime) -> int:
    """Return a moment (naive = UTC) in epoch milliseconds."""
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)
