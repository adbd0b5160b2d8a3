"""The threads that run synchronous activities.

Waking a thread costs more than running a short activity: ten times as much where processors
are virtual (measured). So a batch wakes one thread, which runs attempts until none is left;
more are woken, or started, only when that does not get on: some activity waits for something.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from wfq.logs import ACTIVITY
from wfq_workers.activities.packs import Job

log = logging.getLogger("wfq.activity")


class ThreadPool:
    """Runs attempts in at most `limit` threads.

    Threads are started as they are needed and stay. One whose activity was given up is left
    to itself. All methods but `_serve` are called by one thread at a time.
    """

    def __init__(
        self,
        run: Callable[[Job], None],
        jobs: deque[Job],
        *,
        limit: int,
        name: str,
    ) -> None:
        self._run = run
        self._limit = limit
        self._name = name
        #: Attempts that no thread has taken, oldest first.
        self._jobs = jobs
        self._threads: list[threading.Thread] = []
        #: One held lock for each thread that waits; releasing it wakes the thread.
        self._parked: list[threading.Lock] = []
        self._closed = False

    @property
    def threads(self) -> int:
        """Threads that were started."""
        return len(self._threads)

    def submit(self, attempts: Iterable[Job]) -> None:
        """Put attempts in line; `kick` sees to it that they are run."""
        self._jobs.extend(attempts)

    def take_first(self, wanted: Callable[[Job], bool]) -> Job | None:
        """Take the first attempt in line, if it is one that is wanted."""
        try:
            job = self._jobs.popleft()
        except IndexError:
            return None
        if wanted(job):
            return job
        self._jobs.appendleft(job)
        return None

    def run(self, attempt: Job) -> None:
        """Run an attempt that was taken, in the caller's thread. Does not raise."""
        try:
            self._run(attempt)
        except BaseException:
            # `run` turns whatever an activity raises into a failure: this is our bug.
            facts = {"instance_id": getattr(attempt, "instance_id", "several")}
            # Logging may be the program's own, and raise: but the caller must go on.
            with suppress(Exception):
                log.exception("the outcome of %r was lost in the worker", attempt, extra=facts)

    def kick(self) -> None:
        """Let one thread begin with what is in line."""
        if self._parked or not self._threads:
            self.widen(1)

    def widen(self, most: int) -> bool:
        """Wake or start up to `most` more threads; False if there are no more."""
        for _ in range(most):
            if self._parked:
                self._parked.pop().release()
            elif len(self._threads) < self._limit:
                self._start()
            else:
                return False
        return True

    def take_waiting(self) -> list[Job]:
        """Return the attempts that no thread has begun; they will not be run."""
        waiting: list[Job] = []
        while True:
            try:
                waiting.append(self._jobs.popleft())
            except IndexError:
                return waiting

    def close(self) -> None:
        """Let every thread end after what it runs; does not wait for them."""
        self._closed = True
        self.widen(len(self._parked))

    def _start(self) -> None:
        # Daemons: an activity that never returns must not keep the process alive.
        name = f"{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        take, run = self._jobs.popleft, self.run
        lock = threading.Lock()
        lock.acquire()
        while True:
            try:
                attempt = take()
            except IndexError:
                if self._closed:
                    return
                self._park(lock)
                continue
            run(attempt)

    def _park(self, lock: threading.Lock) -> None:
        """Wait to be woken, unless there is something to do after all."""
        # Not after each attempt: the next one takes its place, and that is enough.
        ACTIVITY.set(None)
        self._parked.append(lock)
        # What came before the lock was in place has woken nobody.
        if self._jobs or self._closed:
            try:
                self._parked.remove(lock)
                return
            except ValueError:
                pass  # it is being released for us
        lock.acquire()
