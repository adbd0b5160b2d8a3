"""The thread that reads attempts, takes over those of dead workers, and hands them out."""

from __future__ import annotations

import logging
import random
import threading
import time

import orjson

from wfq import failpoints
from wfq.errors import StorageError
from wfq.storage.activities import Outcome
from wfq_workers import outcomes
from wfq_workers.activity_board import Board
from wfq_workers.activity_keeper import Keeper
from wfq_workers.activity_options import ActivityOptions
from wfq_workers.activity_reading import ReadPlan
from wfq_workers.activity_runner import Runner
from wfq_workers.activity_store import LONGEST_BLOCK_MS, ActivityStore
from wfq_workers.attempt import Attempt, Delivery, MalformedMessage
from wfq_workers.backoff import Backoff, escaped, one_line

log = logging.getLogger("wfq.activity")

#: Between two looks for attempts of dead workers, as shares of the lease: often enough to
#: find them soon, spread so that many workers do not look at once.
CLAIM_BEAT = (0.2, 0.5)


class Reader:
    """Fills the free slots of the board with attempts, and never more than those."""

    def __init__(
        self,
        store: ActivityStore,
        board: Board,
        runner: Runner,
        keeper: Keeper,
        options: ActivityOptions,
    ) -> None:
        self._store = store
        self._board = board
        self._runner = runner
        self._keeper = keeper
        self._options = options
        self._plan = ReadPlan(len(store.streams))
        self._backoff = Backoff(log, "cannot read activities")
        self._stop = threading.Event()
        self._claim_at = 0.0
        self._claim_first = 0
        #: Whether an answer was lost, and with it perhaps entries handed out to us.
        self._astray = False
        self._prepared = False
        self.ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="wfq-activity-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Read no more, hand back what a read under way brings, and return."""
        self._stop.set()
        while self._thread.is_alive():
            self._board.wake()
            self._store.wake_reader()
            # Again if need be: the read may have begun just after.
            self._thread.join(0.05)

    def _serve(self) -> None:
        self._plan_claim()
        while not self._stop.is_set():
            try:
                self._prepare()
                self._step()
                self._backoff.clear()
            except StorageError as exc:
                # The answer may have held attempts; the group, or all data, may be gone.
                self._astray, self._prepared = True, False
                self._backoff.wait(exc, self._stop)
            except Exception as exc:
                log.exception("the activity reader failed")
                self._backoff.wait(exc, self._stop)

    def _prepare(self) -> None:
        if not self._prepared:
            self._store.prepare()
            self._prepared = True
            self.ready.set()

    def _step(self) -> None:
        """Fill slots once: from lost answers, from dead workers, then with new work."""
        free = self._board.wait_until_free(timeout_s=1.0)
        if free <= 0 or self._stop.is_set():
            return
        if self._astray:
            self._recover()
            self._astray = False
        elif time.monotonic() >= self._claim_at:
            self._claim(free)
            self._plan_claim()
        else:
            self._read(free)

    def _read(self, free: int) -> None:
        reading = self._plan.next(free)
        deliveries, found = self._store.read(
            reading.streams, reading.count, self._block_ms() if reading.wait else 0
        )
        if failpoints.ACTIVE:
            failpoints.hit("act.after_read")
        self._plan.note(reading, found)
        if deliveries:
            self._hand_out(deliveries)

    def _block_ms(self) -> int:
        """Wait no longer than to the next look for dead workers' attempts."""
        left_s = self._claim_at - time.monotonic()
        return max(1, min(LONGEST_BLOCK_MS, int(left_s * 1000)))

    def _hand_out(self, deliveries: list[Delivery]) -> None:
        """Run what there are slots for; settle at once what cannot be run here."""
        now = time.monotonic()
        free = 0 if self._stop.is_set() else self._board.free()
        ready: list[Attempt] = []
        for delivery in deliveries:
            try:
                attempt = Attempt(delivery, now)
            except MalformedMessage as exc:
                self._refuse(delivery, exc)
                continue
            if len(ready) >= free:
                self._board.settle(attempt, [outcomes.hand_back(attempt, started=False)])
                continue
            if attempt.deliveries > self._options.max_deliveries:
                log.error("%r ended %d workers; giving it up", attempt, attempt.deliveries - 1)
                self._board.settle(attempt, [outcomes.worker_lost(attempt)])
                continue
            attempt.handler = self._runner.handler(attempt.name)
            if attempt.handler is None:
                self._board.settle(attempt, self._unknown(attempt))
                continue
            self._board.admit(attempt)
            ready.append(attempt)
        if ready:
            self._runner.start(ready)
            self._keeper.notice()

    def _unknown(self, attempt: Attempt) -> list[Outcome]:
        if not (attempt.extra or {}).get("unknown"):
            log.warning(
                "no activity %r in this program; instance %s waits for a worker that has it",
                escaped(attempt.name),
                attempt.instance_id,
                extra={"instance_id": attempt.instance_id},
            )
        grace_ms = int(self._options.unknown_grace_s * 1000)
        return outcomes.unknown(attempt, now_ms=self._store.now_ms(), grace_ms=grace_ms)

    def _refuse(self, delivery: Delivery, error: Exception) -> None:
        stream, entry_id, instance_id, _, _ = delivery
        log.error(
            "dropping entry %s of %s for instance %s: %s",
            entry_id.decode(),
            stream.key,
            escaped(instance_id),
            one_line(error),
        )
        self._store.drop(stream, entry_id, one_line(error))

    # Attempts of others, and our own that an answer was lost for.

    def _plan_claim(self) -> None:
        self._claim_at = time.monotonic() + self._options.lease_s * random.uniform(*CLAIM_BEAT)

    def _claim(self, free: int) -> None:
        """Take over attempts whose worker went silent, at most as many as there are slots."""
        streams = len(self._store.streams)
        numbers = [(self._claim_first + n) % streams for n in range(min(free, streams))]
        self._claim_first += len(numbers)
        idle_ms = int(self._options.lease_s * 1000)
        claimed = self._store.claim(numbers, max(1, free // streams), idle_ms)
        if claimed:
            log.info("took over %d activity attempts of silent workers", len(claimed))
            self._take_over(claimed)

    def _recover(self) -> None:
        """Take up what was handed out to us in an answer that got lost."""
        held = {(attempt.stream, attempt.entry_id) for attempt in list(self._board.held)}
        mine = [d for d in self._store.pending(self._store.consumer) if (d[0], d[1]) not in held]
        if mine:
            self._take_over(mine)

    def _take_over(self, deliveries: list[Delivery]) -> None:
        """Hand out attempts that were delivered before, unless nobody wants them any more."""
        wanted: list[Delivery] = []
        now = time.monotonic()
        for delivery in deliveries:
            try:
                attempt = Attempt(delivery, now)
            except MalformedMessage:
                wanted.append(delivery)
                continue
            (word,) = self._store.renew([attempt])
            if word == "cancelled":
                self._board.settle(attempt, [outcomes.no_longer_wanted(attempt)])
            elif word == "ok":
                wanted.append(self._with_heartbeat(attempt, delivery))
        self._hand_out(wanted)

    def _with_heartbeat(self, attempt: Attempt, delivery: Delivery) -> Delivery:
        """Return the delivery with the details that the silent worker has saved last."""
        details = self._store.heartbeat_details(attempt)
        if details is None:
            return delivery
        stream, entry_id, instance_id, _, deliveries = delivery
        message = attempt.message(hb=orjson.Fragment(details))
        return (stream, entry_id, instance_id, message, deliveries)
