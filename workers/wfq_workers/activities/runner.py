"""Runs attempts where they belong: in a thread, on the event loop, or in a process."""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from wfq.core.events import Failure, Payload
from wfq.depends import DependencyScope
from wfq.errors import PayloadLocked
from wfq.logs import ACTIVITY
from wfq.registry import Registry
from wfq.storage.activities import Completed, Outcome, Retry
from wfq_workers.activities import outcomes
from wfq_workers.activities.asyncio_thread import EventLoopThread
from wfq_workers.activities.attempt import Attempt
from wfq_workers.activities.board import Board
from wfq_workers.activities.children import ChildFailed, ChildPool, NotStarted, locate
from wfq_workers.activities.execution import Handler, Where, failure_of
from wfq_workers.activities.pace import Pace
from wfq_workers.activities.packs import SLOW_S, Job, Pack
from wfq_workers.activities.pool import ThreadPool
from wfq_workers.activities.watch import TimeoutWatch
from wfq_workers.backoff import told
from wfq_workers.tracing import find_tracer, traced

log = logging.getLogger("wfq.activity")


class Runner:
    """Everything that user code of activities runs in. `now_ms` is the server's clock."""

    def __init__(
        self,
        registry: Registry,
        board: Board,
        now_ms: Callable[[], int],
        *,
        consumer: str = "",
        processes: int | None = None,
        grace_ms: int = 30_000,
    ) -> None:
        self._registry = registry
        self._consumer = consumer
        #: Packs that are in line or under way.
        self._packs: dict[Pack, bool] = {}
        self._board = board
        self._now_ms = now_ms
        self._grace_ms = grace_ms
        self._handlers: dict[str, Handler] = {}
        self._tracer = find_tracer()
        self._pool = ThreadPool(
            self._run, board.jobs, limit=board.slots + board.spare, name="wfq-activity"
        )
        self.run = self._pool.run
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

    def paces(self) -> dict[str, Pace]:
        """How long each activity takes, by name."""
        return {name: handler.pace for name, handler in list(self._handlers.items())}

    def start(self, jobs: Iterable[Job]) -> None:
        """Run attempts and packs that have a slot and handlers."""
        threaded: list[Job] = []
        looped: list[Attempt] = []
        for attempt in jobs:
            if type(attempt) is Pack:
                self._packs[attempt] = True
                threaded.append(attempt)
                continue
            assert type(attempt) is Attempt
            assert attempt.handler is not None
            if attempt.handler.where is Where.LOOP:
                looped.append(attempt)
            else:
                threaded.append(attempt)
        if threaded:
            self._pool.submit(threaded)
        if looped:
            self._loop.submit(looped)

    def take_waiting(self) -> list[Job]:
        """Withdraw the attempts and packs that no thread has begun."""
        return self._pool.take_waiting()

    def take_trivial(self) -> Job | None:
        """Take the first job in line for a thread, if it is known to be over at once."""
        return self._pool.take_first(_is_trivial)

    def split_slow(self, now: float) -> float:
        """Split the packs that take too long; returns when to look again (monotonic)."""
        again = math.inf
        for pack in list(self._packs):
            if pack.slow_at <= now:
                pack.split(self._consumer, now, self._adopt)
            again = min(again, pack.slow_at if not pack.was_split else math.inf)
        return again

    def _adopt(self, attempt: Attempt, outcomes: list[Outcome]) -> None:
        """Go on with one attempt of a split pack by itself."""
        assert attempt.handler is not None
        assert attempt.after is not None
        pack = attempt.after
        self._board.admit(attempt)
        attempt.handler.pace.note(SLOW_S * 2)
        self._watch_timeouts(attempt, attempt.started_at)
        self._packs.pop(pack, None)
        self._board.finish_pack(pack, outcomes)

    def close(self) -> None:
        """Stop what still runs, as far as it can be stopped, and close the dependencies."""
        self._pool.close()
        self._children.close()
        self._watch.close()
        self._loop.cancel_all()
        self._scope.close()
        self._loop.close()

    # In a thread of the pool.

    def _run(self, job: Job) -> None:
        if type(job) is Pack:
            self._run_pack(job)
            return
        assert type(job) is Attempt
        try:
            outcome = self._outcome(job)
        except NotStarted:
            return
        self._finish(job, outcome)
        # The two refer to each other, and would be left to the garbage collector.
        job.context = None

    def _run_pack(self, pack: Pack) -> None:
        outcome: list[Outcome] = []
        attempt: Attempt | None = None
        while (following := pack.next(outcome)) is not None:
            attempt = following
            outcome = self._outcome(attempt, alone=False)
            if not pack.was_split:
                attempt.context = None
        assert attempt is not None
        if pack.was_split:
            # It is the one that did not come back in time, and an attempt like any other now.
            self._finish(attempt, outcome)
            attempt.context = None
            return
        self._packs.pop(pack, None)
        self._board.finish_pack(pack, pack.outcomes())

    def _finish(self, attempt: Attempt, found: list[Outcome]) -> None:
        note = found[0] if len(found) > 1 else None
        outcome = found[-1] if found else None
        self._board.finish(attempt, outcome, attempt.result, attempt.took_s, note=note)

    def _outcome(self, attempt: Attempt, *, alone: bool = True) -> list[Outcome]:
        """Run the attempt and return what to report of it. Raises: NotStarted."""
        handler = attempt.handler
        assert handler is not None
        ACTIVITY.set(attempt)
        attempt.started_at = attempt.beat_at = begin = time.monotonic()
        attempt.result = "completed"
        found: list[Outcome]
        try:
            if handler.in_process:
                payload = self._run_in_process(attempt)
            else:
                if alone and attempt.options is not None:
                    self._watch_timeouts(attempt)
                if self._tracer is None and attempt.extra is None:
                    payload = handler.run(attempt)
                else:
                    with traced(self._tracer, attempt):
                        payload = handler.run(attempt)
                handler.pace.note(time.monotonic() - begin)
            # The time is of interest where there were others before.
            ended_ms = None if attempt.number == 1 else self._now_ms()
            found = [outcomes.succeeded(attempt, payload, ended_ms)]
        except ChildFailed as exc:
            found = self._ended(attempt, self._failed(attempt, exc.failure, exc.names))
        except NotStarted:
            raise
        except PayloadLocked as exc:
            attempt.result = ""
            found = self._locked(attempt, exc)
        # Whatever user code raises, SystemExit too, is the failure of this attempt alone.
        except BaseException as exc:
            found = self._ended(attempt, self._raised(attempt, exc))
        attempt.took_s = time.monotonic() - begin
        return found

    def _ended(self, attempt: Attempt, outcome: Completed | Retry | None) -> list[Outcome]:
        attempt.result = _word(outcome)
        return [] if outcome is None else [outcome]

    def _run_in_process(self, attempt: Attempt) -> Payload:
        with traced(self._tracer, attempt):
            return self._run_by_child(attempt)

    def _run_by_child(self, attempt: Attempt) -> Payload:
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
        ACTIVITY.set(attempt)
        attempt.started_at = begin = time.monotonic()
        try:
            if attempt.options is not None:
                self._watch_timeouts(attempt)
            if self._tracer is None and attempt.extra is None:
                payload = await attempt.handler.run_async(attempt)
            else:
                with traced(self._tracer, attempt):
                    payload = await attempt.handler.run_async(attempt)
            ended_ms = None if attempt.number == 1 else self._now_ms()
            outcome = outcomes.succeeded(attempt, payload, ended_ms)
        except PayloadLocked as exc:
            attempt.result = ""
            self._finish(attempt, self._locked(attempt, exc))
            attempt.context = attempt.stop = None
            return
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

    def _locked(self, attempt: Attempt, error: PayloadLocked) -> list[Outcome]:
        """Leave an attempt whose input cannot be read here to a worker that can."""
        if not (attempt.extra or {}).get("unknown"):
            log.error(
                "%r waits for another worker: %s",
                attempt,
                error,
                extra={"instance_id": attempt.instance_id, "activity": attempt.name},
            )
        return outcomes.unknown(
            attempt, now_ms=self._now_ms(), grace_ms=self._grace_ms, why=str(error)
        )

    def _failed(self, attempt: Attempt, failure: Failure, names: list[str]) -> Completed | Retry:
        log.warning(
            "activity %r of instance %s failed in attempt %d: %s",
            attempt.name,
            attempt.instance_id,
            attempt.number,
            told(failure),
            extra={"instance_id": attempt.instance_id, "activity": attempt.name},
        )
        return outcomes.failed(attempt, failure, names, now_ms=self._now_ms(), rand=random.random)

    def _watch_timeouts(self, attempt: Attempt, started_at: float = 0.0) -> None:
        """Start the clock of an attempt that has timeouts, as its function is entered."""
        attempt.started_at = attempt.beat_at = started_at or time.monotonic()
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


def _is_trivial(job: Job) -> bool:
    """Whether all of a job in line for a thread is known to be over at once."""
    if type(job) is Pack:
        attempts = job.attempts
    else:
        assert type(job) is Attempt
        if job.start_to_close_ms is not None or job.heartbeat_ms is not None:
            # What watches these counts the threads that hang in them.
            return False
        attempts = [job]
    return all(one.handler is not None and one.handler.pace.is_trivial for one in attempts)


def _word(outcome: Completed | Retry | None) -> str:
    """Return what became of an attempt that raised, in a word for the metrics."""
    if outcome is None:
        return ""
    return "retried" if type(outcome) is Retry else "failed"
