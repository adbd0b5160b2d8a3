"""Reporting outcomes to Redis, in groups, until Redis has taken them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from wfq import failpoints
from wfq.errors import StorageError
from wfq.storage.activities import Completed, Outcome, PackCompleted, Split, Unmark
from wfq_workers.activities.board import Board
from wfq_workers.activities.exchange import NEVER
from wfq_workers.activities.packs import Job, Pack
from wfq_workers.activities.wires import Batches, ReportWire
from wfq_workers.backoff import Backoff, one_line
from wfq_workers.metrics.counts import ActivityCounts

log = logging.getLogger("wfq.activity")

#: Attempts reported in one write, and bytes of results after which it is long enough.
MOST = 256
MOST_BYTES = 4 * 1024 * 1024
#: Times that Redis may refuse outcomes (not: be away) before they are sent one by one.
REFUSALS = 5
#: Longest rest in seconds of a worker that stops.
HURRY_S = 0.2
#: Seconds that an answer may lie unread while there is no other reason to be awake.
LAZY_S = 0.05


class Reporter:
    """Reports settled attempts. The result of an activity is not given up because Redis is
    away: it is sent again until it is taken, or until the worker has stopped."""

    def __init__(
        self,
        board: Board,
        wire: ReportWire,
        *,
        counts: ActivityCounts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = counts or ActivityCounts()
        self._board = board
        self._clock = clock
        self._wire = wire
        self.backoff = Backoff(log, "cannot report activity results")
        self._rest_until = 0.0
        self._refusals = 0
        #: Attempts whose outcomes are under way; what of them Redis has not taken; what
        #: follows when that is taken, if they must go one by one.
        self._attempts: list[Job] = []
        self._batches: Batches = {}
        self._singles: list[Batches] = []
        self._give_up_at = NEVER
        self._sent_at = 0.0
        self.gave_up = False
        self.waiting = False

    @property
    def ended(self) -> bool:
        """Whether all is reported, or given up, and no more will come."""
        return self._give_up_at < NEVER and not (self._attempts or self._board.done)

    @property
    def urgent(self) -> bool:
        now = self._clock()
        if not self.waiting:
            return bool(self._board.done) and now >= self._rest_until
        return bool(self._board.done) or self._give_up_at < NEVER or now >= self._sent_at + LAZY_S

    @property
    def memory(self) -> bool:
        return self._wire.memory

    def fileno(self) -> int:
        return self._wire.fileno()

    def close(self, timeout_s: float) -> None:
        """Let it end when all is reported, or after `timeout_s` (from another thread)."""
        self._give_up_at = self._clock() + timeout_s
        self._rest_until = min(self._rest_until, self._clock() + HURRY_S)
        self._board.bell.ring()

    def step(self, now: float) -> float:
        """Send what is settled, unless an answer is still to come."""
        if self.waiting:
            self._wire.check(now)
            if not (self._board.done and self._wire.answered()):
                lazy_until = self._sent_at + LAZY_S
                return lazy_until if now < lazy_until else NEVER
            # It has come by now, as on most steps: what is done need not wait for another round.
            self.take()
        if now >= self._give_up_at and self._batches:
            self._give_up()
        if now < self._rest_until:
            return self._rest_until
        if not self._batches:
            self._collect()
        if self._batches:
            if failpoints.ACTIVE:
                failpoints.hit("act.before_report")
            self._wire.send(self._batches)
            self.waiting = True
            self._sent_at = now
            return now + LAZY_S
        return NEVER

    def take(self) -> None:
        """Receive the answers: what was taken, and what was refused."""
        refused = self._wire.receive(self._batches)
        self.waiting = False
        if failpoints.ACTIVE:
            failpoints.hit("act.after_report")
        if refused:
            error = next(iter(refused.values()))
            self._rest(error)
            if not all(one.transient for one in refused.values()):
                self._refused(error)
        if not self._batches:
            self._next()

    def fail(self, error: Exception) -> None:
        """Send again what may or may not have arrived: outcomes are safe to send twice."""
        self.waiting = False
        self._wire.close()
        if not isinstance(error, StorageError):
            log.error("reporting activity results failed", exc_info=error)
            self._refused(error)
        self._rest(error)
        if not self._batches:
            self._next()

    def _collect(self) -> None:
        done, attempts, batches = self._board.done, self._attempts, self._batches
        tallies = self._counts.tallies
        size = 0
        while done and len(attempts) < MOST and size < MOST_BYTES:
            attempt, outcomes = done.popleft()
            if attempt.after is not None and attempt.after in attempts:
                # What its pack was split into counts only while the entry is not acknowledged.
                done.appendleft((attempt, outcomes))
                break
            attempts.append(attempt)
            for one in attempt.settled if isinstance(attempt, Pack) else (attempt,):
                if one.result:
                    tallies[one.name].add(one.result, one.took_s)
            if outcomes:
                batch = batches.get(attempt.stream)
                if batch is None:
                    batches[attempt.stream] = outcomes
                else:
                    batch += outcomes
                first = outcomes[0]
                if type(first) is Completed:
                    size += len(first.event)
                elif type(first) is PackCompleted:
                    size += sum(map(len, first.events))
        if attempts and not batches:
            self._next()

    def _next(self) -> None:
        """Go on when all that was sent is taken or dropped."""
        if self._singles:
            self._batches = self._singles.pop()
            return
        if not self._refusals:
            self.backoff.clear()
        self._refusals = 0
        self._board.reported(self._attempts)
        self._attempts = []

    def _rest(self, error: Exception) -> None:
        delay_s = self.backoff.note(error)
        if self._give_up_at < NEVER:
            delay_s = min(delay_s, HURRY_S)
        self._rest_until = self._clock() + delay_s

    def _refused(self, error: Exception) -> None:
        """Find what Redis refuses again and again, so that it does not hold up the others."""
        self._refusals += 1
        if self._refusals < REFUSALS:
            return
        left = [
            (stream, group) for stream, batch in self._batches.items() for group in _by_entry(batch)
        ]
        if len(left) == 1:
            log.error(
                "the result of an activity of instance %s was refused, it will run again: %s",
                _instance_of(left[0][1]),
                one_line(error),
                extra={"instance_id": _instance_of(left[0][1])},
            )
        else:
            self._singles = [{stream: group} for stream, group in left]
        self._batches = {}

    def _give_up(self) -> None:
        """Leave the rest to redelivery: the worker must end."""
        left = sum(map(len, self._batches.values())) + len(self._singles) + len(self._board.done)
        log.error("%d activity results were not reported; those activities run again", left)
        self.gave_up = True
        self._batches, self._singles, self._attempts = {}, [], []
        self._board.done.clear()


def _by_entry(batch: list[Outcome]) -> list[list[Outcome]]:
    """The outcomes of each entry, which count together."""
    groups: dict[bytes, list[Outcome]] = {}
    for outcome in batch:
        groups.setdefault(outcome.entry_id, []).append(outcome)
    return list(groups.values())


def _instance_of(group: list[Outcome]) -> str:
    """An instance that the outcomes are for; a pack has several."""
    for outcome in group:
        if isinstance(outcome, PackCompleted):
            return str(outcome.events[0])
        if not isinstance(outcome, Split | Unmark):
            return outcome.instance_id
    return "?"
