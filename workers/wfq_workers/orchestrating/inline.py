"""Inline activities: short local work that an orchestrator does itself, within the turn.

What such an activity saves is the way to a worker and back: its stream entry, its completion and
the turn's round trip. What it gives up is everything that the way was for: it holds up all other
instances of the process, nothing can interrupt it but the watchdog of turns, and one that ends its
process is the instance's fault ("killed its worker"), not its own.

It runs at least once, like any other: nothing is recorded before the commit, which records that it
was scheduled and what it returned; a crash in between runs it again. A
timeout is found when it comes back, and a further attempt is an ordinary one, in a worker.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orjson import loads

from wfq.activity_context import ActivityContext
from wfq.core.events import COMPLETED, Action, Event, Failure, Payload
from wfq.core.instance import Instance
from wfq.core.ports import TurnAborted
from wfq.depends import DependencyScope
from wfq.errors import PayloadLocked
from wfq.registry import ActivityEntry, Registry
from wfq.signatures import EMPTY
from wfq.storage.activities import Retry
from wfq_workers.activities import outcomes
from wfq_workers.activities.attempt import Attempt, Stream
from wfq_workers.activities.execution import Handler, failure_of
from wfq_workers.backoff import told

if TYPE_CHECKING:
    from wfq_workers.orchestrating.engine import TurnWatch

log = logging.getLogger("wfq.orchestrator")

#: Steps in a row that an instance may go on with inline activities alone; then the others of the
#: batch have their turn.
MOST_STEPS = 64
#: What attempts come from that nothing has delivered.
_NO_STREAM = Stream(0, "", "")


class InlineActivities:
    """The inline activities of a program. Used by the one thread that runs turns."""

    @classmethod
    def find(cls, registry: Registry) -> InlineActivities | None:
        """Those of a program; None where it has none."""
        found = cls(registry)
        return found if found.handlers else None

    def __init__(self, registry: Registry) -> None:
        scope = DependencyScope(_no_loop)
        entries = [
            entry
            for entry in registry.activities()
            # What must wait for something else runs where waiting is no harm.
            if entry.inline and not entry.is_async and not entry.dependencies
        ]
        self.handlers = {
            entry.name: Handler(entry, scope, beat=_no_beat, decode_details=registry.decode_plain)
            for entry in entries
        }
        #: How to run each where no option was given.
        self.calls = {entry.name: _plain_call(entry) for entry in entries}

    def attempt(
        self, message: list[Any], instance_id: str, now_ms: Callable[[], int], watch: TurnWatch
    ) -> Event | Retry | None:
        """Run the activity of a message: its event, or its next attempt.

        None leaves it to a worker. Raises: TurnAborted.
        """
        attempt = Attempt((_NO_STREAM, b"", instance_id, message, 1), time.monotonic())
        handler = attempt.handler = self.handlers[attempt.name]
        attempt.started_at = attempt.kept_at
        watch.attempt = attempt
        try:
            payload = handler.run(attempt)
            limit_ms = attempt.start_to_close_ms
            if limit_ms is None or (time.monotonic() - attempt.kept_at) * 1000 <= limit_ms:
                # Not by way of JSON: the codec has made a snapshot of the result.
                return [COMPLETED, attempt.task_id, attempt.nonce, payload]
            failure, names = outcomes.timed_out(attempt, limit_ms, heartbeat=False), list[str]()
        # Whatever user code raises, SystemExit too, is the failure of this attempt alone.
        except BaseException as exc:
            return self.failed(exc, attempt, now_ms())
        finally:
            watch.attempt = None
            attempt.context = None
        return _ended(attempt, failure, names, now_ms())

    def failed(self, exc: BaseException, attempt: Attempt, now_ms: int) -> Event | Retry | None:
        """What follows from an exception: as in `attempt`. Raises: TurnAborted."""
        if isinstance(exc, TurnAborted):
            raise exc
        if isinstance(exc, PayloadLocked):
            return None
        return _ended(attempt, *failure_of(exc), now_ms)


def failed_attempt(message: list[Any], instance_id: str) -> Attempt:
    """The first attempt of a message, for telling what follows from its failure."""
    return Attempt((_NO_STREAM, b"", instance_id, message, 1), time.monotonic())


def _ended(attempt: Attempt, failure: Failure, names: list[str], now_ms: int) -> Event | Retry:
    log.warning(
        "inline activity %r of instance %s failed: %s",
        attempt.name,
        attempt.instance_id,
        told(failure),
        extra={"instance_id": attempt.instance_id, "activity": attempt.name},
    )
    outcome = outcomes.failed(attempt, failure, names, now_ms=now_ms, rand=random.random)
    return outcome if isinstance(outcome, Retry) else list(loads(outcome.event))


class InlineFacts:
    """What is known of a plain attempt: one without any options. One is made for each of them."""

    __slots__ = ("_action", "_instance")
    number = 1
    heartbeat_details = None

    def __init__(self, instance: Instance, action: Action) -> None:
        self._instance = instance
        self._action = action

    @property
    def instance_id(self) -> str:
        return self._instance.id

    @property
    def run(self) -> str:
        return f"{self._instance.inc}.{self._instance.gen}"

    @property
    def task_id(self) -> int:
        return int(self._action[1])

    @property
    def name(self) -> str:
        return str(self._action[2])


def _plain_call(entry: ActivityEntry) -> Callable[[InlineFacts, Payload], Payload]:
    """The shortest way from a payload to that of the result, as `Handler.run` of an attempt.

    It raises what the function, its input's decoder and its result's encoder raise.
    """
    function, encode = entry.function, entry.encode_result
    context, decode = ActivityContext.of, entry.decode_input
    if entry.takes_context and entry.takes_input and entry.default is EMPTY:
        # As most of them are.
        plain = entry.input_decoder
        return lambda facts, payload: encode(function(context(facts, _no_beat), plain(payload)))
    if entry.takes_context and entry.takes_input:
        return lambda facts, payload: encode(
            function(context(facts, _no_beat), decode(payload, True))
        )
    if entry.takes_context:
        return lambda facts, _: encode(function(context(facts, _no_beat)))
    if entry.takes_input:
        return lambda _, payload: encode(function(decode(payload, True)))
    return lambda _facts, _payload: encode(function())


def _no_beat(_attempt: Any, _details: Any) -> None:
    """Heartbeats mean nothing here: nobody waits for the next."""


def _no_loop() -> Any:
    raise RuntimeError("inline activities have no event loop")
