"""What all lanes of an orchestrator share: names, code, clock, cache and watchdog."""

from __future__ import annotations

import ctypes
import itertools
import logging
import threading
from dataclasses import dataclass, field
from time import monotonic

from wfq import logs
from wfq.activity_context import Facts
from wfq.core.instance import Instance
from wfq.core.ports import Host, TurnAborted
from wfq.storage import scripts
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink, Wire
from wfq.storage.scripts import Argument
from wfq_workers.clock import ServerClock
from wfq_workers.metrics.counts import SHORT_S, TurnCounts
from wfq_workers.orchestrating.inline import InlineActivities
from wfq_workers.tracing import Tracer, find_tracer

log = logging.getLogger("wfq.orchestrator")


#: Turn timeouts that the replay of a history may take.
LOADING = 3
#: Bytes by which an instance may grow before the cache counts it anew.
GROWTH = 4096
#: Entries that one `put` looks at to get back under the bounds; some are busy.
SEARCH = 8
#: Activity queues of which short activities are known; the others' are all taken for long.
MOST_QUEUES = 100


@dataclass(slots=True)
class Cached:
    """A live instance and when it was first started.

    `busy`: a batch has taken it up and not run it yet, so it must stay alive.
    """

    instance: Instance
    created_ms: int
    busy: bool = False
    #: Bytes that the cache has counted for it.
    size: int = 0


class InstanceCache:
    """Live instances by id; over the bounds, those loaded longest ago are dropped.

    Bounded by number and by rough size. Used by the one thread that runs turns.
    """

    def __init__(self, most: int = 200_000, most_bytes: int = 512 * 1024 * 1024) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._entries: dict[str, Cached] = {}
        #: The live instance of an id, or None.
        self.get = self._entries.get

    def put(self, cached: Cached) -> None:
        """Keep an instance, dropping others over the bounds."""
        entries, instance = self._entries, cached.instance
        self._bytes += instance.size - cached.size
        cached.size = instance.size
        entries[instance.id] = cached
        if len(entries) > self._most or self._bytes > self._most_bytes:
            self._shrink()

    def _shrink(self) -> None:
        for _ in range(SEARCH):
            if len(self._entries) <= self._most and self._bytes <= self._most_bytes:
                break
            instance_id, oldest = next(iter(self._entries.items()))
            if oldest.busy:
                self._entries[instance_id] = self._entries.pop(instance_id)
            else:
                self.drop(instance_id)

    def drop(self, instance_id: str) -> None:
        """Forget an instance; its code must not act any more."""
        cached = self._entries.pop(instance_id, None)
        if cached is not None:
            self._bytes -= cached.size
            cached.instance.discard()

    def release(self, instance_id: str) -> None:
        """Forget an instance that has ended: there is no code left to stop."""
        cached = self._entries.pop(instance_id, None)
        if cached is not None:
            self._bytes -= cached.size

    def __len__(self) -> int:
        return len(self._entries)


class TurnWatch:
    """Aborts code that does not yield: a busy loop in one workflow must not stop the others.

    The thread that runs turns says when it begins and ends running some, and which instance
    is next, to be loaded or to have a turn; the thread that keeps leases calls `check`.
    """

    def __init__(self, timeout_s: float, counts: TurnCounts | None = None) -> None:
        self.timeout_s = timeout_s
        #: The turns' durations go here: the clock is read for the watch anyway.
        self._durations = (counts or TurnCounts()).turns
        #: The inline activity that runs, for what it logs.
        self.attempt: Facts | None = None
        self._thread_id = 0
        self._running = False
        #: Whose code runs, and its instance unless that is still being loaded.
        self._name = ""
        self._instance: Instance | None = None
        self._begun = self._started = 0.0
        #: Turns since the beginning, and seconds of them, less and of those counted one by one.
        self._turns = 0
        self._counted_s = 0.0
        self._aborted = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Code is run from here on, by the calling thread."""
        self._thread_id = threading.get_ident()
        self._begun = self._started = monotonic()
        self._turns, self._counted_s = 0, 0.0
        self._running = True
        logs.TURNS.set(self)

    def running(self) -> tuple[str, str | None] | None:
        """Id and workflow of the instance whose code runs; no workflow while it is loaded."""
        instance, name = self._instance, self._name
        if instance is not None:
            return instance.id, instance.name
        return (name, None) if name else None

    def turn(self, instance: Instance) -> float:
        """A turn of the instance starts now, which is returned (monotonic seconds).

        The one before it has come back.
        """
        now = monotonic()
        if now - self._started >= SHORT_S and self._instance is not None:
            self._count_long(now - self._started)
        self._turns += 1
        self._started = now
        self._instance = instance
        return now

    def _count_long(self, took_s: float) -> None:
        self._durations.add(took_s)
        self._turns -= 1
        self._counted_s += took_s

    def load(self, instance_id: str) -> None:
        """The instance's code is run over its history now."""
        self._started = monotonic()
        self._instance = None
        self._name = instance_id

    def end(self) -> None:
        """No code is running; after this no abort reaches the thread."""
        logs.TURNS.set(None)
        self.attempt = None
        if self._instance is not None:
            now = monotonic()
            if now - self._started >= SHORT_S:
                self._count_long(now - self._started)
            self._durations.short += self._turns
            self._durations.total_s += max(0.0, now - self._begun - self._counted_s)
        with self._lock:
            self._running = False
            self._instance = None
            self._name = ""
            self._aborted = 0

    def check(self) -> str | None:
        """Abort overlong code; returns its instance's id when even aborting does not help."""
        with self._lock:
            instance, name = self._instance, self._name
            if instance is not None:
                name = instance.id
            if not self._running or not name:
                return None
            # A whole history takes longer than a turn.
            timeout_s = self.timeout_s if instance is not None else LOADING * self.timeout_s
            if monotonic() - self._started < timeout_s * (1 + self._aborted):
                return None
            self._aborted += 1
            if self._aborted > 3:
                return name
            log.error("workflow code of %s ran longer than %g s: aborting it", name, timeout_s)
            if instance is not None:
                instance.abort()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread_id), ctypes.py_object(TurnAborted)
            )
            return None


class ShortActivities:
    """The activities that workers found to be short: several may share a stream entry.

    Only a hint: read now and then by the thread that deals partitions. Of its own queue an
    orchestrator asks from the beginning, so that its first turn shares entries already.
    """

    def __init__(self, own_queue: str) -> None:
        self._names: dict[str, frozenset[str]] = {own_queue: frozenset()}

    def has(self, queue: str, name: str) -> bool:
        """Whether the activity is known to be short; a queue is asked about from now on."""
        names = self._names.get(queue)
        if names is None:
            if len(self._names) >= MOST_QUEUES:
                return False
            names = self._names.setdefault(queue, frozenset())
        return name in names

    @property
    def queues(self) -> list[str]:
        """Queues whose short activities are of interest."""
        return list(self._names)

    def learn(self, queue: str, names: frozenset[str]) -> None:
        self._names[queue] = names


class OtherQueues:
    """Queues besides its own that turns have sent something to, for the namespace's list of them.

    Noted by the threads that run turns, told by the one that deals partitions: a process that
    is killed within that half second leaves a queue unlisted until it is used again.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._untold: set[str] = set()

    def note(self, queue: str) -> None:
        """The queue is used."""
        if queue not in self._told:
            self._untold.add(queue)

    def tell(self, link: SyncLink, namespace: Namespace) -> None:
        """List those that are not yet. Raises: StorageError."""
        if self._untold:
            some = list(self._untold)
            link.command("SADD", namespace.queues, *some)
            self._told.update(some)
            self._untold.difference_update(some)


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
    #: What instances lacked code, as far as that was said.
    lacking: set[str] = field(default_factory=set)
    counts: TurnCounts = field(default_factory=TurnCounts)
    #: Activities that are run within the turn; None where the program has none.
    inline: InlineActivities | None = None
    short: ShortActivities = field(init=False)
    other_queues: OtherQueues = field(default_factory=OtherQueues)
    #: None where the program does not use OpenTelemetry.
    tracer: Tracer | None = field(default_factory=find_tracer)
    _counter: itertools.count[int] = field(default_factory=itertools.count)
    #: Servers that know the scripts.
    _taught: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.short = ShortActivities(self.queue)

    def nonce(self, token: str) -> str:
        """A name for a turn that no other turn has, in this or any lost future."""
        return f"{token}-{next(self._counter):x}"

    def open_wire(self, timeout_s: float, partition: int) -> Wire:
        """A connection for a lane, to where the partition is. Raises: StorageUnavailable."""
        key = self.namespace.events(partition, self.queue)
        return Wire(self.url, timeout_s=timeout_s, key=key)

    def lessons(self, wire: Wire) -> list[tuple[Argument, ...]]:
        """The commands that teach a server the scripts that lanes call, unless it was taught."""
        if wire.server in self._taught:
            return []
        hot = (
            scripts.ACCUSE, scripts.ACQUIRE, scripts.COMMIT, scripts.DISPATCH, scripts.FETCH,
            scripts.RELEASE,
        )  # fmt: skip
        return [("SCRIPT", "LOAD", script.body) for script in hot]

    def taught(self, wire: Wire) -> None:
        """The server has answered: it knows the scripts."""
        self._taught.add(wire.server)

    def forget_scripts(self) -> None:
        """The server lost its scripts: teach them again."""
        self._taught.clear()

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
