"""Driving one workflow function: a generator, a coroutine, or a plain call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import CoroutineType, GeneratorType
from typing import Any

from wfq.core.context import WorkflowContext
from wfq.core.decisions import Decisions
from wfq.core.events import Payload
from wfq.core.ports import Executor, TurnAborted, TurnBlocked
from wfq.core.replay import source_of_code
from wfq.core.tasks import Task, short
from wfq.errors import PayloadLocked, WorkflowMisuse

#: How often a generator that answers GeneratorExit with another yield is closed again.
_CLOSE_ATTEMPTS = 100
#: Said of asyncio in an async workflow.
NOT_DURABLE = (
    "asyncio's own awaitables are not durable: use ctx.create_timer, wf.when_all and wf.when_any"
)
#: Generators that refuse to be closed. They are kept for ever, past the end of the process:
#: collecting one would run its code again and print a warning. Only pathological workflows
#: get here.
_UNCLOSABLE: list[Any] = []


class Flow:
    """The running code of one generation.

    `awaiting` is the task it waits for. After `begin` or `run` returned True the code has
    ended: `error` is what it raised, or None and `value` is what it returned.
    """

    __slots__ = ("_code", "_owner", "_send", "awaiting", "error", "is_coroutine", "value")

    def __init__(self, owner: Decisions) -> None:
        self._owner = owner
        self._code: Any = None
        self._send: Callable[[Any], Any] = _not_begun
        self.is_coroutine = False
        self.awaiting: Task[Any] | None = None
        self.value: Any = None
        self.error: BaseException | None = None

    def begin(self, executor: Executor, payload: Payload, given: bool) -> bool:
        """Call the function and run it to its first wait; return whether it has ended."""
        try:
            code = executor.begin(WorkflowContext(self._owner), payload, given)
        except TurnAborted:
            raise
        except PayloadLocked as exc:
            raise TurnBlocked(str(exc)) from None
        except BaseException as exc:
            self.error = exc
            return True
        kind = type(code)
        if kind is CoroutineType:
            self.is_coroutine = True
        elif kind is not GeneratorType:
            self.value = code
            return True
        self._code = code
        self._send = code.send
        return self.run(None)

    def run(self, task: Task[Any] | None) -> bool:
        """Go on with the outcome of `task`, which has ended; return whether the code has ended."""
        owner = self._owner
        error: BaseException | None = None
        while True:
            value = None
            # A coroutine fetches the outcome itself, in Task.__await__.
            if task is not None and not self.is_coroutine:
                try:
                    value = task.get_result()
                except Exception as exc:
                    # Thrown below, outside of this handler: in it, whatever the workflow
                    # raises later would get `exc` as its context.
                    error = exc
            try:
                target = self._send(value) if error is None else self._code.throw(error)
            except StopIteration as stop:
                self.value = stop.value
                return True
            except TurnAborted:
                raise
            except BaseException as exc:
                # SystemExit and the like too: a workflow must not end its worker.
                self.error = exc
                return True
            error = None
            if not isinstance(target, Task):
                task, error = None, _not_a_task(target, self.is_coroutine)
            elif target._owner is not owner and target._owner is not None:
                task = None
                error = WorkflowMisuse(f"{target!r} belongs to another workflow instance")
            elif target._done:
                task = target
            else:
                self.awaiting = target
                return False

    def source(self) -> str | None:
        """Return ``file:line in function`` of the innermost user code that waits."""
        return source_of_code(self._code)

    def drop(self) -> None:
        """Let go of the code; its `except` and `finally` clauses run, but decide nothing.

        The owner must be closed for good before, so that `ctx` refuses them.
        """
        code = self._code
        self._code = self.awaiting = None
        self._send = _not_begun
        if code is None:
            return
        for _ in range(_CLOSE_ATTEMPTS):
            try:
                code.close()
            except RuntimeError as exc:
                if "ignored GeneratorExit" in str(exc):
                    continue
                return
            except BaseException:
                return  # the code has ended, by raising; there is nobody to tell
            return
        _UNCLOSABLE.append(code)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))


def _not_begun(_: Any) -> Any:
    raise RuntimeError("the workflow's code is not running")


def _not_a_task(value: object, is_coroutine: bool) -> WorkflowMisuse:
    verb = "awaited" if is_coroutine else "yielded"
    hint = "only tasks made by ctx, when_all and when_any can be waited for"
    if isinstance(value, GeneratorType):
        hint = "use 'yield from' to run a sub-generator"
    elif isinstance(value, CoroutineType):
        hint = "await it in an async def workflow"
    elif isinstance(value, (list, tuple)) and value and all(isinstance(t, Task) for t in value):
        hint = "use when_all(tasks) to wait for several"
    elif is_coroutine:
        hint += f"; {NOT_DURABLE}"
    return WorkflowMisuse(f"the workflow {verb} {short(value)}, which is not a task: {hint}")
