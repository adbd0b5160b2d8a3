"""Threads that play the clients: each starts jobs at a steady pace and plays their scripts."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Iterator

from tests.chaos.hands import Hands, Script
from tests.chaos.ledger import Ledger
from tests.chaos.shapes import Job
from wfq.client import WorkflowClient

log = logging.getLogger("chaos")

#: Scripts that one thread plays at once; more are not begun until some have ended.
MOST_AT_ONCE = 60


class Load:
    """Plays jobs from `source` on `threads` clients until told to stop."""

    def __init__(
        self, url: str, ledger: Ledger, source: Iterator[Job], *, threads: int, per_second: float
    ) -> None:
        self._source = source
        self._drawing = threading.Lock()
        self._pause_s = threads / per_second
        self._stopping = threading.Event()
        self.jobs: list[Job] = []
        self.errors: list[str] = []
        self._hands = [
            Hands(WorkflowClient(redis_url=url, app_id="default"), ledger) for _ in range(threads)
        ]
        self._threads = [
            threading.Thread(target=self._play, args=(hands,), name=f"client-{n}", daemon=True)
            for n, hands in enumerate(self._hands)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self, deadline_s: float, *, all_jobs: bool = False) -> bool:
        """Play the scripts to their ends; False if some did not end.

        Begins no more jobs, unless `all_jobs` asks for the source to be used up.
        """
        if not all_jobs:
            self._stopping.set()
        end = time.monotonic() + deadline_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        done = not any(thread.is_alive() for thread in self._threads)
        for hands in self._hands:
            hands.give_up = True
        for thread in self._threads:
            thread.join(30)
        for hands in self._hands:
            hands.client.close()
        return done

    def _draw(self) -> Job | None:
        with self._drawing:
            job = next(self._source, None)
            if job is not None:
                self.jobs.append(job)
            return job

    def _play(self, hands: Hands) -> None:
        scripts: list[tuple[float, int, Script]] = []
        order = itertools.count()
        next_start = time.monotonic()
        while scripts or not self._stopping.is_set():
            now = time.monotonic()
            if now >= next_start and not self._stopping.is_set():
                next_start = max(next_start, now - 1.0) + self._pause_s
                if len(scripts) < MOST_AT_ONCE:
                    job = self._draw()
                    if job is None:
                        self._stopping.set()
                        continue
                    script = job.shape.script(job, hands)
                    heapq.heappush(scripts, (now, next(order), script))
            if scripts and scripts[0][0] <= now:
                _, _, script = heapq.heappop(scripts)
                wait_s = self._step(script)
                if wait_s is not None:
                    due = time.monotonic() + wait_s
                    heapq.heappush(scripts, (due, next(order), script))
                continue
            soon = scripts[0][0] if scripts else next_start
            time.sleep(max(0.001, min(0.1, soon - now)))

    def _step(self, script: Script) -> float | None:
        """Play a script up to its next pause; None when it has ended."""
        try:
            return next(script)
        except StopIteration:
            return None
        except Exception as exc:
            # Whatever a client raises that no script expects is a finding of its own.
            log.exception("a client failed")
            self.errors.append(f"a client raised {type(exc).__name__}: {exc}")
            return None
