"""The two connections of an activity worker's hot path: one reads, one reports.

Each has at most one request under way. Its owner sends, waits for the descriptor among
others, and receives; the thread is never held by a server that does not answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from wfq.errors import StorageError, StorageUnavailable
from wfq.storage import activities
from wfq.storage.activities import CompleteReply, Outcome
from wfq.storage.keys import Namespace
from wfq.storage.link import COMMAND_TIMEOUT_S, ServerReply, SyncLink, Wire, timeout_of
from wfq.storage.scripts import Call
from wfq_workers.activities.attempt import Delivery, Stream
from wfq_workers.activities.packs import PackDelivery

log = logging.getLogger("wfq.activity")

#: Seconds beyond the block time after which a silent server is taken for gone.
READ_MARGIN_S = 5.0

Batches = dict[Stream, list[Outcome]]


class _HotWire:
    """A connection that is opened when it is needed and dropped after any doubt."""

    def __init__(self, link: SyncLink, key: str | None = None) -> None:
        self._link = link
        #: A key whose server is to be reached.
        self._key = key
        self._wire: Wire | None = None
        self._late_at = 0.0

    @property
    def memory(self) -> bool:
        """Whether this is the memory store, which has no descriptor and answers at once."""
        return self._wire is not None and self._wire.memory

    def fileno(self) -> int:
        """The descriptor to wait for. Raises: StorageUnavailable."""
        assert self._wire is not None
        return self._wire.fileno()

    def check(self, now: float) -> None:
        """Raises: StorageUnavailable when the answer is overdue at `now` (monotonic)."""
        if now > self._late_at:
            raise StorageUnavailable(f"{self._link.server} does not answer")

    def close(self) -> None:
        """Drop the connection, and with it what is under way."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _open(self) -> Wire:
        if self._wire is None:
            self._wire = self._link.wire(timeout_s=timeout_of(self._link.url), key=self._key)
            self._opened(self._wire)
        return self._wire

    def _opened(self, wire: Wire) -> None:
        """Learn what there is to know of a new connection."""


class ReadWire(_HotWire):
    """Reads new attempts as one consumer of `streams`."""

    def __init__(self, link: SyncLink, consumer: str, streams: Sequence[Stream]) -> None:
        super().__init__(link, streams[0].key)
        self._consumer = consumer
        self._streams = streams
        self._numbers = {stream.key.encode(): n for n, stream in enumerate(streams)}
        self._client_id: int | None = None

    def send(self, numbers: Sequence[int], count: int, block_ms: int | None) -> None:
        """Ask for at most `count` entries of each stream; None does not wait for any.

        Raises: StorageError.
        """
        wire = self._open()
        keys = [self._streams[n].key for n in numbers]
        # fakeredis does not wait either way, with a COUNT.
        block_ms = None if wire.memory else block_ms
        command = activities.read_command(keys, self._consumer, count=count, block_ms=block_ms)
        self._late_at = time.monotonic() + (block_ms or 0) / 1000 + READ_MARGIN_S
        wire.send([command])

    def receive(self) -> tuple[list[Delivery | PackDelivery], dict[int, int]]:
        """Return what came, and how many entries each stream gave. Raises: StorageError."""
        assert self._wire is not None
        deliveries: list[Delivery | PackDelivery] = []
        found: dict[int, int] = {}
        for key, entries in self._wire.receive() or ():
            number = self._numbers[key]
            stream = self._streams[number]
            found[number] = len(entries)
            for entry_id, fields in entries:
                if len(fields) > 2:
                    deliveries.append(PackDelivery(stream, entry_id, fields))
                else:
                    deliveries.append((stream, entry_id, fields[0].decode(), fields[1], 1))
        return deliveries, found

    def unblock(self) -> None:
        """Make the server answer a waiting read, from any thread."""
        if self._client_id is None:
            return
        try:
            self._link.beside(self._key or "", "CLIENT", "UNBLOCK", self._client_id)
        except StorageError as exc:
            log.debug("cannot wake the reader, it returns by itself: %s", exc)

    def _opened(self, wire: Wire) -> None:
        self._client_id = None
        if not wire.memory:
            wire.send([("CLIENT", "ID")])
            try:
                self._client_id = int(wire.receive())
            except ServerReply as exc:
                log.debug("cannot ask for the connection's id: %s", exc)


class ReportWire(_HotWire):
    """Reports outcomes: one script call a stream, all in one write."""

    def __init__(self, link: SyncLink, namespace: Namespace, key: str | None = None) -> None:
        super().__init__(link, key)
        self._namespace = namespace
        self._calls: list[tuple[Stream, Call[CompleteReply]]] = []

    def send(self, batches: Batches) -> None:
        """Send all outcomes. Raises: StorageError."""
        wire = self._open()
        self._calls = [(stream, self._call(stream, batch)) for stream, batch in batches.items()]
        self._late_at = time.monotonic() + COMMAND_TIMEOUT_S
        wire.send([call.command() for _, call in self._calls])

    def answered(self) -> bool:
        """Whether the answer, or its beginning, is there. Raises: StorageError."""
        return self._wire is not None and self._wire.has_reply()

    def receive(self, batches: Batches) -> dict[Stream, ServerReply]:
        """Remove from `batches` what the server took; return what it refused, and why.

        After an error the fate of what is left is unknown, and it is safe to send again.
        Raises: StorageError.
        """
        assert self._wire is not None
        refused: dict[Stream, ServerReply] = {}
        untaught: list[tuple[Stream, Call[CompleteReply]]] = []
        for stream, call in self._calls:
            try:
                self._wire.receive()
                del batches[stream]
            except ServerReply as exc:
                if exc.missing_script:
                    untaught.append((stream, call))
                else:
                    refused[stream] = exc
        for stream, call in untaught:
            try:
                self._wire.call(call)
                del batches[stream]
            except ServerReply as exc:
                refused[stream] = exc
        if any(error.transient for error in refused.values()):
            # This may have become a replica: the next connection finds who is not.
            self.close()
        return refused

    def _call(self, stream: Stream, batch: list[Outcome]) -> Call[CompleteReply]:
        return activities.complete(self._namespace, stream.partition, stream.queue, batch)
