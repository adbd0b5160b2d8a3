"""Lifecycle commands of queues that nobody serves: obeyed without the code.

An application that is gone leaves its instances behind. Suspending or terminating one is a
command in its queue's events stream, which only an orchestrator of that queue reads. So where
such a command waits and no orchestrator of the queue has reported for a while, some scheduler
takes the partition and runs turns without code: events are recorded and kept for the code to
come, commands are obeyed. As soon as an orchestrator of the queue reports, it gets the
partition back. Several schedulers may try; leases decide.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from wfq.core.ports import Limits
from wfq.registry import Registry
from wfq.storage import membership, partitions
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq_workers.backoff import Backoff
from wfq_workers.orchestrating.orchestrator import OrchestratorLoop

log = logging.getLogger("wfq.caretaker")

#: Seconds between looks.
PERIOD_S = 5.0
#: Seconds without an orchestrator before a queue counts as unserved: a restart takes less.
PATIENCE_S = 10.0
#: Entries of a stream that one look walks over.
LOOK = 1_000


@dataclass(slots=True)
class Orphan:
    """A queue that nobody serves."""

    since: float
    #: By partition: the entry up to which its stream was searched for commands.
    seen: dict[int, str] = field(default_factory=dict)
    #: Partitions where a command was found.
    wanted: frozenset[int] = frozenset()
    loop: OrchestratorLoop | None = None


class CaretakerLoop:
    """Takes care of unserved queues of a namespace. Any number may run."""

    def __init__(
        self,
        url: str,
        namespace: Namespace,
        *,
        worker_id: str,
        lease_s: float = 5.0,
        period_s: float = PERIOD_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._url = url
        self._namespace = namespace
        self._owner = f"{worker_id}-caretaker"
        self._lease_s = lease_s
        self._period_s = period_s
        self._patience_s = patience_s
        self._orphans: dict[str, Orphan] = {}
        self._stopping = threading.Event()
        self._backoff = Backoff(log, "caretaker")
        self._thread = threading.Thread(target=self._run, name="wfq-caretaker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """A caretaker has nothing to prepare."""
        return True

    def stop(self, grace_s: float = 30.0) -> None:
        """Give up what it holds and return."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(grace_s)

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the loop has ended."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        link = SyncLink(self._url)
        try:
            while not self._stopping.wait(self._period_s):
                try:
                    self._look(link)
                    self._backoff.clear()
                except Exception as exc:
                    # Whatever is in the streams now: it is searched again from the start.
                    self._forget(list(self._orphans))
                    self._backoff.wait(exc, self._stopping)
            self._forget(list(self._orphans))
        finally:
            link.close()

    def _look(self, link: SyncLink) -> None:
        unserved = self._unserved(link)
        self._forget([queue for queue in self._orphans if queue not in unserved])
        now = time.monotonic()
        for queue in unserved:
            orphan = self._orphans.setdefault(queue, Orphan(now))
            if now - orphan.since >= self._patience_s:
                self._search(link, queue, orphan)
                self._serve(queue, orphan)

    def _unserved(self, link: SyncLink) -> list[str]:
        queues = membership.known_queues(link, self._namespace)
        served = membership.served_queues(link, self._namespace, queues)
        return [queue for queue in queues if queue not in served]

    def _search(self, link: SyncLink, queue: str, orphan: Orphan) -> None:
        """Learn in which partitions a command waits, and where none is left."""
        everywhere = range(self._namespace.partitions)
        found = link.run_many(
            [
                partitions.waiting(
                    self._namespace, number, queue, after=orphan.seen.get(number, "0"), limit=LOOK
                )
                for number in everywhere
            ]
        )
        wanted = set(orphan.wanted)
        for number, waiting in zip(everywhere, found, strict=True):
            orphan.seen[number] = waiting.seen
            if waiting.has_command:
                wanted.add(number)
            elif not waiting.entries:
                wanted.discard(number)
        orphan.wanted = frozenset(wanted)

    def _serve(self, queue: str, orphan: Orphan) -> None:
        loop = orphan.loop
        if loop is not None and loop.only != orphan.wanted:
            loop.stop()
            orphan.loop = loop = None
        if loop is None and orphan.wanted:
            log.warning(
                "no orchestrator serves the queue %s: obeying the commands that wait there, "
                "without its code",
                queue,
            )
            orphan.loop = OrchestratorLoop(
                self._url,
                self._namespace,
                Registry(limits=Limits(unknown_grace_ms=0)),
                worker_id=self._owner,
                queue=queue,
                lease_s=self._lease_s,
                lanes=1,
                only=orphan.wanted,
            )
            orphan.loop.start()

    def _forget(self, queues: Sequence[str]) -> None:
        for queue in queues:
            orphan = self._orphans.pop(queue)
            if orphan.loop is not None:
                orphan.loop.stop()
