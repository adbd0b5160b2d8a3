"""Which of two threads drives the exchange, so that the one that does may run user code itself.

Handing an activity to another thread and getting its outcome back are two wake-ups, which take
longer than most short activities (measured: 0.3 ms of an idle machine's 0.4). So the thread that
has read one that is known to be over at once runs it on the spot. Should it not come back, the
other thread, which looks every few milliseconds while there are such activities, drives on; who
comes back late stands by in its turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks of the thread that stands by: what is in the same run at both takes
#: too long.
LOOK_S = 0.005
#: Looks without any run after which it sleeps until there is one.
QUIET_LOOKS = 10


class Baton:
    """Held by the thread that drives."""

    def __init__(self) -> None:
        #: Whether the other thread stands by, as it does at first. Only then may the driver run
        #: what could hold it up.
        self.watched = True
        # Between the driver that comes back and the one that takes over.
        self._lock = threading.Lock()
        self._runs = 0
        #: The run that the driver is in; 0 = none.
        self._inside = 0
        self._asleep = False
        self._wake = threading.Event()
        self._ended = False

    def run(self, work: Callable[[T], None], job: T) -> bool:
        """Run `work(job)`, which does not raise; False if another thread drives by then."""
        self._runs = number = self._runs + 1
        self._inside = number
        if self._asleep:
            self._asleep = False
            self._wake.set()
        work(job)
        with self._lock:
            if self._inside != number:
                return False
            self._inside = 0
            return True

    def stand_by(self) -> bool:
        """Wait until the driver is held up, and take over; False once all has ended."""
        self.watched = True
        quiet = 0
        while not self._ended:
            inside, runs = self._inside, self._runs
            time.sleep(LOOK_S)
            if self._take_over(inside):
                return True
            quiet = quiet + 1 if runs == self._runs else 0
            if quiet >= QUIET_LOOKS:
                self._sleep(runs)
                quiet = 0
        return False

    def end(self) -> None:
        """Let go of the thread that stands by: there is nothing left to drive."""
        self._ended = True
        self._wake.set()

    def _take_over(self, inside: int) -> bool:
        with self._lock:
            if not inside or self._inside != inside:
                return False
            self._inside = 0
            self.watched = False
            return True

    def _sleep(self, runs: int) -> None:
        """Wait for a run later than `runs`."""
        self._wake.clear()
        self._asleep = True
        # What began before it was asleep has woken nobody.
        if self._runs == runs and not self._ended:
            self._wake.wait()
        self._asleep = False
