"""The thread that talks to Redis on the hot path: it reads attempts and reports outcomes.

One thread for both, and as few wake-ups as can be: on a virtual processor a batch costs more
in switches between threads than in anything else (measured). So what is known to be over at
once is run right here (see `baton`), a thread of the pool that has more to run does not wake this
one, and an answer to a report is looked at when there is more to report, or another reason to be
awake.
"""

from __future__ import annotations

import logging
import math
import select
import threading
import time
from collections.abc import Callable
from typing import Protocol

from wfq.logs import ACTIVITY
from wfq_workers.activities.baton import Baton
from wfq_workers.activities.board import Board
from wfq_workers.activities.packs import Job

log = logging.getLogger("wfq.activity")

#: Longest sleep in seconds: an answer that does not come is missed no later than this.
LONGEST_SLEEP_S = 1.0
#: Seconds that one thread of the pool gets to work off half of what is in line, before it
#: gets help; also how long outcomes may wait for those that follow.
PATIENCE_S = 0.001
#: The same while there are no more threads to help.
NO_HELP_S = 0.05
NEVER = math.inf


class End(Protocol):
    """One connection's part of the exchange, with at most one request under way."""

    @property
    def waiting(self) -> bool:
        """Whether an answer is to come."""

    @property
    def urgent(self) -> bool:
        """Whether there is something to do now, or when the answer is there."""

    @property
    def ended(self) -> bool:
        """Whether nothing is to be done any more."""

    @property
    def memory(self) -> bool:
        """Whether an answer is there at once, and no descriptor."""

    def fileno(self) -> int:
        """The descriptor to wait for while `waiting`."""

    def step(self, now: float) -> float:
        """Send what there is to send; return when (monotonic) to be asked again at the latest.

        Raises: StorageError; anything else is a bug of ours.
        """

    def take(self) -> None:
        """Receive the answer. Raises: as `step`."""

    def fail(self, error: Exception) -> None:
        """Forget the request under way, and rest for a while."""


class Exchange:
    """Drives the ends until all have ended.

    `take_trivial` takes a job off the line that is known to be over at once, and `run` runs it;
    `kick` lets a thread begin with the jobs in line, `widen` gives it help, `split_slow` takes
    apart what was to be short and is not, and tells when to look again.
    """

    def __init__(
        self,
        board: Board,
        ends: list[End],
        *,
        take_trivial: Callable[[], Job | None],
        run: Callable[[Job], None],
        kick: Callable[[], None],
        widen: Callable[[int], bool],
        split_slow: Callable[[float], float],
    ) -> None:
        self._split_slow = split_slow
        self._jobs = board.jobs
        self._bell = board.bell
        self._ends = ends
        self._take_trivial = take_trivial
        self._run = run
        self._kick = kick
        self._widen = widen
        self._patience_s = PATIENCE_S
        self._baton = Baton()
        self._ended = threading.Event()
        name = "wfq-activity-exchange"
        self._threads = [
            threading.Thread(target=self._drive, name=name, daemon=True),
            threading.Thread(target=self._stand_by, name=f"{name}-2", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until all ends have ended."""
        self._ended.wait()
        # Otherwise one is held up by an activity, and ends after it.
        if self._baton.watched:
            for thread in self._threads:
                thread.join()

    def _stand_by(self) -> None:
        if self._baton.stand_by():
            self._drive()

    def _drive(self) -> None:
        """Drive for as long as this thread has the baton, and until the end."""
        while not self._serve():
            # It comes back late from one that is none of its business any more.
            ACTIVITY.set(None)
            if not self._baton.stand_by():
                return
        self._baton.end()
        self._ended.set()

    def _serve(self) -> bool:
        """Go on until all ends have ended; False if the other thread drives by then."""
        bell = self._bell.open()
        while not all(end.ended for end in self._ends):
            try:
                if not self._round(bell):
                    return False
            except Exception as exc:
                # A bug of ours, which must not end the only thread that reads and reports.
                log.exception("the activity worker failed; going on")
                for end in self._ends:
                    end.fail(exc)
        self._bell.close()
        return True

    def _round(self, bell: int) -> bool:
        """Run, send, sleep, receive; False if the other thread drives by then."""
        if len(self._ends) > 2:
            # On a cluster many share the slots: each is the first in its turn.
            self._ends.append(self._ends.pop(0))
        more = False
        if self._jobs and self._baton.watched:
            until = time.monotonic() + PATIENCE_S
            while not more and (job := self._take_trivial()) is not None:
                if not self._baton.run(self._run, job):
                    return False
                more = time.monotonic() >= until
            ACTIVITY.set(None)
        wake_at = self._split_slow(time.monotonic())
        for end in self._ends:
            wake_at = min(wake_at, self._step(end))
        # Armed before the last look for work: what comes after it rings.
        self._bell.armed = True
        timeout_s = min(max(0.0, wake_at - time.monotonic()), LONGEST_SLEEP_S)
        lined_up = 0 if more else len(self._jobs)
        if lined_up:
            timeout_s = min(timeout_s, self._patience_s)
            # As late as can be: the thread finds the interpreter free when it is awake.
            self._kick()
        if more or any(end.urgent and not end.waiting for end in self._ends):
            timeout_s = 0.0
        woken = self._sleep(bell, timeout_s)
        if lined_up and not woken and len(self._jobs) > lined_up // 2:
            helped = self._widen(len(self._jobs))
            self._patience_s = PATIENCE_S if helped else NO_HELP_S
        return True

    def _step(self, end: End) -> float:
        try:
            wake_at = end.step(time.monotonic())
            while end.waiting and end.memory:
                end.take()
                wake_at = end.step(time.monotonic())
            return wake_at
        except Exception as exc:
            end.fail(exc)
            return 0.0

    def _sleep(self, bell: int, timeout_s: float) -> bool:
        """Wait for answers, the bell or the time; receive the answers. True if one came."""
        waiting = {end.fileno(): end for end in self._ends if end.waiting}
        some = any(end.urgent for end in waiting.values())
        poll = select.poll()
        poll.register(bell, select.POLLIN)
        for descriptor, end in waiting.items():
            if end.urgent or not some:
                poll.register(descriptor, select.POLLIN)
        ready = poll.poll(math.ceil(timeout_s * 1000))
        self._bell.armed = False
        for descriptor, _ in ready:
            if descriptor == bell:
                self._bell.silence()
            else:
                self._take(waiting[descriptor])
        return bool(ready)

    def _take(self, end: End) -> None:
        try:
            end.take()
        except Exception as exc:
            end.fail(exc)
