"""What an activity worker asks of Redis now and then; the hot path is `wires`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from wfq.errors import StorageError
from wfq.storage import activities
from wfq.storage.activities import HandBack, Outcome, Unmark
from wfq.storage.keys import Namespace
from wfq.storage.link import COMMAND_TIMEOUT_S, ServerReply, SyncLink
from wfq.storage.membership import server_now_ms, turn_command
from wfq.storage.scripts import Argument
from wfq.storage.slots import key_of
from wfq_workers.activities.attempt import Attempt, Delivery, MalformedMessage, Stream
from wfq_workers.activities.outcomes import hand_back
from wfq_workers.activities.packs import PackDelivery, taken_apart
from wfq_workers.activities.wires import Batches

#: Entries asked for at a time, when what a consumer holds is listed.
PAGE = 1_000
#: Milliseconds of silence after which a consumer that holds nothing is that of a dead worker; a
#: live one asks every few seconds, and would be entered again.
DEAD_MS = 600_000


class ActivityStore:
    """The activities of some queues, as the consumer `consumer` sees them.

    Safe to share between threads, but for `set_clock`.
    """

    def __init__(
        self,
        link: SyncLink,
        namespace: Namespace,
        queues: Sequence[str],
        consumer: str,
        partitions: Sequence[int] | None = None,
    ) -> None:
        self.link = link
        self.namespace = namespace
        self.consumer = consumer
        self.streams = [
            Stream(partition, queue, namespace.activities(partition, queue))
            for queue in queues
            for partition in (range(namespace.partitions) if partitions is None else partitions)
        ]
        self._queues = list(queues)
        #: The only partition of this store, if it has not all of them.
        self._partition = None if partitions is None else partitions[0]
        self._clock_offset_ms = time.time() * 1000 - time.monotonic() * 1000

    def prepare(self) -> None:
        """Create the groups that are missing, forget dead consumers, read the server's clock."""
        for stream in self.streams:
            try:
                self.link.command(*activities.ensure_group_command(stream.key))
            except StorageError as exc:
                if "BUSYGROUP" not in str(exc):
                    raise
        self.reap()
        self.set_clock()

    def claim(
        self, numbers: Sequence[int], count: int, idle_ms: int
    ) -> list[Delivery | PackDelivery]:
        """Take over at most `count` entries a stream that nobody renewed for `idle_ms`."""
        streams = [self.streams[n] for n in numbers]
        calls = [
            activities.claim_tasks(
                self.namespace, s.partition, s.queue, self.consumer, idle_ms=idle_ms, count=count
            )
            for s in streams
        ]
        return [
            _delivery(stream, *claimed)
            for stream, entries in zip(streams, self.link.run_many(calls), strict=True)
            for claimed in entries
        ]

    def turns(self, period_ms: int) -> list[int]:
        """The streams of those queues where it is this worker's turn to look for dead workers."""
        asked = [
            turn_command(
                self.namespace, f"claim:{queue}", self.consumer, period_ms, self._partition
            )
            for queue in self._queues
        ]
        mine = {
            queue
            for queue, answer in zip(self._queues, self.link.commands(asked), strict=True)
            if answer
        }
        return [n for n, stream in enumerate(self.streams) if stream.queue in mine]

    def pending(self, consumer: str) -> list[Delivery | PackDelivery]:
        """Return what `consumer` holds, without counting as a delivery."""
        found: list[Delivery | PackDelivery] = []
        for stream in self.streams:
            for entry_id, deliveries in self._held(stream, consumer):
                for _, fields in self._ask("XRANGE", stream.key, entry_id, entry_id):
                    mark = b""
                    if len(fields) > 2:
                        command = activities.mark_command(
                            self.namespace, stream.partition, stream.queue, entry_id
                        )
                        mark = self.link.command(*command) or b""
                    found.append(_delivery(stream, entry_id, fields, deliveries, mark))
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

    def bury(self, stream: Stream, instance_id: str, message: bytes, reason: str) -> None:
        """Keep a message that cannot be read as a dead letter."""
        self.link.command(
            "XADD", self.namespace.dead(stream.partition), "MAXLEN", "~",
            activities.DEAD_LETTERS, "*", "kind", "malformed", "queue", stream.queue,
            "id", instance_id, "reason", reason, "message", message,
        )  # fmt: skip

    def forget(self, stream: Stream, entry_id: bytes) -> None:
        """Remove an entry of which nothing is to be run."""
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

    def renew(self, attempts: Sequence[Attempt]) -> list[str]:
        """Renew the leases: per attempt "ok", "lost", "over" or "cancelled", in their order."""
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
        found = self.link.try_many(calls)
        errors = [answers for answers in found if isinstance(answers, StorageError)]
        if errors and len(errors) == len(found):
            raise errors[0]
        for group, answers in zip(by_stream.values(), found, strict=True):
            # Of a cluster, a node that is away says nothing about its attempts.
            told = ["ok"] * len(group) if isinstance(answers, StorageError) else answers
            words.update(zip(group, told, strict=True))
        return [words[attempt] for attempt in attempts]

    def save_heartbeat(self, attempt: Attempt, details: bytes) -> None:
        """Keep heartbeat details for a worker that takes the attempt over."""
        call = activities.save_heartbeat(
            self.namespace,
            attempt.stream.partition,
            attempt.stream.queue,
            self.consumer,
            entry_id=attempt.entry_id,
            instance_id=attempt.instance_id,
            task_id=attempt.task_id,
            nonce=attempt.nonce,
            details=details,
        )
        self.link.run(call)

    def isolate(self, attempt: Attempt, most: int) -> int:
        """Note that the attempt is to run alone, unless it did `most` times; see isolate.lua."""
        return self.link.run(
            activities.isolate(
                self.namespace,
                attempt.stream.partition,
                attempt.stream.queue,
                self.consumer,
                entry_id=attempt.entry_id,
                instance_id=attempt.instance_id,
                task_id=attempt.task_id,
                nonce=attempt.nonce,
                deliveries=attempt.deliveries,
                most=most,
            )
        )

    def forget_heartbeat(self, attempt: Attempt) -> None:
        """Delete the details of a task that is over."""
        field = f"hb {attempt.instance_id} {attempt.task_id} {attempt.nonce}"
        self.link.command("HDEL", self.namespace.tasks(attempt.stream.partition), field)

    def announce(self, short: Sequence[str], long: Sequence[str]) -> None:
        """Tell orchestrators which activities are short, and which are not any more."""
        for queue in self._queues:
            self.link.commands(
                activities.announce_commands(
                    self.namespace, queue, short=short, long=long, now_ms=self.now_ms()
                )
            )

    def set_clock(self) -> None:
        """Read the server's clock, by which `now_ms` counts on."""
        before = time.monotonic()
        now_ms = server_now_ms(self.link)
        middle = (before + time.monotonic()) / 2
        self._clock_offset_ms = now_ms - middle * 1000

    def take_clock(self, other: ActivityStore) -> None:
        """Count the server's time as another store does."""
        self._clock_offset_ms = other._clock_offset_ms

    def now_ms(self) -> int:
        """The server's time in epoch ms, as far as this worker knows; from any thread."""
        return int(time.monotonic() * 1000 + self._clock_offset_ms)

    def leave(self) -> None:
        """Remove the consumer from every group where it holds nothing.

        Removing one that holds entries would lose them; they wait for a claim instead.
        """
        self._remove(self.consumer)

    def reap(self) -> int:
        """Remove the consumers of workers that died long ago; returns how many."""
        return self._remove("")

    def _remove(self, consumer: str) -> int:
        calls = [
            activities.leave(
                self.namespace, stream.partition, stream.queue, consumer, silent_ms=DEAD_MS
            )
            for stream in self.streams
        ]
        return sum(self.link.run_many(calls))

    def _ask(self, *command: Argument) -> Any:
        """Return the raw reply of a command whose reply redis-py would take apart."""
        wire = self.link.wire(timeout_s=COMMAND_TIMEOUT_S, key=key_of(command))
        try:
            wire.send([command])
            return wire.receive()
        finally:
            wire.close()


def _delivery(
    stream: Stream, entry_id: bytes, fields: list[bytes], deliveries: int, mark: bytes
) -> Delivery | PackDelivery:
    if len(fields) > 2:
        return PackDelivery(stream, entry_id, fields, deliveries, mark)
    return stream, entry_id, fields[0].decode(), fields[1], deliveries


def _given_back(pack: PackDelivery) -> list[Outcome]:
    """A dead worker's pack as single attempts, any of which may have ended it."""
    attempts = []
    for single in pack.singles():
        try:
            attempts.append(Attempt(single, 0.0))
        except MalformedMessage:
            return []  # whoever claims it drops what nobody can read
    outcomes = taken_apart(attempts, started=True)
    return [*outcomes, Unmark(pack.entry_id)] if pack.mark else outcomes


def release_worker(
    link: SyncLink, namespace: Namespace, queues: Sequence[str], worker_id: str
) -> int:
    """Hand back what a worker that is known to be dead still holds; returns how much.

    Raises: StorageError.
    """
    store = ActivityStore(link, namespace, queues, worker_id)
    batches: Batches = {}
    for delivery in store.pending(worker_id):
        if isinstance(delivery, PackDelivery):
            batches.setdefault(delivery.stream, []).extend(_given_back(delivery))
            continue
        try:
            attempt = Attempt(delivery, 0.0)
        except MalformedMessage:
            continue  # whoever claims it drops it
        batches.setdefault(attempt.stream, []).append(hand_back(attempt, started=True))
    released = sum(isinstance(one, HandBack) for batch in batches.values() for one in batch)
    link.run_many(
        [
            activities.complete(namespace, stream.partition, stream.queue, batch)
            for stream, batch in batches.items()
        ]
    )
    store.leave()
    return released
