"""Runs attempts where they belong: in a thread, on the event loop, or in a process."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from wfq.core.events import Failure, Payload
from wfq.depends import DependencyScope
from wfq.registry import Registry
from wfq.storage.activities import Completed, Retry
from wfq_workers.activities import outcomes
from wfq_workers.activities.asyncio_thread import EventLoopThread
from wfq_workers.activities.attempt import Attempt
from wfq_workers.activities.board import Board
from wfq_workers.activities.children import ChildFailed, ChildPool, NotStarted, locate
from wfq_workers.activities.execution import Handler, Where, failure_of
from wfq_workers.activities.pool import ThreadPool
from wfq_workers.activities.watch import TimeoutWatch

log = logging.getLogger("wfq.activity")


class Runner:
    """Everything that user code of activities runs in. `now_ms` is the server's clock."""

    def __init__(
        self,
        registry: Registry,
        board: Board,
        now_ms: Callable[[], int],
        *,
        processes: int | None = None,
    ) -> None:
        self._registry = registry
        self._board = board
        self._now_ms = now_ms
        self._handlers: dict[str, Handler] = {}
        self._pool = ThreadPool(
            self._run, board.jobs, limit=board.slots + board.spare, name="wfq-activity"
        )
        self.kick = self._pool.kick
        self.widen = self._pool.widen
        self._loop = EventLoopThread(self._run_on_loop, name="wfq-activity-loop")
        self._children = ChildPool(processes or os.cpu_count() or 1)
        self._watch = TimeoutWatch(self._expire, board.runs, name="wfq-activity-watch")
        self._scope = DependencyScope(self._loop.loop)

    def handler(self, name: str) -> Handler | None:
        """Return what runs the activity `name`, or None if this program has none."""
        handler = self._handlers.get(name)
        if handler is None:
            activity = self._registry.find_activity(name)
            if activity is None:
                return None
            handler = self._handlers[name] = Handler(
                activity,
                self._scope,
                beat=self._beat,
                decode_details=self._registry.decode_plain,
            )
        return handler

    def start(self, attempts: Iterable[Attempt]) -> None:
        """Run attempts that have a slot and a handler."""
        threaded: list[Attempt] = []
        looped: list[Attempt] = []
        for attempt in attempts:
            assert attempt.handler is not None
            (looped if attempt.handler.where is Where.LOOP else threaded).append(attempt)
        if threaded:
            self._pool.submit(threaded)
        if looped:
            self._loop.submit(looped)

    def take_waiting(self) -> list[Attempt]:
        """Withdraw the attempts that no thread has begun."""
        return self._pool.take_waiting()

    def close(self) -> None:
        """Stop what still runs, as far as it can be stopped, and close the dependencies."""
        self._pool.close()
        self._children.close()
        self._watch.close()
        self._loop.cancel_all()
        self._scope.close()
        self._loop.close()

    # In a thread of the pool.

    def _run(self, attempt: Attempt) -> None:
        handler = attempt.handler
        assert handler is not None
        outcome: Completed | Retry | None
        result = "completed"
        begin = time.monotonic()
        try:
            if handler.where is Where.PROCESS:
                payload = self._run_in_process(attempt)
            else:
                if attempt.options is not None:
                    self._watch_timeouts(attempt)
                payload = handler.run(attempt)
            outcome = outcomes.succeeded(attempt, payload)
        except ChildFailed as exc:
            outcome = self._failed(attempt, exc.failure, exc.names)
            result = _word(outcome)
        except NotStarted:
            return
        # Whatever user code raises, SystemExit too, is the failure of this attempt alone.
        except BaseException as exc:
            outcome = self._raised(attempt, exc)
            result = _word(outcome)
        self._board.finish(attempt, outcome, result, time.monotonic() - begin)
        # The two refer to each other, and would be left to the garbage collector.
        attempt.context = None

    def _run_in_process(self, attempt: Attempt) -> Payload:
        assert attempt.handler is not None
        # Payloads go there plain: only the worker knows the codec that hides them.
        plain = self._registry.decode_plain
        found = (attempt.extra or {}).get("hb")
        message = attempt.message(
            payload=plain(attempt.payload), hb=None if found is None else plain(found)
        )
        request = {
            "do": "run",
            **locate(attempt.handler.activity.function),
            "name": attempt.name,
            "instance": attempt.instance_id,
            "message": message.decode(),
        }
        result = self._children.run(
            attempt,
            request,
            wanted=lambda: self._board.runs(attempt),
            on_start=lambda: self._watch_timeouts(attempt),
            on_beat=lambda details: self._beat(attempt, details),
        )
        return attempt.handler.encode(orjson.loads(result))

    # On the event loop's thread.

    async def _run_on_loop(self, attempt: Attempt) -> None:
        assert attempt.handler is not None
        outcome: Completed | Retry | None
        result = "completed"
        begin = time.monotonic()
        try:
            if attempt.options is not None:
                self._watch_timeouts(attempt)
            outcome = outcomes.succeeded(attempt, await attempt.handler.run_async(attempt))
        # SystemExit too: it would end the loop.
        except BaseException as exc:
            outcome = self._raised(attempt, exc)
            result = _word(outcome)
        self._board.finish(attempt, outcome, result, time.monotonic() - begin)
        attempt.context = attempt.stop = None

    def _raised(self, attempt: Attempt, exc: BaseException) -> Completed | Retry | None:
        """Return what to report of an exception; nothing if it only obeys a cancellation."""
        if attempt.unwanted and attempt.told:
            return None
        return self._failed(attempt, *failure_of(exc))

    def _failed(self, attempt: Attempt, failure: Failure, names: list[str]) -> Completed | Retry:
        log.warning(
            "activity %r of instance %s failed in attempt %d: %s",
            attempt.name,
            attempt.instance_id,
            attempt.number,
            failure["type"],
            extra={"instance_id": attempt.instance_id, "activity": attempt.name},
        )
        return outcomes.failed(attempt, failure, names, now_ms=self._now_ms(), rand=random.random)

    def _watch_timeouts(self, attempt: Attempt) -> None:
        """Start the clock of an attempt that has timeouts, as its function is entered."""
        attempt.started_at = attempt.beat_at = time.monotonic()
        if attempt.start_to_close_ms is not None or attempt.heartbeat_ms is not None:
            self._watch.add(attempt)

    def _beat(self, attempt: Attempt, details: Any) -> None:
        attempt.beat_at = time.monotonic()
        if details is not None:
            attempt.details = orjson.dumps(self._registry.encode_plain(details))
            attempt.details_sent = False

    # On the watch's thread.

    def _expire(self, attempt: Attempt, limit_ms: int, heartbeat: bool) -> None:
        failure = outcomes.timed_out(attempt, limit_ms, heartbeat=heartbeat)
        if attempt.handler is not None and attempt.handler.where is Where.THREAD:
            # Before the slot is free, so that it is not counted free twice.
            self._board.stuck[attempt] = True
        outcome = self._failed(attempt, failure, [])
        took_s = time.monotonic() - attempt.started_at
        if not self._board.finish(attempt, outcome, _word(outcome), took_s):
            self._board.stuck.pop(attempt, None)
            return
        attempt.cancel(at_once=True)
        stuck = len(self._board.stuck)
        if stuck >= self._board.spare:
            log.error("%d threads hang in activities that timed out; slots are lost", stuck)


def _word(outcome: Completed | Retry | None) -> str:
    """Return what became of an attempt that raised, in a word for the metrics."""
    if outcome is None:
        return ""
    return "retried" if type(outcome) is Retry else "failed"
