"""What an activity worker holds: attempts that run, and outcomes that wait to be reported."""

from __future__ import annotations

import socket
import threading
from collections import deque

from wfq.storage.activities import Completed, Outcome, Unmark
from wfq_workers.activities.attempt import Attempt
from wfq_workers.activities.outcomes import hand_back, no_longer_wanted
from wfq_workers.activities.packs import Job, Pack

#: Outcomes waiting to be reported, in multiples of the slots, beyond which reading stops.
UNREPORTED = 4

#: Threads, at least, that may hang in activities that were given up before slots are lost.
SPARE_THREADS = 16

#: An attempt, or a pack of them, and what is reported of it.
Done = tuple[Job, list[Outcome]]


class Board:
    """The slots of a worker. Shared by its threads: every step is one dict or queue operation.

    Whoever takes an attempt off `running` decides its outcome: the thread that ran it, the
    watch of timeouts, or the drain. So each attempt has exactly one.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        #: Threads that may hang and be replaced by others.
        self.spare = max(SPARE_THREADS, slots)
        #: Attempts whose outcome is open, running or waiting for a thread. A pack stands for its
        #: attempts, which have one slot, one after the other.
        self.running: dict[Job, bool] = {}
        #: Attempts whose entry Redis still counts as ours, as far as we know.
        self.held: dict[Job, bool] = {}
        #: Attempts that were given up while a thread is still inside the function.
        self.stuck: dict[Attempt, bool] = {}
        #: Of `running`: suspects that wait for their turn without a slot, oldest first, and the
        #: one that has its turn.
        self.suspects: dict[Attempt, bool] = {}
        self.lone: dict[Attempt, bool] = {}
        #: Attempts in line for a thread, oldest first.
        self.jobs: deque[Job] = deque()
        #: Outcomes to report, oldest first.
        self.done: deque[Done] = deque()
        self.bell = Bell()
        #: Set at each end of an attempt while somebody waits for that.
        self._ended: threading.Event | None = None

    def free(self) -> int:
        """Slots that are free; 0 as well while far too many outcomes wait to be reported."""
        if len(self.held) >= UNREPORTED * self.slots:
            return 0
        # A stuck thread was replaced by another, up to as many as there are spare ones.
        taken = len(self.running) - len(self.suspects)
        return self.slots - taken - max(0, len(self.stuck) - self.spare)

    def wait_for_end(self, timeout_s: float) -> None:
        """Wait until an attempt is settled, at most `timeout_s`; for one thread at a time."""
        self._ended = ended = threading.Event()
        # Asked after the event is in place: an end just before it set none.
        if self.running:
            ended.wait(timeout_s)
        self._ended = None

    def interrupt(self) -> None:
        """Let `wait_for_end` return."""
        ended = self._ended
        if ended is not None:
            ended.set()

    def admit(self, attempt: Job) -> None:
        """Give the attempt, or the pack, a slot."""
        self.held[attempt] = True
        self.running[attempt] = True

    def single_out(self, suspect: Attempt) -> bool:
        """Give a waiting suspect its turn; False if it is settled meanwhile."""
        self.lone[suspect] = True
        self.suspects.pop(suspect, None)
        if suspect in self.running:
            return True
        self.lone.pop(suspect, None)
        return False

    def runs(self, attempt: Attempt) -> bool:
        """Whether the attempt's outcome is still open."""
        return attempt in self.running

    def finish(
        self,
        attempt: Attempt,
        outcome: Outcome | None,
        result: str = "",
        took_s: float = 0.0,
        *,
        note: Outcome | None = None,
    ) -> bool:
        """Settle the attempt; False if that has happened already, and this result is late.

        None leaves the entry to whoever has it now. `result` and `took_s` are for the metrics.
        `note` is reported before the outcome.
        """
        if not self.running.pop(attempt, False):
            self.stuck.pop(attempt, None)
            return False
        if self.suspects or self.lone:
            self.suspects.pop(attempt, None)
            self.lone.pop(attempt, None)
        if attempt.unwanted:
            outcome = _instead(attempt, outcome)
            if type(outcome) is not Completed:
                result = ""
        attempt.result, attempt.took_s = result, took_s
        if attempt.details is not None:
            attempt.final = isinstance(outcome, Completed)
        told = [] if outcome is None else [outcome]
        if note is not None:
            told.insert(0, note)
        if told and attempt.after is not None:
            told.append(Unmark(attempt.entry_id))
        self.settle(attempt, told)
        if self._ended is not None:
            self.interrupt()
        return True

    def finish_pack(self, pack: Pack, outcomes: list[Outcome]) -> None:
        """Settle a whole pack."""
        if self.running.pop(pack, False):
            self.settle(pack, outcomes)
            if self._ended is not None:
                self.interrupt()

    def settle(self, attempt: Job, outcomes: list[Outcome]) -> None:
        """Put outcomes of an attempt that has no slot in line to be reported."""
        self.done.append((attempt, outcomes))
        # While others are in line, more outcomes follow soon; the exchange looks every ms.
        if self.bell.armed and not self.jobs:
            self.bell.ring()

    def reported(self, attempts: list[Job]) -> None:
        """Let go of attempts whose outcome Redis has taken, or that are left to others."""
        pop = self.held.pop
        for attempt in attempts:
            pop(attempt, None)


class Bell:
    """Wakes a thread that waits for a descriptor; rung once for each time that it is armed."""

    def __init__(self) -> None:
        self._pair: tuple[socket.socket, socket.socket] | None = None
        #: Whether somebody waits, or is about to. Set before the last look for work.
        self.armed = False

    def open(self) -> int:
        """Make the bell work, if it does not yet; returns the descriptor that becomes readable
        when it is rung."""
        if self._pair is None:
            self._pair = socket.socketpair()
            for end in self._pair:
                end.setblocking(False)
        return self._pair[0].fileno()

    def ring(self) -> None:
        """Wake the waiting thread, from any thread; does nothing while the bell is not open."""
        self.armed = False
        pair = self._pair
        if pair is None:
            return
        try:
            pair[1].send(b"x")
        except OSError:
            pass  # rung often enough, or just closed: nobody waits any more

    def silence(self) -> None:
        """Take the rings off the descriptor, once it is readable."""
        assert self._pair is not None
        self._pair[0].recv(4096)

    def close(self) -> None:
        """Nobody will wait any more."""
        pair, self._pair = self._pair, None
        self.armed = False
        for end in pair or ():
            end.close()


def _instead(attempt: Attempt, outcome: Outcome | None) -> Outcome | None:
    """Return what is reported of an attempt that is not wanted any more."""
    if attempt.unwanted == "lost":
        return None
    if attempt.unwanted == "cancelled":
        return no_longer_wanted(attempt)
    # The worker stops: a result that came all the same counts, a half-done one does not.
    return hand_back(attempt, started=True) if attempt.told else outcome
