"""Wake-ups of the scheduler: commits publish when they set an earlier timer."""

from __future__ import annotations

import queue
import threading
import time

from wfq.errors import StorageError
from wfq.storage.keys import Namespace
from wfq.storage.link import Wire
from wfq.urls import is_cluster, is_sentinel
from wfq_workers.clock import ServerClock

#: Seconds between attempts to subscribe again after the connection was lost.
RESUBSCRIBE_S = 1.0
#: Seconds of one blocking read of the subscription.
SILENCE_S = 3600.0
#: The same where another server may have been promoted, and this one be cut off for good.
GROUP_SILENCE_S = 60.0


class Wakeups:
    """A subscription to every partition's wake channel, in a thread of its own.

    A lost subscription only delays: the scheduler looks by itself every few seconds.
    """

    def __init__(self, url: str, namespace: Namespace) -> None:
        self._url = url
        self._namespace = namespace
        group = is_cluster(url) or is_sentinel(url)
        self._silence_s = GROUP_SILENCE_S if group else SILENCE_S
        self._channels = {namespace.wake(p).encode(): p for p in range(namespace.partitions)}
        self._inbox: queue.SimpleQueue[tuple[int, float]] = queue.SimpleQueue()
        self._clock = ServerClock()
        self._stopping = False
        self._wire: Wire | None = None
        self._thread = threading.Thread(target=self._listen, name="wfq-wakeups", daemon=True)

    def start(self) -> None:
        """Start listening."""
        self._thread.start()

    def stop(self) -> None:
        """Wake the scheduler for the last time; the thread ends with its connection."""
        self._stopping = True
        self._inbox.put((-1, 0.0))

    def tell_time(self, server_ms: int) -> None:
        """Take over the server's time, in which wake-ups are told."""
        self._clock.set(server_ms)

    def wait(self, seconds: float) -> list[tuple[int, float]]:
        """Wait for wake-ups, at most `seconds`: partitions and when to look (monotonic)."""
        found = []
        try:
            found.append(
                self._inbox.get(timeout=seconds) if seconds > 0 else self._inbox.get_nowait()
            )
            while True:
                found.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return [(partition, at) for partition, at in found if partition >= 0]

    def _listen(self) -> None:
        while not self._stopping:
            try:
                wire = Wire(self._url, timeout_s=self._silence_s)
                self._subscribe(wire)
            except StorageError:
                time.sleep(RESUBSCRIBE_S)

    def _subscribe(self, wire: Wire) -> None:
        wire.send([("SUBSCRIBE", *self._channels)])
        while not self._stopping:
            kind, channel, payload = wire.receive()
            partition = self._channels[channel]
            if kind == b"subscribe":
                # Whatever was published while nobody listened is found by looking.
                self._inbox.put((partition, 0.0))
            elif kind == b"message":
                self._inbox.put((partition, self._monotonic(payload)))

    def _monotonic(self, due: bytes) -> float:
        now_ms = self._clock.now_ms()
        if now_ms is None:
            return 0.0
        return time.monotonic() + max(0.0, (int(float(due)) - now_ms) / 1000)
