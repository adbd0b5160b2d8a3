"""What an activity worker asks of Redis: one connection that waits, one that reports."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from wfq.errors import StorageError, StorageUnavailable
from wfq.storage import activities
from wfq.storage.activities import CompleteReply, Outcome
from wfq.storage.keys import Namespace
from wfq.storage.link import COMMAND_TIMEOUT_S, ServerReply, SyncLink, Wire
from wfq.storage.membership import server_now_ms
from wfq.storage.scripts import Argument, Call
from wfq_workers.attempt import Attempt, Delivery, Stream

log = logging.getLogger("wfq.activity")

#: Seconds that fakeredis is left alone between two looks: it cannot wait with a COUNT.
MEMORY_POLL_S = 0.005
#: Seconds beyond the block time after which a silent server is taken for gone.
READ_MARGIN_S = 5.0
#: Longest block time in ms.
LONGEST_BLOCK_MS = 5_000
#: Entries asked for at a time, when what a consumer holds is listed.
PAGE = 1_000


class ActivityStore:
    """The activities of some queues, read as `consumer`. Each method names its one thread."""

    def __init__(
        self, link: SyncLink, namespace: Namespace, queues: Sequence[str], consumer: str
    ) -> None:
        self.link = link
        self.namespace = namespace
        self.consumer = consumer
        self.streams = [
            Stream(partition, queue, namespace.activities(partition, queue))
            for queue in queues
            for partition in range(namespace.partitions)
        ]
        self._queues = list(queues)
        self._numbers = {s.key.encode(): n for n, s in enumerate(self.streams)}
        self._reader: Wire | None = None
        self._reader_id: int | None = None
        self._reporter: Wire | None = None
        self._woken = threading.Event()
        self._clock_offset_ms = time.time() * 1000 - time.monotonic() * 1000

    def prepare(self) -> None:
        """Create the consumer groups that are missing, and read the server's clock."""
        for queue in self._queues:
            for command in activities.ensure_group_commands(self.namespace, queue):
                try:
                    self.link.command(*command)
                except StorageError as exc:
                    if "BUSYGROUP" not in str(exc):
                        raise
        self.set_clock()

    # The reading thread's.

    def read(
        self, numbers: Sequence[int], count: int, block_ms: int
    ) -> tuple[list[Delivery], dict[int, int]]:
        """Read at most `count` new entries of each stream; `block_ms` 0 does not wait.

        Returns them, and how many each stream gave. Raises: StorageError; whether entries
        were handed out is then unknown.
        """
        if self._reader is None:
            self._open_reader()
        assert self._reader is not None
        keys = [self.streams[n].key for n in numbers]
        wait = bool(block_ms) and not self._reader.memory
        command = activities.read_command(
            keys, self.consumer, count=count, block_ms=block_ms if wait else None
        )
        try:
            self._reader.send([command])
            reply = self._reader.receive()
        except StorageError:
            self._close_reader()
            raise
        if block_ms and self._reader.memory and not reply:
            self._woken.wait(min(MEMORY_POLL_S, block_ms / 1000))
        return self._deliveries(reply)

    def wake_reader(self) -> None:
        """Make a waiting `read` return, from any thread; one that begins later waits again."""
        self._woken.set()
        if self._reader_id is None:
            return
        try:
            self.link.command("CLIENT", "UNBLOCK", self._reader_id)
        except StorageError as exc:
            log.debug("cannot wake the reader, it returns by itself: %s", exc)

    def claim(self, numbers: Sequence[int], count: int, idle_ms: int) -> list[Delivery]:
        """Take over at most `count` attempts a stream that nobody renewed for `idle_ms`."""
        streams = [self.streams[n] for n in numbers]
        calls = [
            activities.claim_tasks(
                self.namespace, s.partition, s.queue, self.consumer, idle_ms=idle_ms, count=count
            )
            for s in streams
        ]
        return [
            (stream, m.entry_id, m.instance_id, m.value, m.deliveries)
            for stream, messages in zip(streams, self.link.run_many(calls), strict=True)
            for m in messages
        ]

    def pending(self, consumer: str) -> list[Delivery]:
        """Return what `consumer` holds, without counting as a delivery."""
        found: list[Delivery] = []
        for stream in self.streams:
            for entry_id, deliveries in self._held(stream, consumer):
                for _, fields in self._ask("XRANGE", stream.key, entry_id, entry_id):
                    found.append((stream, entry_id, fields[0].decode(), fields[1], deliveries))
        return found

    def _held(self, stream: Stream, consumer: str) -> Iterator[tuple[bytes, int]]:
        """Yield the entries of a stream that a consumer holds, and their deliveries."""
        first: Argument = "-"
        while True:
            try:
                rows = self._ask(
                    "XPENDING", stream.key, activities.GROUP, first, "+", PAGE, consumer
                )
            except ServerReply as exc:
                if "NOGROUP" in exc.text or "requires the key to exist" in exc.text:
                    return  # nobody has used this stream yet
                raise
            for entry_id, _, _, deliveries in rows:
                yield entry_id, deliveries
            if len(rows) < PAGE:
                return
            first = b"(" + rows[-1][0]

    def drop(self, stream: Stream, entry_id: bytes, reason: str) -> None:
        """Remove an entry that cannot be read, and keep it as a dead letter."""
        for _, fields in self._ask("XRANGE", stream.key, entry_id, entry_id):
            self.link.command(
                "XADD", self.namespace.dead(stream.partition), "MAXLEN", "~",
                activities.DEAD_LETTERS, "*", "kind", "malformed", "queue", stream.queue,
                "id", fields[0], "reason", reason, "message", b" ".join(fields[1:]),
            )  # fmt: skip
        self.link.command("XACK", stream.key, activities.GROUP, entry_id)
        self.link.command("XDEL", stream.key, entry_id)

    def heartbeat_details(self, attempt: Attempt) -> bytes | None:
        """Return the details that an earlier attempt of the task left in Redis."""
        command = activities.read_heartbeat_command(
            self.namespace,
            attempt.stream.partition,
            attempt.instance_id,
            attempt.task_id,
            attempt.nonce,
        )
        details: bytes | None = self.link.command(*command)
        return details

    # The reporting thread's.

    def report(self, batches: dict[Stream, list[Outcome]]) -> dict[Stream, ServerReply]:
        """Report outcomes, one script call a stream, all in one write.

        Removes from `batches` what the server took, so that after an error the caller can
        send the rest, whose fate is unknown, again. Returns what the server refused.
        Raises: StorageUnavailable.
        """
        if self._reporter is None:
            self._reporter = self.link.wire(timeout_s=COMMAND_TIMEOUT_S)
        wire = self._reporter
        calls = [(stream, self._complete(stream, batch)) for stream, batch in batches.items()]
        refused: dict[Stream, ServerReply] = {}
        untaught: list[tuple[Stream, Call[CompleteReply]]] = []
        try:
            wire.send([call.command() for _, call in calls])
            for stream, call in calls:
                try:
                    wire.receive()
                    del batches[stream]
                except ServerReply as exc:
                    if exc.missing_script:
                        untaught.append((stream, call))
                    else:
                        refused[stream] = exc
            for stream, call in untaught:
                try:
                    wire.call(call)
                    del batches[stream]
                except ServerReply as exc:
                    refused[stream] = exc
        except StorageError:
            self._close_reporter()
            raise
        if any(error.transient for error in refused.values()):
            # This may have become a replica: the next connection finds who is not.
            self._close_reporter()
        return refused

    def _complete(self, stream: Stream, batch: list[Outcome]) -> Call[CompleteReply]:
        return activities.complete(self.namespace, stream.partition, stream.queue, batch)

    # The keeping thread's.

    def renew(self, attempts: Sequence[Attempt]) -> list[str]:
        """Renew the leases: per attempt "ok", "lost" or "cancelled", in their order."""
        by_stream: dict[Stream, list[Attempt]] = {}
        for attempt in attempts:
            by_stream.setdefault(attempt.stream, []).append(attempt)
        calls = [
            activities.renew_tasks(
                self.namespace,
                stream.partition,
                stream.queue,
                self.consumer,
                [(a.entry_id, a.instance_id, a.run) for a in group],
            )
            for stream, group in by_stream.items()
        ]
        words: dict[Attempt, str] = {}
        for group, answers in zip(by_stream.values(), self.link.run_many(calls), strict=True):
            words.update(zip(group, answers, strict=True))
        return [words[attempt] for attempt in attempts]

    def save_heartbeat(self, attempt: Attempt, details: bytes) -> None:
        """Keep heartbeat details for a worker that takes the attempt over."""
        command = activities.heartbeat_command(
            self.namespace,
            attempt.stream.partition,
            attempt.instance_id,
            attempt.task_id,
            attempt.nonce,
            details,
        )
        self.link.command(*command)

    def forget_heartbeat(self, attempt: Attempt) -> None:
        """Delete the details of a task that is over."""
        field = f"hb {attempt.instance_id} {attempt.task_id} {attempt.nonce}"
        self.link.command("HDEL", self.namespace.tasks(attempt.stream.partition), field)

    def set_clock(self) -> None:
        """Read the server's clock, by which `now_ms` counts on."""
        before = time.monotonic()
        now_ms = server_now_ms(self.link)
        middle = (before + time.monotonic()) / 2
        self._clock_offset_ms = now_ms - middle * 1000

    def now_ms(self) -> int:
        """The server's time in epoch ms, as far as this worker knows; from any thread."""
        return int(time.monotonic() * 1000 + self._clock_offset_ms)

    def leave(self) -> None:
        """Remove the consumer from every group where it holds nothing.

        Removing one that holds entries would lose them; they wait for a claim instead.
        """
        for stream in self.streams:
            if any(True for _ in self._held(stream, self.consumer)):
                continue
            if self.link.command("EXISTS", stream.key):
                group = (stream.key, activities.GROUP)
                self.link.command("XGROUP", "DELCONSUMER", *group, self.consumer)

    def close(self) -> None:
        """Close the connections of this worker; the link stays open, it is its owner's."""
        self._close_reader()
        self._close_reporter()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = self._reader_id = None

    def _close_reporter(self) -> None:
        if self._reporter is not None:
            self._reporter.close()
        self._reporter = None

    def _ask(self, *command: Argument) -> Any:
        """Return the raw reply of a command whose reply redis-py would take apart."""
        wire = self.link.wire(timeout_s=COMMAND_TIMEOUT_S)
        try:
            wire.send([command])
            return wire.receive()
        finally:
            wire.close()

    def _open_reader(self) -> None:
        wire = self.link.wire(timeout_s=LONGEST_BLOCK_MS / 1000 + READ_MARGIN_S)
        self._reader_id = None if wire.memory else _client_id(wire)
        self._reader = wire

    def _deliveries(self, reply: Any) -> tuple[list[Delivery], dict[int, int]]:
        deliveries: list[Delivery] = []
        found: dict[int, int] = {}
        for key, entries in reply or ():
            number = self._numbers[key]
            stream = self.streams[number]
            found[number] = len(entries)
            for entry_id, fields in entries:
                deliveries.append((stream, entry_id, fields[0].decode(), fields[1], 1))
        return deliveries, found


def _client_id(wire: Wire) -> int | None:
    """Return the connection's id, or None where the ACL does not let us ask."""
    wire.send([("CLIENT", "ID")])
    try:
        return int(wire.receive())
    except ServerReply:
        return None


def release_worker(
    link: SyncLink, namespace: Namespace, queues: Sequence[str], worker_id: str
) -> int:
    """Hand back what a worker that is known to be dead still holds; returns how much.

    Raises: StorageError.
    """
    from wfq_workers.outcomes import hand_back

    store = ActivityStore(link, namespace, queues, worker_id)
    batches: dict[Stream, list[Outcome]] = {}
    try:
        for delivery in store.pending(worker_id):
            attempt = Attempt(delivery, 0.0)
            batches.setdefault(attempt.stream, []).append(hand_back(attempt, started=True))
        released = sum(map(len, batches.values()))
        if batches and store.report(batches):
            raise StorageUnavailable(f"cannot hand back the activities of worker {worker_id}")
        store.leave()
        return released
    finally:
        store.close()
