"""What an activity learns about itself: the first parameter of an activity function."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

log = logging.getLogger("wfq.activity")


class Facts(Protocol):
    """What the worker knows of the attempt that a context stands for."""

    @property
    def instance_id(self) -> str: ...
    @property
    def run(self) -> str:
        """Incarnation and generation of the instance."""

    @property
    def task_id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def heartbeat_details(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class GivenFacts:
    """The facts of a context that no worker made."""

    instance_id: str
    run: str
    task_id: int
    name: str
    number: int
    heartbeat_details: Any


class ActivityContext:
    """One attempt of one activity. Made by the worker; make one yourself to unit-test a function.

    ::

        def import_file(ctx: wf.ActivityContext, path: str) -> int:
            done = ctx.heartbeat_details or 0
            for number, row in enumerate(rows(path)[done:], start=done):
                if ctx.is_cancelled:
                    return number
                store(row, key=f"{ctx.idempotency_key}:{number}")
                ctx.heartbeat(number + 1)
            return number
    """

    __slots__ = ("_beat", "_cancelled", "_facts", "_logger", "_told", "_watched")

    def __init__(
        self,
        workflow_id: str = "test",
        task_id: int = 0,
        *,
        attempt: int = 1,
        activity_name: str = "",
        heartbeat_details: Any = None,
        on_heartbeat: Callable[[Any], None] | None = None,
    ) -> None:
        facts = GivenFacts(workflow_id, "", task_id, activity_name, attempt, heartbeat_details)
        self._begin(facts, lambda _, details: on_heartbeat and on_heartbeat(details))

    @classmethod
    def of(cls, facts: Facts, beat: Callable[[Any, Any], object]) -> ActivityContext:
        """Return the context of an attempt that a worker runs; `beat` gets `facts` and details."""
        # Spelled out as in `_begin`: one is made for nearly every attempt.
        context = cls.__new__(cls)
        context._facts = facts
        context._beat = beat
        context._cancelled = context._watched = context._told = False
        context._logger = None
        return context

    def _begin(self, facts: Facts, beat: Callable[[Any, Any], object]) -> None:
        self._facts = facts
        self._beat = beat
        self._cancelled = False
        self._watched = False
        self._told = False
        self._logger: logging.LoggerAdapter[logging.Logger] | None = None

    @property
    def workflow_id(self) -> str:
        """Id of the workflow instance that called the activity."""
        return self._facts.instance_id

    @property
    def task_id(self) -> int:
        """Number of the task within its workflow run."""
        return self._facts.task_id

    @property
    def activity_name(self) -> str:
        """Name under which the activity was called."""
        return self._facts.name

    @property
    def attempt(self) -> int:
        """1 for the first attempt; a redelivery after a crash keeps the number."""
        return self._facts.number

    @property
    def heartbeat_details(self) -> Any:
        """What an earlier attempt of this task last gave to `heartbeat`, or None."""
        return self._facts.heartbeat_details

    @property
    def idempotency_key(self) -> str:
        """The same text for every attempt of this task, and for no other task.

        Give it to systems that can recognise a repeated request.
        """
        return f"{self._facts.instance_id}:{self._facts.run}:{self._facts.task_id}"

    @property
    def is_cancelled(self) -> bool:
        """Whether the result is no longer wanted: stop at a convenient point.

        True after the workflow ended or was terminated, after a timeout, after another worker
        took the task over, and when the worker stops without waiting any longer. It is learnt
        within about a second by an activity that asks for it regularly. What the function
        returns or raises once it has seen True is dropped.
        """
        self._watched = True
        if self._cancelled:
            self._told = True
        return self._cancelled

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry `instance_id`, `task_id`, `attempt` and `activity`."""
        if self._logger is None:
            self._logger = _ActivityLogger(
                log,
                {
                    "instance_id": self.workflow_id,
                    "task_id": self.task_id,
                    "attempt": self.attempt,
                    "activity": self.activity_name,
                },
            )
        return self._logger

    def heartbeat(self, details: Any = None) -> None:
        """Report progress: restarts the heartbeat timeout and keeps `details`.

        The next attempt, on whatever worker, finds the last details in `heartbeat_details`.
        Cheap enough to call in a loop: only the latest details are sent, about once a second.

        Raises: PayloadError when `details` cannot be JSON.
        """
        self._watched = True
        self._beat(self._facts, details)

    @property
    def is_watched(self) -> bool:
        """Whether the function has shown that it looks at `is_cancelled` or sends heartbeats."""
        return self._watched

    @property
    def was_told(self) -> bool:
        """Whether the function has seen `is_cancelled` true."""
        return self._told

    def cancel(self) -> None:
        """Make `is_cancelled` true; called by the worker, and by unit tests."""
        self._cancelled = True

    def __repr__(self) -> str:
        return f"<ActivityContext {self.idempotency_key} attempt {self.attempt}>"


class _ActivityLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the ids to the record and keeps what the caller passed as `extra`."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
