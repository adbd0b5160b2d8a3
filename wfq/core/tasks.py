"""Tasks: what a workflow awaits."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wfq.core.events import Failure, Payload
from wfq.core.failures import details_from_failure, summary
from wfq.core.ports import TurnBlocked
from wfq.errors import PayloadLocked, TaskFailedError, WorkflowMisuse

if TYPE_CHECKING:
    from wfq.core.ports import Decoder

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
#: The value of a task that has not been decoded yet.
_UNDECODED: Any = object()


class Task(Generic[T_co]):
    """Something scheduled whose outcome a workflow can await.

    ``yield task`` in a generator, ``await task`` in an ``async def`` workflow; either gives the
    result, or raises TaskFailedError (TimeoutError for an event wait that timed out). The same
    task may be awaited any number of times.
    """

    __slots__ = ("_done", "_owner", "_parents")

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._done = False
        self._parents: list[CompositeTask[Any]] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the task has ended, with a result or a failure."""
        return self._done

    @property
    def is_failed(self) -> bool:
        """Whether the task has ended without a result."""
        return self._done and self._failed()

    def get_result(self) -> T_co:
        """Return the result. Raises: what awaiting raises; WorkflowMisuse while it runs."""
        raise NotImplementedError

    @property
    def result(self) -> T_co:
        """The same as `get_result()`."""
        return self.get_result()

    def get_exception(self) -> Exception:
        """Return the exception that awaiting raises. Raises: WorkflowMisuse if there is none."""
        exception = self._exception() if self._done else None
        if exception is None:
            raise WorkflowMisuse("the task has not failed; ask is_failed first")
        return exception

    def __await__(self) -> Generator[Any, Any, T_co]:
        if not self._done:
            yield self
        return self.get_result()

    def _failed(self) -> bool:
        raise NotImplementedError

    def _exception(self) -> Exception | None:
        raise NotImplementedError

    def _add_parent(self, parent: CompositeTask[Any]) -> None:
        parents = self._parents
        if parents is None:
            self._parents = [parent]
        elif parents[-1]._done:
            # A loop that awaits when_any over the same tasks must not pile up old composites.
            parents[-1] = parent
        else:
            parents.append(parent)


class SingleTask(Task[T_co]):
    """An activity, child workflow, timer or event wait."""

    __slots__ = ("_decode", "_failure", "_kind", "_name", "_payload", "_value")

    def __init__(self, owner: object, kind: str, name: str, decode: Decoder) -> None:
        # Spelled out instead of super().__init__(): one is made for every task of every turn.
        self._owner = owner
        self._done = False
        self._parents = None
        self._kind = kind
        self._name = name
        self._decode = decode
        self._value = _UNDECODED
        self._payload: Payload = None
        self._failure: Failure | Exception | None = None

    def __repr__(self) -> str:
        state = "failed" if self.is_failed else "complete" if self._done else "pending"
        return f"<Task {self._kind} {self._name!r} {state}>"

    def get_result(self) -> T_co:
        if self._failure is not None:
            raise self._fresh_exception()
        value = self._value
        if value is _UNDECODED:
            if not self._done:
                raise WorkflowMisuse(f"{self!r} has not completed; yield or await it first")
            try:
                value = self._value = self._decode(self._payload)
            except PayloadLocked as exc:
                # The operator's matter: the workflow's code does not get to see it.
                raise TurnBlocked(str(exc)) from None
            self._payload = None
        return value  # type: ignore[no-any-return]  # the decoder knows the type, mypy cannot

    def _failed(self) -> bool:
        return self._failure is not None

    def _exception(self) -> Exception | None:
        return None if self._failure is None else self._fresh_exception()

    def _fresh_exception(self) -> Exception:
        """A new exception each time: a raised one holds its frames, and they hold the task."""
        failure = self._failure
        if isinstance(failure, Exception):
            return type(failure)(*failure.args)
        assert failure is not None
        text = f"{self._kind} {self._name!r} failed: {summary(failure)}"
        return TaskFailedError(text, details_from_failure(failure))

    def _complete(self, payload: Payload) -> None:
        self._payload = payload
        self._done = True
        if self._parents is not None:
            _tell_parents(self)

    def _fail(self, failure: Failure | Exception) -> None:
        self._failure = failure
        self._done = True
        if self._parents is not None:
            _tell_parents(self)


class CompositeTask(Task[T_co]):
    """A task made of tasks."""

    __slots__ = ("_tasks",)

    def __init__(self, tasks: Sequence[Task[Any]]) -> None:
        super().__init__(_common_owner(tasks))
        self._tasks = tasks

    def get_tasks(self) -> list[Task[Any]]:
        """Return the tasks that it is made of, in order."""
        return list(self._tasks)

    def _child_done(self, child: Task[Any]) -> bool:
        """Note that `child` has ended; return whether this ended the composite too."""
        raise NotImplementedError


class WhenAllTask(CompositeTask[list[T]]):
    """Completes when every task has; fails with the first failure in task order."""

    __slots__ = ("_any_failed", "_missing", "_results")

    def __init__(self, tasks: Sequence[Task[T]]) -> None:
        super().__init__(tasks)
        self._results: list[T] | None = None
        self._any_failed = False
        self._missing = 0
        for task in tasks:
            if not task._done:
                self._missing += 1
                task._add_parent(self)
            elif task._failed():
                self._any_failed = True
        if not self._missing:
            self._done = True

    def __repr__(self) -> str:
        return f"<when_all of {len(self._tasks)} tasks, {self._missing} pending>"

    @property
    def pending_tasks(self) -> int:
        """How many tasks have not completed yet."""
        return self._missing

    def get_completed_tasks(self) -> int:
        """Return how many tasks have completed."""
        return len(self._tasks) - self._missing

    def get_result(self) -> list[T]:
        if not self._done:
            raise WorkflowMisuse(f"{self!r} has not completed; yield or await it first")
        if self._results is None:
            self._results = [task.get_result() for task in self._tasks]
        return self._results

    def _failed(self) -> bool:
        return self._any_failed

    def _exception(self) -> Exception | None:
        for task in self._tasks:
            if task._failed():
                return task._exception()
        return None

    def _child_done(self, child: Task[Any]) -> bool:
        self._missing -= 1
        if child._failed():
            self._any_failed = True
        return not self._missing


class WhenAnyTask(CompositeTask[Task[T]]):
    """Completes with the task that ended first, whether it succeeded or failed."""

    __slots__ = ("_winner",)

    def __init__(self, tasks: Sequence[Task[T]]) -> None:
        super().__init__(tasks)
        self._winner: Task[T] | None = None
        for task in tasks:
            if task._done:
                self._winner = task
                self._done = True
                return
        for task in tasks:
            task._add_parent(self)

    def __repr__(self) -> str:
        return f"<when_any of {len(self._tasks)} tasks{'' if self._done else ', pending'}>"

    def get_result(self) -> Task[T]:
        if self._winner is None:
            raise WorkflowMisuse(f"{self!r} has not completed; yield or await it first")
        return self._winner

    def _failed(self) -> bool:
        return False

    def _exception(self) -> Exception | None:
        return None

    def _child_done(self, child: Task[Any]) -> bool:
        if self._done:
            return False
        self._winner = child
        return True


def when_all(tasks: Iterable[Task[T]]) -> WhenAllTask[T]:
    """Return a task that waits for every one of `tasks`; its result is the list of results.

    If any failed, awaiting it raises the first failure in task order, after all have ended.
    An empty list completes at once with []. Raises: WorkflowMisuse for what is not a task.
    """
    return WhenAllTask(_checked(tasks, "when_all"))


def when_any(tasks: Iterable[Task[T]]) -> WhenAnyTask[T]:
    """Return a task whose result is the one of `tasks` that ended first.

    It never raises for a failed winner: ask `winner.is_failed` or `winner.get_result()`.
    Among tasks that have ended already, the first of the list wins.
    Raises: WorkflowMisuse for an empty list, which could never end, and for what is not a task.
    """
    found = _checked(tasks, "when_any")
    if not found:
        raise WorkflowMisuse("when_any needs at least one task; it got an empty list")
    return WhenAnyTask(found)


def _tell_parents(task: Task[Any]) -> None:
    """Complete the composites above `task`; a loop, since users nest them without bound."""
    ended = [task]
    for child in ended:
        parents, child._parents = child._parents, None
        for parent in parents or ():
            if parent._child_done(child):
                parent._done = True
                ended.append(parent)


def _checked(tasks: Iterable[Task[T]], caller: str) -> list[Task[T]]:
    if isinstance(tasks, Task):
        raise WorkflowMisuse(f"{caller} takes a list of tasks; it got one task")
    try:
        found = list(tasks)
    except TypeError:
        raise WorkflowMisuse(f"{caller} takes a list of tasks, not {short(tasks)}") from None
    for index, task in enumerate(found):
        if not isinstance(task, Task):
            raise WorkflowMisuse(f"{caller}: element {index} is {short(task)}, not a task")
    return found


def _common_owner(tasks: Sequence[Task[Any]]) -> object:
    """Return the instance that all of `tasks` belong to; None when there are none."""
    owner = None
    for task in tasks:
        if task._owner is not owner:
            if owner is not None and task._owner is not None:
                raise WorkflowMisuse("the tasks belong to different workflow instances")
            owner = owner or task._owner
    return owner


def short(value: object) -> str:
    """Return a bounded description of a value for an error message; never raises.

    Without memory addresses, so that a replay says the same.
    """
    try:
        text = _ADDRESS.sub("", repr(value))
    except Exception:
        text = "<unprintable>"
    if len(text) > 80:
        text = text[:77] + "..."
    return f"{text} ({type(value).__name__})"
