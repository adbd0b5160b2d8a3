"""The thread that reports outcomes to Redis, in groups, until Redis has taken them."""

from __future__ import annotations

import logging
import threading
import time
from queue import Empty

from wfq import failpoints
from wfq.errors import StorageError
from wfq.storage.activities import Completed, Outcome
from wfq_workers.activity_board import Board
from wfq_workers.activity_store import ActivityStore
from wfq_workers.attempt import Attempt, Stream
from wfq_workers.backoff import Backoff, one_line

log = logging.getLogger("wfq.activity")

#: Attempts reported in one write, and bytes of results after which it is long enough.
MOST = 256
MOST_BYTES = 4 * 1024 * 1024
#: Times that Redis may refuse an outcome (not: be away) before it is left to a redelivery.
REFUSALS = 5

Batches = dict[Stream, list[Outcome]]


class Reporter:
    """Takes settled attempts off the board; outcomes of executed activities are not given up
    because Redis is away. Ends at the None on the queue, once all before it is reported."""

    def __init__(self, board: Board, store: ActivityStore) -> None:
        self._board = board
        self._store = store
        self._backoff = Backoff(log, "cannot report activity results")
        self._give_up_at: float | None = None
        self._hurry = threading.Event()
        self._gave_up = False
        self._thread = threading.Thread(
            target=self._serve, name="wfq-activity-reporter", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """Report what is left and end; False if Redis did not take all within `timeout_s`."""
        self._give_up_at = time.monotonic() + timeout_s
        self._hurry.set()
        self._board.done.put(None)
        self._thread.join()
        return not self._gave_up

    def _serve(self) -> None:
        get, get_now = self._board.done.get, self._board.done.get_nowait
        last = False
        while not last:
            item = get()
            attempts: list[Attempt] = []
            batches: Batches = {}
            size = 0
            while item is not None:
                attempt, outcomes = item
                attempts.append(attempt)
                if outcomes:
                    batch = batches.get(attempt.stream)
                    if batch is None:
                        batches[attempt.stream] = outcomes
                    else:
                        batch += outcomes
                    if type(outcomes[0]) is Completed:
                        size += len(outcomes[0].event)
                if len(attempts) >= MOST or size >= MOST_BYTES:
                    break
                try:
                    item = get_now()
                except Empty:
                    break
            last = item is None
            self._report(batches)
            self._board.reported(attempts)

    def _report(self, batches: Batches) -> None:
        if failpoints.ACTIVE:
            failpoints.hit("act.before_report")
        refusals = 0
        while batches:
            try:
                refused = self._store.report(batches)
                if not refused:
                    break
                refusals += not all(error.transient for error in refused.values())
                error: Exception = next(iter(refused.values()))
            except StorageError as exc:
                error = exc
            except Exception as exc:
                # Ours to repair, but the loop lives on: the lease brings the attempts back.
                log.exception("reporting activity results failed")
                refusals, error = refusals + 1, exc
            if refusals >= REFUSALS:
                self._report_singly(batches)
                break
            if self._give_up(batches, error):
                break
        self._backoff.clear()
        if failpoints.ACTIVE:
            failpoints.hit("act.after_report")

    def _give_up(self, batches: Batches, error: Exception) -> bool:
        """Wait before the next attempt; True if the worker stops and there is to be none."""
        if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
            count = sum(map(len, batches.values()))
            self._gave_up = True
            log.error(
                "%d activity results were not reported: %s; they will run again",
                count,
                one_line(error),
            )
            return True
        if not self._hurry.is_set():
            self._backoff.wait(error, self._hurry)
        else:
            time.sleep(min(0.2, self._backoff.next_delay_s()))
        return False

    def _report_singly(self, batches: Batches) -> None:
        """Find the outcomes that Redis refuses, so that they do not hold up the others."""
        for stream, outcomes in batches.items():
            for outcome in outcomes:
                try:
                    refused = self._store.report({stream: [outcome]})
                except Exception as exc:
                    log.error("an activity result was not reported: %s", one_line(exc))
                    continue
                for error in refused.values():
                    log.error(
                        "the result of an activity of instance %s was refused, it will run "
                        "again: %s",
                        outcome.instance_id,
                        one_line(error),
                    )
