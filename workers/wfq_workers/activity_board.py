"""What an activity worker holds: attempts that run, and outcomes that wait to be reported."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from wfq.storage.activities import Completed, Outcome
from wfq_workers.attempt import Attempt
from wfq_workers.outcomes import hand_back, no_longer_wanted

#: Outcomes waiting to be reported, in multiples of the slots, beyond which reading stops.
UNREPORTED = 4

#: Threads, at least, that may hang in activities that were given up before slots are lost.
SPARE_THREADS = 16

#: An attempt and what is reported of it; None ends the reporting thread.
Done = tuple[Attempt, list[Outcome]] | None


class Board:
    """The slots of a worker. Shared by its threads: every step is one dict or queue operation.

    Whoever takes an attempt off `running` decides its outcome: the thread that ran it, the
    watch of timeouts, or the drain. So each attempt has exactly one.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        #: Threads that may hang and be replaced by others.
        self.spare = max(SPARE_THREADS, slots)
        #: Attempts whose outcome is open, running or waiting for a thread.
        self.running: dict[Attempt, bool] = {}
        #: Attempts whose entry Redis still counts as ours, as far as we know.
        self.held: dict[Attempt, bool] = {}
        #: Attempts that were given up while a thread is still inside the function.
        self.stuck: dict[Attempt, bool] = {}
        self.done: SimpleQueue[Done] = SimpleQueue()
        self._changed = threading.Event()
        self._waiting = False

    def free(self) -> int:
        """Slots that are free; 0 as well while far too many outcomes wait to be reported."""
        if len(self.held) >= UNREPORTED * self.slots:
            return 0
        return self.slots - len(self.running) - max(0, len(self.stuck) - self.spare)

    def wait_until_free(self, timeout_s: float) -> int:
        """Return the free slots, after waiting for one if need be."""
        free = self.free()
        if free <= 0:
            self._changed.clear()
            self._waiting = True
            # Asked again after the flag: a slot freed just before it set no event.
            if self.free() <= 0:
                self._changed.wait(timeout_s)
            self._waiting = False
            free = self.free()
        return free

    def wait_for_end(self, timeout_s: float) -> None:
        """Wait until an attempt is settled, at most `timeout_s`."""
        self._changed.clear()
        self._waiting = True
        if self.running:
            self._changed.wait(timeout_s)
        self._waiting = False

    def admit(self, attempt: Attempt) -> None:
        """Give the attempt a slot."""
        self.held[attempt] = True
        self.running[attempt] = True

    def runs(self, attempt: Attempt) -> bool:
        """Whether the attempt's outcome is still open."""
        return attempt in self.running

    def finish(self, attempt: Attempt, outcome: Outcome | None) -> bool:
        """Settle the attempt; False if that has happened already, and this result is late.

        None leaves the entry to whoever has it now.
        """
        if not self.running.pop(attempt, False):
            self.stuck.pop(attempt, None)
            return False
        if attempt.unwanted:
            outcome = _instead(attempt, outcome)
        if attempt.details is not None:
            attempt.final = isinstance(outcome, Completed)
        self.done.put((attempt, [] if outcome is None else [outcome]))
        if self._waiting:
            self.wake()
        return True

    def settle(self, attempt: Attempt, outcomes: list[Outcome]) -> None:
        """Report outcomes of an attempt that never had a slot."""
        self.held[attempt] = True
        self.done.put((attempt, outcomes))

    def reported(self, attempts: list[Attempt]) -> None:
        """Let go of attempts whose outcome Redis has taken, or that are left to others."""
        pop = self.held.pop
        for attempt in attempts:
            pop(attempt, None)
        if self._waiting:
            self.wake()

    def wake(self) -> None:
        """Let `wait_until_free` look again."""
        self._waiting = False
        self._changed.set()


def _instead(attempt: Attempt, outcome: Outcome | None) -> Outcome | None:
    """Return what is reported of an attempt that is not wanted any more."""
    if attempt.unwanted == "lost":
        return None
    if attempt.unwanted == "cancelled":
        return no_longer_wanted(attempt)
    # The worker stops: a result that came all the same counts, a half-done one does not.
    return hand_back(attempt, started=True) if attempt.told else outcome
