"""The event loop that asynchronous activities share, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from wfq_workers.activities.attempt import Attempt
from wfq_workers.backoff import one_line

log = logging.getLogger("wfq.activity")

#: Seconds that cancelled activities get to end before the loop is closed over them.
CLOSE_S = 2.0


class EventLoopThread:
    """Runs `run(attempt)` coroutines on one event loop; its thread starts at the first use."""

    def __init__(self, run: Callable[[Attempt], Coroutine[Any, Any, None]], *, name: str) -> None:
        self._run = run
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._incoming: deque[Attempt] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, started if need be."""
        if self._loop is None:
            with self._lock:
                if self._loop is None:
                    self._start()
        assert self._loop is not None
        return self._loop

    def submit(self, attempts: list[Attempt]) -> None:
        """Start attempts on the loop, which is woken once for all of them."""
        self._incoming.extend(attempts)
        self.loop().call_soon_threadsafe(self._begin)

    def cancel_all(self) -> None:
        """Cancel the activities that still run and give them `CLOSE_S` to end."""
        if self._loop is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result(CLOSE_S + 1)
        except TimeoutError:
            log.error("an asynchronous activity blocks the event loop; leaving it behind")

    def close(self) -> None:
        """End the loop and its thread, unless an activity blocks them."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._closing = True
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSE_S)

    def _start(self) -> None:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._serve, args=(loop,), name=self._name, daemon=True
        )
        self._thread.start()
        self._loop = loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._closing:
            try:
                loop.run_forever()
            except BaseException as exc:
                # A task that an activity left behind raised SystemExit: the others go on.
                log.error("the event loop of activities was interrupted: %s", one_line(exc))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def _begin(self) -> None:
        loop = self.loop()
        incoming = self._incoming
        while incoming:
            attempt = incoming.popleft()
            task = loop.create_task(self._run(attempt))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            attempt.stop = _canceller(loop, task)

    async def _cancel_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)


def _canceller(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> Callable[[bool], None]:
    """Return what cancels `task` from any thread; harmless once it has ended."""

    def cancel(_: bool) -> None:
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:
            pass  # the loop is closed, and the task with it

    return cancel
