"""Running one attempt: from its message to the value that the function returned, or raised."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

from wfq import failpoints
from wfq.activity_context import ActivityContext
from wfq.core.events import Failure, Payload
from wfq.core.failures import failure_from_exception, type_names
from wfq.depends import DependencyScope
from wfq.errors import PayloadError
from wfq.registry import ActivityEntry
from wfq.signatures import EMPTY
from wfq_workers.activities.attempt import Attempt
from wfq_workers.activities.pace import Pace


class Where(Enum):
    """What runs an activity."""

    THREAD = "thread"
    LOOP = "event loop"
    PROCESS = "process"


#: Keeps the details of a heartbeat of an attempt.
Beat = Callable[[Attempt, Any], None]


class Handler:
    """Calls one activity function for attempts of it."""

    __slots__ = (
        "_beat",
        "_decode_details",
        "_scope",
        "activity",
        "call",
        "encode",
        "in_process",
        "pace",
        "where",
    )

    def __init__(
        self,
        activity: ActivityEntry,
        scope: DependencyScope,
        *,
        beat: Beat,
        decode_details: Callable[[Payload], Any],
    ) -> None:
        self.activity = activity
        self.encode = activity.encode_result
        self.where = where_to_run(activity)
        #: Whether that is a process; asked for every attempt.
        self.in_process = self.where is Where.PROCESS
        self.pace = Pace()
        self._scope = scope
        self._beat = beat
        self._decode_details = decode_details
        #: Calls the function: its result, or its coroutine. Raises: what the function raises.
        self.call: Callable[[Any], Any] = self._caller()

    def _caller(self) -> Callable[[Attempt], Any]:
        """Return the shortest way to call this function; it is the hot path's inner step."""
        activity, function, decode = (
            self.activity,
            self.activity.function,
            self.activity.decode_input,
        )
        if activity.dependencies:
            return self._call_with_dependencies
        if activity.takes_context and activity.takes_input and activity.default is EMPTY:
            # As most of them are.
            context, plain = self.context, activity.input_decoder
            return lambda a: function(context(a), plain(a.payload) if a.given else None)
        if activity.takes_context and activity.takes_input:
            return lambda a: function(self.context(a), decode(a.payload, a.given))
        if activity.takes_context:
            return lambda a: function(self.context(a))
        if activity.takes_input:
            return lambda a: function(decode(a.payload, a.given))
        return lambda _: function()

    def _call_with_dependencies(self, attempt: Attempt) -> Any:
        activity = self.activity
        arguments: list[Any] = []
        if activity.takes_context:
            arguments.append(self.context(attempt))
        if activity.takes_input:
            arguments.append(activity.decode_input(attempt.payload, attempt.given))
        values = {name: self._scope.get(d) for name, d in activity.dependencies.items()}
        return activity.function(*arguments, **values)

    def context(self, attempt: Attempt) -> ActivityContext:
        """Make the context of an attempt."""
        context = attempt.context = ActivityContext.of(attempt, self._beat)
        if attempt.extra is not None and "hb" in attempt.extra:
            attempt.heartbeat_details = self._decode_details(attempt.extra["hb"])
        if attempt.unwanted:
            context.cancel()
        return context

    def run(self, attempt: Attempt) -> Payload:
        """Run a synchronous activity to its end. Raises: whatever it raises."""
        if failpoints.ACTIVE:
            failpoints.hit("act.before_exec")
        payload = self.encode(self.call(attempt))
        if failpoints.ACTIVE:
            failpoints.hit("act.after_exec")
        return payload

    async def run_async(self, attempt: Attempt) -> Payload:
        """Run an asynchronous activity to its end. Raises: whatever it raises."""
        if failpoints.ACTIVE:
            failpoints.hit("act.before_exec")
        for dependency in self.activity.dependencies.values():
            if not self._scope.opened(dependency):
                # Opening may take long, and may wait for this very loop.
                await asyncio.to_thread(self._scope.get, dependency)
        running: Coroutine[Any, Any, Any] = self.call(attempt)
        payload = self.encode(await running)
        if failpoints.ACTIVE:
            failpoints.hit("act.after_exec")
        return payload


def where_to_run(activity: ActivityEntry) -> Where:
    """Return what runs this activity."""
    if activity.process:
        return Where.PROCESS
    return Where.LOOP if activity.is_async else Where.THREAD


def failure_of(exc: BaseException) -> tuple[Failure, list[str]]:
    """Return what an attempt that raised `exc` reports, and the names of its class and bases."""
    failure = failure_from_exception(exc)
    if isinstance(exc, PayloadError):
        # The same code with the same input gives the same again.
        failure["non_retryable"] = True
    return failure, type_names(exc)
