"""Start-to-close and heartbeat timeouts, watched by a thread that does nothing else.

It must not share a thread with anything that waits for Redis or runs user code: a timeout
is worth most when one of them hangs.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from wfq_workers.activities.attempt import Attempt

#: Watched entries, at least, before those of ended attempts are swept out.
SWEEP = 1024

#: What is told of a timeout: the attempt, the limit in ms, and whether it was the heartbeat's.
Expire = Callable[[Attempt, int, bool], None]


class TimeoutWatch:
    """Calls `expire` once an attempt has run, or stayed silent, for too long.

    `runs` tells whether an attempt still does. The thread starts with the first timeout.
    """

    def __init__(self, expire: Expire, runs: Callable[[Attempt], bool], *, name: str) -> None:
        self._expire = expire
        self._runs = runs
        self._name = name
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Attempt, bool]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._sweep_at = SWEEP

    def add(self, attempt: Attempt) -> None:
        """Watch an attempt from now on; its `started_at` is set, and its `beat_at` too."""
        with self._changed:
            if len(self._due) >= self._sweep_at:
                self._sweep()
            for limit_ms, heartbeat in _limits(attempt):
                self._push(attempt.started_at + limit_ms / 1000, attempt, heartbeat)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()

    @property
    def size(self) -> int:
        """Timeouts that are watched, those of ended attempts included until the next sweep."""
        return len(self._due)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _push(self, due: float, attempt: Attempt, heartbeat: bool) -> None:
        entry = (due, next(self._order), attempt, heartbeat)
        heapq.heappush(self._due, entry)
        if self._due[0] is entry:
            self._changed.notify()

    def _sweep(self) -> None:
        """Forget attempts that have ended: an hour's timeout must not keep them for an hour."""
        self._due = [entry for entry in self._due if self._runs(entry[2])]
        heapq.heapify(self._due)
        self._sweep_at = max(SWEEP, 2 * len(self._due))

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self._is_due():
                    self._changed.wait(self._wait_s())
                if self._closed:
                    return
                _, _, attempt, heartbeat = heapq.heappop(self._due)
            self._check(attempt, heartbeat)

    def _is_due(self) -> bool:
        return bool(self._due) and self._due[0][0] <= time.monotonic()

    def _wait_s(self) -> float | None:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def _check(self, attempt: Attempt, heartbeat: bool) -> None:
        """Expire the attempt unless it ended, or has sent a heartbeat meanwhile."""
        if not self._runs(attempt):
            return
        limit_ms = attempt.heartbeat_ms if heartbeat else attempt.start_to_close_ms
        assert limit_ms is not None
        if heartbeat and attempt.beat_at + limit_ms / 1000 > time.monotonic():
            with self._changed:
                self._push(attempt.beat_at + limit_ms / 1000, attempt, True)
            return
        self._expire(attempt, limit_ms, heartbeat)


def _limits(attempt: Attempt) -> list[tuple[int, bool]]:
    limits = ((attempt.start_to_close_ms, False), (attempt.heartbeat_ms, True))
    return [(limit_ms, heartbeat) for limit_ms, heartbeat in limits if limit_ms is not None]
