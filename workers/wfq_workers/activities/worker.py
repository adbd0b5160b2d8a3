"""The activity worker: reads attempts, runs them, reports what became of them.

Threads: the *exchange* reads attempts, hands them to the thread pool, the event loop or the
processes that run them, and reports outcomes in groups; a *keeper* renews leases; a *watch*
enforces timeouts. They meet on the `Board`.
"""

from __future__ import annotations

import logging
import threading
import time

from wfq.registry import Registry
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink, timeout_of
from wfq.urls import is_cluster
from wfq_workers.activities import outcomes
from wfq_workers.activities.attempt import Attempt
from wfq_workers.activities.exchange import Exchange
from wfq_workers.activities.keeper import Keeper
from wfq_workers.activities.options import ActivityOptions
from wfq_workers.activities.packs import SLOW_S, Pack, taken_apart
from wfq_workers.activities.parts import make_board, make_ends
from wfq_workers.activities.runner import Runner
from wfq_workers.activities.store import ActivityStore
from wfq_workers.backoff import one_line
from wfq_workers.metrics.counts import ActivityCounts

log = logging.getLogger("wfq.activity")

#: Seconds that a stopping worker gives Redis to take the last results.
REPORT_S = 10.0
#: Seconds that cancelled activities get to end, after the grace period.
CANCEL_S = 1.0


class ActivityLoop:
    """Runs the activities of some queues until it is stopped.

    `worker_id` is unique in the world: it names the consumer that holds attempts.
    """

    def __init__(
        self,
        url: str,
        namespace: Namespace,
        registry: Registry,
        options: ActivityOptions,
        *,
        worker_id: str,
    ) -> None:
        self.options = options
        self.worker_id = worker_id
        self._link = SyncLink(url, timeout_s=timeout_of(url), patient=False)
        self._store = ActivityStore(self._link, namespace, options.queues, worker_id)
        self._board = make_board(self._store, options, parted=is_cluster(url))
        self._runner = Runner(
            registry,
            self._board,
            self._store.now_ms,
            consumer=worker_id,
            processes=options.processes,
            grace_ms=int(options.unknown_grace_s * 1000),
        )
        self._keeper = Keeper(self._board, self._store, self._runner.paces, lease_s=options.lease_s)
        #: What this loop counts, for its metrics.
        self.counts = ActivityCounts()
        self._ends = make_ends(
            self._link, self._store, self._board, self._runner, self._keeper, options, self.counts
        )
        self._readers = [ends.reader for ends in self._ends]
        self._reporters = [ends.reporter for ends in self._ends]
        self._exchange = Exchange(
            self._board,
            [*self._reporters, *self._readers],
            take_trivial=self._runner.take_trivial,
            run=self._runner.run,
            kick=self._runner.kick,
            widen=self._runner.widen,
            split_slow=self._runner.split_slow,
        )
        self._stop_lock = threading.Lock()
        self._deadline = float("inf")
        self._drain: threading.Thread | None = None
        self._stopped = threading.Event()
        self._started = False

    def start(self) -> None:
        """Begin to work; returns at once, also when Redis cannot be reached yet."""
        self._started = True
        self._keeper.start()
        self._exchange.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the worker reads; False if it does not within `timeout_s`."""
        return self._readers[0].ready.wait(timeout_s)

    def stop(self, grace_s: float = 30.0) -> None:
        """Take no more work, finish what runs within `grace_s`, hand back the rest; return.

        Another thread may call it again meanwhile, to shorten the grace.
        """
        with self._stop_lock:
            self._deadline = min(self._deadline, time.monotonic() + grace_s)
            if self._drain is None:
                self._drain = threading.Thread(target=self._stop, name="wfq-activity-drain")
                self._drain.start()
            self._board.interrupt()
        self._stopped.wait()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the loop has ended."""
        self._stopped.wait(timeout_s)

    @property
    def reading(self) -> bool:
        """Whether it takes new work."""
        return self._started and not self._readers[0].stopped.is_set()

    @property
    def running(self) -> int:
        """Attempts that run, or wait for a thread."""
        return len(self._board.running)

    @property
    def redis_errors(self) -> int:
        """Times that Redis could not be asked."""
        backoffs = [ends.reader.backoff for ends in self._ends]
        backoffs += [ends.reporter.backoff for ends in self._ends]
        return sum(backoff.total for backoff in (*backoffs, self._keeper.backoff))

    def _stop(self) -> None:
        try:
            if not self._started:
                self._link.close()
                return
            self._stop_reading()
            self._hand_back_waiting()
            self._wait_until_idle()
            self._hand_back_running()
            self._runner.close()
            self._keeper.close()
            for reporter in self._reporters:
                reporter.close(REPORT_S)
            self._exchange.join()
            if not any(reporter.gave_up for reporter in self._reporters):
                self._leave()
            for ends in self._ends:
                ends.close()
            self._link.close()
        finally:
            self._stopped.set()

    def _stop_reading(self) -> None:
        first, *others = self._readers
        threads = [threading.Thread(target=reader.stop) for reader in others]
        for thread in threads:
            thread.start()
        first.stop()
        for thread in threads:
            thread.join()

    def _hand_back_waiting(self) -> None:
        for job in self._runner.take_waiting():
            if isinstance(job, Pack):
                self._board.finish_pack(job, taken_apart(job.attempts))
            else:
                self._board.finish(job, outcomes.hand_back(job, started=False))
        for suspect in list(self._board.suspects):
            self._board.finish(suspect, outcomes.hand_back(suspect, started=False))

    def _wait_until_idle(self) -> None:
        while self._board.running and time.monotonic() < self._deadline:
            # Anything that ends wakes us; the deadline may be drawn nearer meanwhile.
            self._board.wait_for_end(min(0.5, max(0.0, self._deadline - time.monotonic())))

    def _hand_back_running(self) -> None:
        """Tell what outlived the grace period to end; what does not runs on elsewhere."""
        split_by = time.monotonic() + 10 * SLOW_S
        while time.monotonic() < split_by and any(
            isinstance(job, Pack) for job in list(self._board.running)
        ):
            self._board.wait_for_end(SLOW_S)
        # A pack that is left here has just begun: it runs on elsewhere.
        late = [job for job in list(self._board.running) if isinstance(job, Attempt)]
        if not late:
            return
        log.warning("%d activities did not end in time; handing them back", len(late))
        for attempt in late:
            attempt.unwanted = attempt.unwanted or "stopping"
            attempt.cancel()
        end = time.monotonic() + CANCEL_S
        while self._board.running and time.monotonic() < end:
            self._board.wait_for_end(max(0.0, end - time.monotonic()))
        for attempt in late:
            if self._board.finish(attempt, outcomes.hand_back(attempt, started=True)):
                attempt.cancel(at_once=True)

    def _leave(self) -> None:
        try:
            self._store.leave()
        except Exception as exc:
            # An idle consumer that stays behind costs a few bytes, and is swept later.
            log.debug("the consumer was not removed: %s", one_line(exc))
