"""Reading attempts, taking over those of dead workers, and handing them out."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence

import orjson

from wfq import failpoints
from wfq.errors import StorageError
from wfq.logs import plain_text
from wfq.storage.activities import Outcome, Unmark
from wfq_workers.activities import outcomes
from wfq_workers.activities.attempt import Attempt, Delivery, MalformedMessage
from wfq_workers.activities.board import Board
from wfq_workers.activities.exchange import NEVER
from wfq_workers.activities.execution import Where
from wfq_workers.activities.keeper import Keeper
from wfq_workers.activities.options import ActivityOptions
from wfq_workers.activities.packs import Job, Pack, PackDelivery, taken_apart
from wfq_workers.activities.reading import Reading, ReadPlan
from wfq_workers.activities.runner import Runner
from wfq_workers.activities.store import ActivityStore
from wfq_workers.activities.suspects import Suspects
from wfq_workers.activities.wires import ReadWire
from wfq_workers.backoff import Backoff, one_line
from wfq_workers.metrics.counts import ActivityCounts

log = logging.getLogger("wfq.activity")

#: Between two looks for attempts of dead workers, as shares of the lease: often enough to
#: find them soon, spread so that many workers do not look at once.
CLAIM_BEAT = (0.2, 0.5)
#: The same for one whose turn it was not: others look.
LOST_BEAT = (0.5, 1.0)
#: For how long, as a share of the lease, one worker's look counts for all that have many free
#: slots. Less than the time between two looks of its own: alone, it looks each time.
CLAIM_TURN = 0.15
#: Longest time in ms that a read waits at the server.
LONGEST_BLOCK_MS = 5_000
#: Seconds between two looks at the memory store, which cannot wait.
MEMORY_POLL_S = 0.005


class Reader:
    """Fills the free slots of the board with attempts, and never more than those."""

    def __init__(
        self,
        store: ActivityStore,
        wire: ReadWire,
        board: Board,
        runner: Runner,
        keeper: Keeper,
        options: ActivityOptions,
        counts: ActivityCounts | None = None,
        plan: ReadPlan | None = None,
    ) -> None:
        self._counts = counts or ActivityCounts()
        self._store = store
        self._wire = wire
        self._board = board
        self._runner = runner
        self._keeper = keeper
        self._options = options
        self._suspects = Suspects(
            board, store, runner, self._counts, max_deliveries=options.max_deliveries
        )
        self._plan = plan or ReadPlan(len(store.streams))
        self._reading: Reading | None = None
        self.backoff = Backoff(log, "cannot read activities")
        self._rest_until = 0.0
        self._stop = False
        self._claim_at = 0.0
        self._claim_first = 0
        #: Whether an answer was lost, and with it perhaps attempts handed out to us.
        self._astray = False
        self._prepared = False
        self.ready = threading.Event()
        self.stopped = threading.Event()
        self._plan_claim()

    @property
    def waiting(self) -> bool:
        return self._reading is not None

    @property
    def urgent(self) -> bool:
        if self._reading is not None:
            return True
        return not self._stop and self._board.free() > 0 and time.monotonic() >= self._rest_until

    @property
    def ended(self) -> bool:
        return self._stop and self._reading is None

    @property
    def memory(self) -> bool:
        return self._wire.memory

    def fileno(self) -> int:
        return self._wire.fileno()

    def stop(self) -> None:
        """Read no more, hand back what a read under way brings, and return (another thread)."""
        self._stop = True
        while not self.stopped.is_set():
            self._board.bell.ring()
            self._wire.unblock()
            # Again if need be: the read may have begun just after.
            self.stopped.wait(0.05)

    def step(self, now: float) -> float:
        """Fill slots: from lost answers, from dead workers, then with new work."""
        again = NEVER if self._stop else self._suspects.step(now)
        if self._reading is not None:
            self._wire.check(now)
            return again
        if self._stop:
            self.stopped.set()
            return NEVER
        if now < self._rest_until:
            return min(again, self._rest_until)
        self._prepare()
        if self._astray and self._board.free() > 0:
            self._recover()
            self._astray = False
        if now >= self._claim_at and self._board.free() > 0:
            looked = self._claim(self._board.free())
            self._plan_claim(CLAIM_BEAT if looked else LOST_BEAT)
        free = self._board.free()
        if free > 0:
            reading = self._plan.next(free)
            block_ms = self._block_ms(now) if reading.wait else None
            self._wire.send(reading.streams, reading.count, block_ms)
            self._reading = reading
        return again

    def take(self) -> None:
        """Receive attempts and hand them out."""
        deliveries, found = self._wire.receive()
        if failpoints.ACTIVE:
            failpoints.hit("act.after_read")
        reading, self._reading = self._reading, None
        assert reading is not None
        self._plan.note(reading, found)
        self.backoff.clear()
        if deliveries:
            self._hand_out(deliveries)
        elif self._wire.memory:
            self._rest_until = time.monotonic() + MEMORY_POLL_S

    def fail(self, error: Exception) -> None:
        """Start again from what Redis holds: its answer may have had attempts for us."""
        self._reading = None
        self._plan.lost()
        self._wire.close()
        if not isinstance(error, StorageError):
            log.error("reading activities failed", exc_info=error)
        # The groups, or all data, may be gone.
        self._astray, self._prepared = True, False
        self._rest_until = time.monotonic() + self.backoff.note(error)

    def _prepare(self) -> None:
        if not self._prepared:
            self._store.prepare()
            self._prepared = True
            self.ready.set()

    def _block_ms(self, now: float) -> int:
        """Wait no longer than to the next look for dead workers' attempts."""
        return max(1, min(LONGEST_BLOCK_MS, int((self._claim_at - now) * 1000)))

    def _hand_out(self, deliveries: list[Delivery | PackDelivery]) -> None:
        """Run what there are slots for; settle at once what cannot be run here."""
        now = time.monotonic()
        free = 0 if self._stop else self._board.free()
        ready: list[Job] = []
        for delivery in deliveries:
            if isinstance(delivery, PackDelivery):
                pack = self._pack(delivery, now, whole=len(ready) < free)
                if pack is not None:
                    self._board.admit(pack)
                    ready.append(pack)
                continue
            try:
                attempt = Attempt(delivery, now)
            except MalformedMessage as exc:
                self._refuse(delivery, exc)
                continue
            if len(ready) >= free:
                self._board.settle(attempt, [outcomes.hand_back(attempt, started=False)])
                continue
            attempt.handler = self._runner.handler(attempt.name)
            if attempt.handler is None:
                self._board.settle(attempt, self._unknown(attempt))
                continue
            if self._suspects.has(attempt):
                self._suspects.add(attempt)
                continue
            self._board.admit(attempt)
            ready.append(attempt)
        if self._board.suspects:
            self._suspects.step(now)
            self._keeper.notice()
        if ready:
            self._count_waits(ready)
            self._runner.start(ready)
            self._keeper.notice()

    def _count_waits(self, jobs: list[Job]) -> None:
        """Count how long first attempts have waited for a worker; one of a pack tells of all."""
        now_ms, waits = self._store.now_ms(), self._counts.waits
        for job in jobs:
            attempt = job.attempts[0] if type(job) is Pack else job
            assert type(attempt) is Attempt
            if attempt.number == 1 and attempt.deliveries == 1:
                waits.add((now_ms - attempt.scheduled_ms) / 1000)

    def _pack(self, delivery: PackDelivery, now: float, *, whole: bool) -> Pack | None:
        """The pack to run, unless it must be taken apart: see `packs`."""
        attempts: list[Attempt] = []
        for single in delivery.singles():
            try:
                attempt = Attempt(single, now)
            except MalformedMessage as exc:
                self._refuse(single, exc, packed=True)
                whole = False
                continue
            attempts.append(attempt)
            attempt.handler = self._runner.handler(attempt.name)
            if attempt.handler is None or attempt.handler.where is not Where.THREAD:
                whole = False
        if not attempts:
            self._store.forget(delivery.stream, delivery.entry_id)
            return None
        pack = Pack(attempts, now)
        # Delivered before: one of them may have ended its worker, and would do so again.
        if whole and delivery.deliveries == 1 and not delivery.mark:
            return pack
        outcomes = taken_apart(attempts)
        if delivery.mark:
            outcomes.append(Unmark(delivery.entry_id))
        self._board.settle(pack, outcomes)
        return None

    def _unknown(self, attempt: Attempt) -> list[Outcome]:
        self._counts.unknown += 1
        if not (attempt.extra or {}).get("unknown"):
            log.warning(
                "no activity %r in this program; instance %s waits for a worker that has it",
                plain_text(attempt.name),
                attempt.instance_id,
                extra={"instance_id": attempt.instance_id, "activity": plain_text(attempt.name)},
            )
        grace_ms = int(self._options.unknown_grace_s * 1000)
        return outcomes.unknown(attempt, now_ms=self._store.now_ms(), grace_ms=grace_ms)

    def _refuse(self, delivery: Delivery, error: Exception, *, packed: bool = False) -> None:
        stream, entry_id, instance_id, message, _ = delivery
        log.error(
            "dropping entry %s of %s for instance %s: %s",
            entry_id.decode(),
            stream.key,
            plain_text(instance_id),
            one_line(error),
            extra={"instance_id": plain_text(instance_id)},
        )
        self._store.bury(stream, instance_id, message, one_line(error))
        if not packed:
            self._store.forget(stream, entry_id)

    # Attempts of others, and our own that an answer was lost for.

    def _plan_claim(self, beat: tuple[float, float] = CLAIM_BEAT) -> None:
        self._claim_at = time.monotonic() + self._options.lease_s * random.uniform(*beat)

    def _claim(self, free: int) -> bool:
        """Take over attempts whose worker went silent, at most as many as there are slots.

        Returns whether it was this worker's turn to look.
        """
        streams = len(self._store.streams)
        if free >= streams:
            # Room enough to look for all workers, so one of them does.
            numbers = self._store.turns(int(self._options.lease_s * CLAIM_TURN * 1000))
            self._take_stale(numbers, free)
            return bool(numbers)
        numbers = [(self._claim_first + n) % streams for n in range(min(free, streams))]
        self._claim_first += len(numbers)
        self._take_stale(numbers, free)
        return True

    def _take_stale(self, numbers: Sequence[int], free: int) -> None:
        streams = len(self._store.streams)
        idle_ms = int(self._options.lease_s * 1000)
        claimed = self._store.claim(numbers, max(1, free // streams), idle_ms)
        if claimed:
            self._counts.claimed += len(claimed)
            log.info("took over %d activity attempts of silent workers", len(claimed))
            self._take_over(claimed)

    def _recover(self) -> None:
        """Take up what was handed out to us in an answer that got lost."""
        held = {(attempt.stream, attempt.entry_id) for attempt in list(self._board.held)}
        mine = [d for d in self._store.pending(self._store.consumer) if (d[0], d[1]) not in held]
        if mine:
            self._take_over(mine)

    def _take_over(self, deliveries: list[Delivery | PackDelivery]) -> None:
        """Hand out attempts that were delivered before, unless nobody wants them any more."""
        wanted: list[Delivery | PackDelivery] = []
        now = time.monotonic()
        for delivery in deliveries:
            if isinstance(delivery, PackDelivery):
                # Taken apart; whoever runs its attempts then asks about each.
                wanted.append(delivery)
                continue
            try:
                attempt = Attempt(delivery, now)
            except MalformedMessage:
                wanted.append(delivery)
                continue
            (word,) = self._store.renew([attempt])
            if word == "cancelled":
                self._board.settle(attempt, [outcomes.no_longer_wanted(attempt)])
            elif word != "lost":
                # Of a run that is over too: a task that nobody awaits runs all the same.
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
