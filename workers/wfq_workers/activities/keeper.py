"""The thread that keeps attempts alive in Redis while they run, and saves heartbeats.

It also tells orchestrators which activities are short, see `pace`.

A thread of its own, so that neither user code nor a waiting read can make a lease run out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from wfq_workers.activities.attempt import Attempt
from wfq_workers.activities.board import Board
from wfq_workers.activities.pace import Pace, news
from wfq_workers.activities.packs import Pack
from wfq_workers.activities.store import ActivityStore
from wfq_workers.backoff import Backoff

log = logging.getLogger("wfq.activity")

#: Seconds between looks while something runs: how soon a heartbeat is saved, and a
#: cancellation is learnt by an activity that asks for it.
BEAT_S = 1.0
#: Leases renewed by one call.
MOST = 500


class Keeper:
    """Renews what has run for a third of the lease; tells activities what is no longer wanted."""

    def __init__(
        self,
        board: Board,
        store: ActivityStore,
        paces: Callable[[], Mapping[str, Pace]],
        *,
        lease_s: float,
    ) -> None:
        self._paces = paces
        self._board = board
        self._store = store
        self._renew_s = lease_s / 3
        self.backoff = Backoff(log, "cannot renew activity leases")
        self._wake = threading.Event()
        self._resting = False
        self._closed = threading.Event()
        self._saved: set[Attempt] = set()
        self._thread = threading.Thread(target=self._serve, name="wfq-activity-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notice(self) -> None:
        """Say that something runs now, in case the thread rests."""
        if self._resting:
            self._resting = False
            self._wake.set()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        # Not for ever: it may wait for a Redis that is away.
        self._thread.join(2.0)

    def _serve(self) -> None:
        while not self._closed.is_set():
            self._rest()
            try:
                self.beat(time.monotonic())
                self.backoff.clear()
            except Exception as exc:
                self.backoff.wait(exc, self._closed)

    def _rest(self) -> None:
        """Sleep one beat while something runs, else until something does."""
        if not self._board.running and not self._saved:
            self._wake.clear()
            self._resting = True
            if not self._board.running:
                self._wake.wait()
            self._resting = False
        self._closed.wait(min(BEAT_S, self._renew_s))

    def beat(self, now: float) -> None:
        """Save heartbeats and renew what is due at `now`. Raises: StorageError."""
        jobs = list(self._board.running)
        running = [job for job in jobs if type(job) is Attempt]
        self._renew_packs([job for job in jobs if type(job) is Pack], now)
        self._save_heartbeats(running)
        due = [attempt for attempt in running if now - attempt.kept_at >= self._due_s(attempt)]
        for first in range(0, len(due), MOST):
            part = due[first : first + MOST]
            for attempt, word in zip(part, self._store.renew(part), strict=True):
                attempt.kept_at = now
                if word != "ok" and self._board.runs(attempt) and not attempt.unwanted:
                    self._drop(attempt, word)
        self._forget_heartbeats()
        short, long = news(self._paces(), now)
        if short or long:
            self._store.announce(short, long)

    def _renew_packs(self, packs: list[Pack], now: float) -> None:
        """Keep packs that wait long for a thread. Whatever has become of some instance or of the
        entry: a pack is short, and what comes of it counts only where it is wanted."""
        due = [pack for pack in packs if now - pack.kept_at >= self._renew_s]
        for first in range(0, len(due), MOST):
            part = due[first : first + MOST]
            self._store.renew([pack.attempts[0] for pack in part])
            for pack in part:
                pack.kept_at = now

    def _due_s(self, attempt: Attempt) -> float:
        """Seconds between renewals; an activity that watches for cancellation learns it soon."""
        context = attempt.context
        watched = context is not None and context.is_watched
        return min(BEAT_S, self._renew_s) * 0.9 if watched else self._renew_s

    def _drop(self, attempt: Attempt, word: str) -> None:
        attempt.unwanted = "lost" if word == "lost" else "cancelled"
        log.info(
            "the result of %r is no longer wanted: %s",
            attempt,
            "another worker has it" if word == "lost" else "its instance has ended or gone on",
            extra={"instance_id": attempt.instance_id, "activity": attempt.name},
        )
        attempt.cancel()

    def _save_heartbeats(self, running: list[Attempt]) -> None:
        for attempt in running:
            if attempt.details is not None and not attempt.details_sent:
                attempt.details_sent = True
                try:
                    self._store.save_heartbeat(attempt, attempt.details)
                except Exception:
                    attempt.details_sent = False
                    raise
                self._saved.add(attempt)

    def _forget_heartbeats(self) -> None:
        """Delete the saved details of tasks that are over.

        Not those of an attempt that another follows: it saves its own in the same place.
        """
        for attempt in [a for a in self._saved if a not in self._board.held]:
            if attempt.final:
                self._store.forget_heartbeat(attempt)
            self._saved.discard(attempt)
