"""Packs: stream entries of several short attempts, which one thread runs one after the other.

A pack has one slot, and one outcome: what became of all its attempts, which acknowledges it.
Where that is not how it goes it is taken apart, and what was a pack goes on as single attempts:

* one that is delivered again, since something in it may end its workers; one with an activity
  that this program does not have or does not run in a thread; one that a stopping worker has not
  begun: all of it is handed back, as entries of their own;
* one that takes too long is *split*: the attempt that runs keeps the entry and is an attempt like
  any other from there on (timeouts, heartbeats, cancellation), those that have ended are reported,
  and the rest is handed back, so that nothing short waits behind something long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from wfq.storage.activities import Completed, Outcome, PackCompleted, Split
from wfq_workers.activities.attempt import Attempt, Delivery, Stream
from wfq_workers.activities.outcomes import hand_back

#: Seconds that a pack may take before it is split.
SLOW_S = 0.02


class PackDelivery(NamedTuple):
    """An entry of several attempts as it was read: instance id, message, instance id, ...

    `mark`: the attempt that kept it when it was split, or b"" for a whole one.
    """

    stream: Stream
    entry_id: bytes
    fields: list[bytes]
    deliveries: int = 1
    mark: bytes = b""

    def singles(self) -> list[Delivery]:
        """The deliveries of the attempts whose outcome is open."""
        count = len(self.fields) // 2
        numbers = range(count) if not self.mark else (int(self.mark),)
        return [
            (
                self.stream,
                self.entry_id,
                self.fields[2 * n].decode(),
                self.fields[2 * n + 1],
                self.deliveries,
            )
            for n in numbers
        ]


class Pack:
    """Attempts that share an entry; stands for them on the board until it is done or split."""

    __slots__ = (
        "_begun_at",
        "_current",
        "_lock",
        "_outcomes",
        "_split",
        "attempts",
        "entry_id",
        "kept_at",
        "settled",
        "stream",
    )
    #: As an attempt has it; nobody takes a pack away, which is split long before.
    unwanted = None
    after = None

    def __init__(self, attempts: list[Attempt], now: float) -> None:
        self.attempts = attempts
        self.stream = attempts[0].stream
        self.entry_id = attempts[0].entry_id
        self.kept_at = now
        self._outcomes: list[list[Outcome]] = []
        #: Attempts that are settled together with the pack.
        self.settled: list[Attempt] = []
        self._current = -1
        self._begun_at = 0.0
        self._split = False
        # Between the thread that runs the pack and the one that splits it.
        self._lock = threading.Lock()

    def next(self, last: list[Outcome]) -> Attempt | None:
        """Take the outcomes of the attempt before, and return the one to run now.

        None: there is no further, or what the last came to is to be settled by itself.
        """
        with self._lock:
            if self._split:
                return None
            if self._current < 0:
                self._begun_at = time.monotonic()
            else:
                self._outcomes.append(last)
            self._current += 1
            if self._current < len(self.attempts):
                return self.attempts[self._current]
            return None

    @property
    def was_split(self) -> bool:
        return self._split

    @property
    def slow_at(self) -> float:
        """When it is to be split (monotonic); some time after it has begun."""
        return (self._begun_at or time.monotonic()) + SLOW_S

    def outcomes(self) -> list[Outcome]:
        """What became of all its attempts."""
        self.settled = self.attempts
        return reported(self.attempts, self._outcomes)

    def split(
        self, consumer: str, now: float, adopt: Callable[[Attempt, list[Outcome]], None]
    ) -> None:
        """Where the pack is slow, let the attempt that runs keep the entry.

        It is handed to `adopt`, with what is to be reported of the others, before its thread
        can settle it.
        """
        with self._lock:
            begun = 0 <= self._current < len(self.attempts)
            if self._split or not begun or now < self._begun_at + SLOW_S:
                return
            self._split = True
            kept = self.attempts[self._current]
            self.settled = ended = self.attempts[: self._current]
            rest = self.attempts[self._current + 1 :]
            outcomes: list[Outcome] = [Split(self.entry_id, consumer, self._current)]
            outcomes += _counted(zip(ended, self._outcomes, strict=True))
            outcomes += [hand_back(attempt, started=False) for attempt in rest]
            kept.after = self
            adopt(kept, outcomes)

    def __repr__(self) -> str:
        return f"<Pack {self.entry_id.decode()} of {len(self.attempts)} {self.attempts[0].name}>"


#: What stands on the board, and in line for a thread.
Job = Attempt | Pack


def reported(attempts: list[Attempt], outcomes: list[list[Outcome]]) -> list[Outcome]:
    """What is reported of a pack whose attempts have all ended: one value, where they are plain."""
    home = attempts[0].home
    events: list[str | bytes] = []
    for found in outcomes:
        outcome = found[-1] if found else None
        if type(outcome) is not Completed or outcome.task or outcome.orchestrator_queue != home:
            return _counted(zip(attempts, outcomes, strict=True))
        events += (outcome.instance_id, outcome.event)
    return [PackCompleted(attempts[0].entry_id, home, events)]


def taken_apart(attempts: Iterable[Attempt], *, started: bool = False) -> list[Outcome]:
    """All attempts of a pack as entries of their own; those of a call count together."""
    return [hand_back(attempt, started=started) for attempt in attempts]


def _counted(pairs: Iterable[tuple[Attempt, list[Outcome]]]) -> list[Outcome]:
    """Outcomes of one entry, each in the form that counts by the entry."""
    counted: list[Outcome] = []
    for attempt, found in pairs:
        if not found:
            # Nothing is known of it: it runs again.
            counted.append(hand_back(attempt, started=True))
        for outcome in found:
            if type(outcome) is Completed and not outcome.task:
                outcome = outcome._replace(task=f"{attempt.task_id} {attempt.nonce}")
            counted.append(outcome)
    return counted
