"""Attempts that lost their workers again and again: found out one at a time, see decision 0025.

A worker that dies leaves behind everything it held, and one of that may have ended it. The first
times all of it is run again as it comes. From the `SUSPECT_FROM`th delivery on an attempt is a
suspect: a worker runs one suspect at a time, and notes in Redis which, before its function is
entered. Only noted runs count against it; the other suspects wait without a slot.
"""

from __future__ import annotations

import logging

from wfq.errors import StorageError
from wfq_workers.activities import outcomes
from wfq_workers.activities.attempt import Attempt
from wfq_workers.activities.board import Board
from wfq_workers.activities.exchange import NEVER
from wfq_workers.activities.runner import Runner
from wfq_workers.activities.store import ActivityStore
from wfq_workers.metrics.counts import ActivityCounts

log = logging.getLogger("wfq.activity")

#: Delivery from which on an attempt runs alone. One before is in company: that a deploy has
#: killed a worker with all it ran must not make a queue of it.
SUSPECT_FROM = 3
#: Seconds between two tries to note a run, while Redis cannot be asked.
AGAIN_S = 0.5


class Suspects:
    """Starts the suspects of a board, one at a time. For one thread."""

    def __init__(
        self,
        board: Board,
        store: ActivityStore,
        runner: Runner,
        counts: ActivityCounts,
        *,
        max_deliveries: int,
    ) -> None:
        self._board = board
        self._store = store
        self._runner = runner
        self._counts = counts
        # With two deliveries allowed the second is alone: one must be, to tell who it was.
        self._from = max(2, min(SUSPECT_FROM, max_deliveries))
        #: Noted runs after which an attempt is given up.
        self._lone_runs = max_deliveries - self._from + 1
        self._rest_until = 0.0

    def has(self, attempt: Attempt) -> bool:
        """Whether the attempt is a suspect."""
        return attempt.deliveries >= self._from

    def add(self, attempt: Attempt) -> None:
        """Let the attempt wait for its turn."""
        self._board.suspects[attempt] = True
        self._board.admit(attempt)

    def step(self, now: float) -> float:
        """Start the next if none runs; returns when (monotonic) to be asked again."""
        board = self._board
        while board.suspects and not board.lone:
            if now < self._rest_until:
                return self._rest_until
            attempt = next(iter(board.suspects))
            if attempt.unwanted:
                # Its thread would have settled it, had it one.
                board.finish(attempt, None)
                continue
            try:
                before = self._store.isolate(attempt, self._lone_runs)
            except StorageError as exc:
                log.warning(
                    "%r waits: %s",
                    attempt,
                    exc,
                    extra={"instance_id": attempt.instance_id, "activity": attempt.name},
                )
                self._rest_until = now + AGAIN_S
                return self._rest_until
            if before < 0:
                board.finish(attempt, None)
            elif before >= self._lone_runs:
                self._give_up(attempt)
            else:
                self._run(attempt)
        return NEVER

    def _run(self, attempt: Attempt) -> None:
        log.warning(
            "%r was delivered %d times without a result; no other such activity runs beside it",
            attempt,
            attempt.deliveries - 1,
            extra={"instance_id": attempt.instance_id, "activity": attempt.name},
        )
        if self._board.single_out(attempt):
            self._runner.start([attempt])

    def _give_up(self, attempt: Attempt) -> None:
        log.error(
            "%r ended %d workers; giving it up",
            attempt,
            attempt.deliveries - 1,
            extra={"instance_id": attempt.instance_id, "activity": attempt.name},
        )
        shown = attempt.name if self._runner.handler(attempt.name) is not None else "unknown"
        self._counts.tallies[shown].lost += 1
        self._board.finish(attempt, outcomes.worker_lost(attempt))
