"""What activities and children do in a test: the real function, or what a mock says."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from wfq.activity_context import ActivityContext, GivenFacts
from wfq.core.events import Failure, Payload
from wfq.core.failures import failure_from_exception, type_names
from wfq.core.retry import ms_of
from wfq.depends import DependencyScope
from wfq.errors import PayloadError
from wfq.management.state import from_ms
from wfq.registry import ActivityEntry, Registry
from wfq.signatures import EMPTY, activity_signature


class _Hangs:
    """The type of HANGS."""

    def __repr__(self) -> str:
        return "HANGS"


#: What a mock returns whose activity never answers: only its timeouts end it.
HANGS: Any = _Hangs()


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt of an activity, or one start of a mocked child.

    input: as the function gets it. at: virtual time, naive UTC.
    """

    name: str
    input: Any
    workflow_id: str
    task_id: int
    attempt: int
    at: datetime
    idempotency_key: str = ""


@dataclass(slots=True, eq=False)
class Task:
    """An activity or mocked child that is to be run. `details` are of its last heartbeat."""

    instance_id: str
    run: str
    task_id: int
    nonce: str
    name: str
    payload: Payload
    options: dict[str, Any]
    scheduled_ms: int
    is_child: bool = False
    number: int = 1
    heartbeat_details: Any = None

    @property
    def given(self) -> bool:
        return not self.options.get("n")


@dataclass(frozen=True, slots=True)
class Done:
    """How an attempt ended. `names`: of the exception's classes. `after_ms`: how long it took."""

    payload: Payload = None
    failure: Failure | None = None
    names: tuple[str, ...] = ()
    after_ms: int = 0
    hangs: bool = False


class Mock:
    """What stands for an activity or a child workflow; made by `Env.mock`."""

    def __init__(self, name: str, behaviour: Callable[[], Any], after_ms: int) -> None:
        self.name = name
        self.after_ms = after_ms
        #: Returns the next value: an exception (raised), a function (called), HANGS, or a result.
        self.next = behaviour
        #: The attempts so far, oldest first.
        self.calls: list[Call] = []

    @property
    def inputs(self) -> list[Any]:
        """The inputs of the calls so far."""
        return [call.input for call in self.calls]

    @property
    def called(self) -> bool:
        return bool(self.calls)

    def __repr__(self) -> str:
        return f"<Mock {self.name!r} called {len(self.calls)} times>"


_MISSING: Any = object()


def make_mock(
    name: str,
    value: Any = _MISSING,
    *,
    returns: Any = _MISSING,
    raises: Any = _MISSING,
    calls: Any = _MISSING,
    side_effect: Any = _MISSING,
    after: timedelta | None = None,
) -> Mock:
    """Return a mock. Raises: TypeError unless exactly one behaviour is given (none: None)."""
    given = [item for item in (value, returns, raises, calls, side_effect) if item is not _MISSING]
    if len(given) > 1:
        raise TypeError(f"mock {name!r}: give one of a value, returns, raises, calls, side_effect")
    if raises is not _MISSING:
        if not _is_exception(raises):
            raise TypeError(f"mock {name!r}: raises takes an exception, not {raises!r:.80}")
        behaviour = lambda: raises  # noqa: E731
    elif calls is not _MISSING:
        if not callable(calls):
            raise TypeError(f"mock {name!r}: calls takes a function, not {calls!r:.80}")
        behaviour = lambda: calls  # noqa: E731
    elif returns is not _MISSING:
        behaviour = lambda: _Result(returns)  # noqa: E731
    elif side_effect is not _MISSING:
        behaviour = _one_after_the_other(name, side_effect)
    else:
        found = None if value is _MISSING else value
        behaviour = lambda: found  # noqa: E731
    return Mock(name, behaviour, 0 if after is None else ms_of(after))


@dataclass(frozen=True, slots=True)
class _Result:
    """A value that is returned whatever it is, functions and exceptions too."""

    value: Any


def _one_after_the_other(name: str, effects: Any) -> Callable[[], Any]:
    if callable(effects) or _is_exception(effects):
        return lambda: effects
    left: Iterator[Any] = iter(list(effects) if isinstance(effects, Iterable) else [effects])

    def following() -> Any:
        try:
            return next(left)
        except StopIteration:
            raise AssertionError(
                f"the mock of {name!r} was called more often than its side_effect has values"
            ) from None

    return following


def _is_exception(value: Any) -> bool:
    return isinstance(value, BaseException) or (
        isinstance(value, type) and issubclass(value, BaseException)
    )


class LoopThread:
    """An event loop on a thread of its own, begun at first use: tests may run on a loop too."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """Return the running loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="wfq-test-loop", daemon=True
            )
            self._thread.start()
        return self._loop

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end. Raises: what it raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.get()).result()

    def close(self) -> None:
        """End the loop and its thread."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._loop = self._thread = None


@dataclass(slots=True)
class Performer:
    """Runs attempts: by mock, else by the function that is registered."""

    registry: Registry
    mocks: dict[str, Mock] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    loop: LoopThread = field(default_factory=LoopThread)
    _scope: DependencyScope | None = None

    def knows(self, task: Task) -> bool:
        """Whether there is something to run."""
        if task.is_child or task.name in self.mocks:
            return task.name in self.mocks
        return self.registry.find_activity(task.name) is not None

    def perform(self, task: Task, now_ms: int) -> Done:
        """Run one attempt, on this thread or, where it is async, on a loop of our own."""
        mock = self.mocks.get(task.name)
        after_ms = 0 if mock is None else mock.after_ms
        beaten: list[Any] = []
        try:
            value = self._run(task, mock, now_ms, beaten)
            if value is HANGS:
                return Done(hangs=True)
            what = "output of workflow" if task.is_child else "result of activity"
            return Done(self.registry.encode(value, what, task.name), after_ms=after_ms)
        except Exception as exc:
            failure = failure_from_exception(exc)
            if isinstance(exc, PayloadError):
                failure["non_retryable"] = True
            return Done(failure=failure, names=tuple(type_names(exc)), after_ms=after_ms)
        finally:
            if beaten:
                task.heartbeat_details = beaten[-1]

    def _run(self, task: Task, mock: Mock | None, now_ms: int, beaten: list[Any]) -> Any:
        context = ActivityContext.of(task_facts(task), lambda _, details: beaten.append(details))
        entry = None if task.is_child else self.registry.find_activity(task.name)
        if mock is None:
            assert entry is not None
            value = entry.decode_input(task.payload, task.given)
            self._note(task, value, context, now_ms, None)
            return self._call(entry, context, value)
        behaviour = mock.next()
        function = behaviour if callable(behaviour) and not _is_exception(behaviour) else None
        value = self._mock_input(task, entry, function)
        self._note(task, value, context, now_ms, mock)
        if isinstance(behaviour, _Result):
            return behaviour.value
        if _is_exception(behaviour):
            raise behaviour
        return behaviour if function is None else self._call_mock(function, context, value, task)

    def _note(
        self, task: Task, value: Any, context: ActivityContext, now_ms: int, mock: Mock | None
    ) -> None:
        call = Call(
            task.name, value, task.instance_id, task.task_id, task.number, from_ms(now_ms),
            context.idempotency_key,
        )  # fmt: skip
        self.calls.append(call)
        if mock is not None:
            mock.calls.append(call)

    def _call(self, entry: ActivityEntry, context: ActivityContext, value: Any) -> Any:
        arguments = [context] if entry.takes_context else []
        arguments += [value] if entry.takes_input else []
        if entry.dependencies and self._scope is None:
            self._scope = DependencyScope(self.loop.get)
        filled = {
            name: self._scope.get(dependency) if self._scope else None
            for name, dependency in entry.dependencies.items()
        }
        return self._awaited(entry.function(*arguments, **filled))

    def _mock_input(
        self, task: Task, entry: ActivityEntry | None, function: Callable[..., Any] | None
    ) -> Any:
        annotation, default = EMPTY, EMPTY
        if function is not None and (signature := _signature_of(function)) is not None:
            annotation, default = signature.input, signature.default
        if not task.given and default is not EMPTY:
            return default
        if annotation is not EMPTY:
            decode = self.registry.codec.decoder(annotation, "input of mock", task.name)
            return decode(task.payload) if task.given else None
        if entry is not None:
            return entry.decode_input(task.payload, task.given)
        workflow = self.registry.find_workflow(task.name) if task.is_child else None
        if workflow is not None and task.given:
            return workflow.decode_input(task.payload)
        return self.registry.plain(task.payload) if task.given else None

    def _call_mock(
        self, function: Callable[..., Any], context: ActivityContext, value: Any, task: Task
    ) -> Any:
        signature = _signature_of(function)
        if signature is None:
            arguments = [value]
        else:
            arguments = [context] if signature.takes_context else []
            arguments += [value] if signature.takes_input else []
        return self._awaited(function(*arguments))

    def _awaited(self, value: Any) -> Any:
        return self.loop.run(value) if inspect.iscoroutine(value) else value

    def close(self) -> None:
        """Close what dependencies opened, and the event loop."""
        if self._scope is not None:
            self._scope.close()
        self.loop.close()


def _signature_of(function: Callable[..., Any]) -> Any:
    """The signature of a mock's function; None for one like `unittest.mock.Mock`."""
    try:
        parameters = inspect.signature(function).parameters.values()
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            return None
        return activity_signature(function)
    except Exception:  # whatever has no signature of an activity is called with the input
        return None


def task_facts(task: Task) -> GivenFacts:
    """Return what the context of an attempt tells."""
    return GivenFacts(
        task.instance_id, task.run, task.task_id, task.name, task.number, task.heartbeat_details
    )
