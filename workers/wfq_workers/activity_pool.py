"""The threads that run synchronous activities.

A SimpleQueue hand-over costs 1 to 4 us in a batch, against 9 of ThreadPoolExecutor. Threads
are started as attempts need them and stay; a thread whose activity was given up is left to
itself, and another takes its place.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from wfq_workers.attempt import Attempt

log = logging.getLogger("wfq.activity")


class ThreadPool:
    """Runs attempts in at most `limit` threads. Attempts are submitted by one thread only."""

    def __init__(self, run: Callable[[Attempt], None], *, limit: int, name: str) -> None:
        self._run = run
        self._limit = limit
        self._name = name
        self._queue: SimpleQueue[Attempt | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._submitted = 0
        # One counter per thread, written by that thread alone: no lock on the hot path.
        self._finished: list[int] = []

    @property
    def threads(self) -> int:
        """Threads that were started."""
        return len(self._threads)

    def submit(self, attempts: list[Attempt]) -> None:
        """Run attempts as soon as threads are free; starts threads that are missing."""
        self._submitted += len(attempts)
        put = self._queue.put
        for attempt in attempts:
            put(attempt)
        if len(self._threads) < self._limit:
            self._grow()

    def take_waiting(self) -> list[Attempt]:
        """Return the attempts that no thread has begun; they will not be run."""
        waiting: list[Attempt] = []
        while True:
            try:
                attempt = self._queue.get_nowait()
            except Empty:
                return waiting
            if attempt is not None:
                self._submitted -= 1
                waiting.append(attempt)

    def close(self) -> None:
        """Let every thread end after what it runs; does not wait for them."""
        for _ in self._threads:
            self._queue.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for the threads to end after `close`, at most `timeout_s` for each."""
        for thread in self._threads:
            thread.join(timeout_s)

    def _grow(self) -> None:
        outstanding = self._submitted - sum(self._finished)
        for index in range(len(self._threads), min(outstanding, self._limit)):
            self._finished.append(0)
            # Daemons: an activity that never returns must not keep the process alive.
            thread = threading.Thread(
                target=self._serve, args=(index,), name=f"{self._name}-{index}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _serve(self, index: int) -> None:
        get, run, finished = self._queue.get, self._run, self._finished
        for count in itertools.count(1):
            attempt = get()
            if attempt is None:
                return
            try:
                run(attempt)
            except BaseException:
                # `run` turns whatever an activity raises into a failure: this is our bug.
                log.exception("the outcome of %r was lost in the worker", attempt)
            finished[index] = count
