"""What all lanes of an orchestrator share: names, code, clock, cache and watchdog."""

from __future__ import annotations

import ctypes
import itertools
import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from wfq.core.instance import Instance
from wfq.core.ports import Host, TurnAborted
from wfq.storage import scripts
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink, Wire
from wfq_workers.clock import ServerClock

log = logging.getLogger("wfq.orchestrator")

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


#: Entries that one `put` looks at to get back under the bounds; some are busy.
SEARCH = 8


@dataclass(slots=True)
class Cached:
    """A live instance and when it was first started.

    `busy`: a batch has taken it up and not run it yet, so it must stay alive.
    """

    instance: Instance
    created_ms: int
    busy: bool = False


class InstanceCache:
    """Live instances by partition and id, the least recently used dropped first.

    Bounded by number and by rough size. Used by the one thread that runs turns.
    """

    def __init__(self, most: int = 200_000, most_bytes: int = 512 * 1024 * 1024) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._entries: OrderedDict[str, Cached] = OrderedDict()
        self._sizes: dict[str, int] = {}

    def get(self, instance_id: str) -> Cached | None:
        """The live instance, or None."""
        return self._entries.get(instance_id)

    def put(self, cached: Cached) -> None:
        """Keep an instance, dropping others over the bounds."""
        instance_id = cached.instance.id
        self._bytes += cached.instance.size - self._sizes.get(instance_id, 0)
        self._sizes[instance_id] = cached.instance.size
        self._entries[instance_id] = cached
        self._entries.move_to_end(instance_id)
        for _ in range(SEARCH):
            if len(self._entries) <= self._most and self._bytes <= self._most_bytes:
                break
            oldest = next(iter(self._entries.values()))
            if oldest.busy:
                self._entries.move_to_end(oldest.instance.id)
            else:
                self.drop(oldest.instance.id)

    def drop(self, instance_id: str) -> None:
        """Forget an instance; its code must not act any more."""
        cached = self._entries.pop(instance_id, None)
        if cached is not None:
            self._bytes -= self._sizes.pop(instance_id, 0)
            cached.instance.discard()

    def release(self, instance_id: str) -> None:
        """Forget an instance that has ended: there is no code left to stop."""
        if self._entries.pop(instance_id, None) is not None:
            self._bytes -= self._sizes.pop(instance_id, 0)

    def __len__(self) -> int:
        return len(self._entries)


class TurnWatch:
    """Aborts a turn that does not yield: a busy loop in one workflow must not stop the others.

    The thread that runs turns marks each with `turn`; the ownership thread calls `check`.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._thread_id = 0
        self._started = 0.0
        self._instance: Instance | None = None
        self._aborted = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """The thread that runs turns says who it is."""
        self._thread_id = threading.get_ident()

    def turn(self, instance: Instance) -> None:
        """A turn of the instance starts now."""
        self._instance = instance
        self._aborted = 0
        self._started = time.monotonic()

    def end(self) -> None:
        """No turn is running."""
        self._started = 0.0

    def stop_turn(self) -> None:
        """The turn came back; after this no abort reaches the thread for it."""
        with self._lock:
            self._started = 0.0

    def check(self) -> str | None:
        """Abort an overlong turn; returns its instance when even aborting does not help."""
        with self._lock:
            started, instance = self._started, self._instance
            if (
                not started
                or instance is None
                or time.monotonic() - started < self.timeout_s * (1 + self._aborted)
            ):
                return None
            self._aborted += 1
            if self._aborted > 3:
                return instance.id
            log.error(
                "workflow turn of %s ran longer than %g s: aborting it",
                instance.id,
                self.timeout_s,
            )
            instance.abort()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread_id), ctypes.py_object(TurnAborted)
            )
            return None


@dataclass
class Engine:
    """The parts that lanes share. `lease_ms` is a partition lease without renewal."""

    url: str
    namespace: Namespace
    queue: str
    host: Host
    worker_id: str
    lease_ms: int
    watch: TurnWatch
    clock: ServerClock = field(default_factory=ServerClock)
    cache: InstanceCache = field(default_factory=InstanceCache)
    _counter: itertools.count[int] = field(default_factory=itertools.count)
    _taught: bool = False

    def nonce(self, token: str) -> str:
        """A name for a turn that no other turn has, in this or any lost future."""
        number, digits = next(self._counter), ""
        while True:
            number, digit = divmod(number, 36)
            digits = _DIGITS[digit] + digits
            if not number:
                return f"{token}-{digits}"

    def open_wire(self, timeout_s: float) -> Wire:
        """A connection for a lane. Raises: StorageUnavailable."""
        return Wire(self.url, timeout_s=timeout_s)

    def teach(self, wire: Wire) -> None:
        """Make sure that the server knows the scripts of the hot loop."""
        if self._taught:
            return
        hot = (
            scripts.ACQUIRE, scripts.COMMIT, scripts.DISPATCH, scripts.FETCH, scripts.RELEASE,
        )  # fmt: skip
        wire.send([("SCRIPT", "LOAD", script.body) for script in hot])
        for _ in hot:
            wire.receive()
        self._taught = True

    def forget_scripts(self) -> None:
        """The server lost its scripts: teach them again."""
        self._taught = False

    def now_ms(self, link: SyncLink | None = None) -> int:
        """The server's time, asked anew when the last reading is too old."""
        now = self.clock.now_ms()
        if now is None:
            wire = Wire(self.url, timeout_s=5.0)
            try:
                wire.send([("TIME",)])
                seconds, micros = wire.receive()
            finally:
                wire.close()
            now = int(seconds) * 1000 + int(micros) // 1000
            self.clock.set(now)
        return now
