"""What the storage tests share: a store that speaks in calls, and shows what Redis holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import orjson

from tests.servers import poll
from wfq.storage import activities, instances, outbox, partitions, timers
from wfq.storage.activities import ActivityMessage, CompleteReply, Outcome
from wfq.storage.instances import AppendReply, NewInstance, Snapshot, StartReply
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.opening import is_memory
from wfq.storage.partitions import Committed, Held, InstanceCommit, Taken
from wfq.storage.scripts import Argument, Call
from wfq.storage.slots import key_of
from wfq.storage.timers import Fired

T = TypeVar("T")

#: A lease longer than any test.
LONG_MS = 600_000
QUEUE = "default"


def messages_of(partition: int, claimed: list[activities.Claimed]) -> list[ActivityMessage]:
    """The attempts of entries that were taken over."""
    return [
        ActivityMessage(partition, c.entry_id, c.fields[n].decode(), c.fields[n + 1], c.deliveries)
        for c in claimed
        for n in range(0, len(c.fields), 2)
    ]


class Store:
    """One namespace; the methods run calls on partition 0 unless told otherwise."""

    def __init__(self, url: str, *, partitions: int = 1, name: str = "test") -> None:
        self.url = url
        self.link = SyncLink(url)
        self.ns = Namespace(name, partitions)

    def close(self) -> None:
        self.link.close()

    def run(self, call: Call[T]) -> T:
        return self.link.run(call)

    def run_raw(self, call: Call[Any]) -> Any:
        """The unparsed reply, sent once as EVAL: what a test of a mutated script needs."""
        return self.link.redis.execute_command(*call.full_command())

    def command(self, *command: Argument) -> Any:
        return self.link.command(*command)

    def full(self, full: bool) -> None:
        """Make the server refuse memory, or give it back."""
        for _, client in self.link.servers():
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1" if full else "0")

    # --- clients

    def start(
        self,
        instance_id: str,
        inc: str = "inc1",
        *,
        queue: str = QUEUE,
        name: str = "flow",
        payload: bytes | None = b"1",
        **more: Any,
    ) -> StartReply:
        return self.start_all([NewInstance(instance_id, inc, queue, name, payload, **more)])[0]

    def start_in(self, instance_id: str, name: str) -> None:
        """Start an instance without input in the partition it belongs to."""
        item = NewInstance(instance_id, "inc1", QUEUE, name, None)
        self.start_all([item], self.ns.partition_of(instance_id))

    def run_command(self, instance_id: str, tail: bytes) -> None:
        """Queue a lifecycle command in the instance's partition."""
        items = [(instance_id, "", "L", tail)]
        self.run(instances.append(self.ns, self.ns.partition_of(instance_id), items, 1000))

    def start_all(self, items: Sequence[NewInstance], partition: int = 0) -> list[StartReply]:
        return self.run(instances.start(self.ns, partition, items))

    def append(self, *items: tuple[str, str, str, bytes], cap: int = 1000) -> list[AppendReply]:
        return self.run(instances.append(self.ns, 0, items, cap))

    def raise_event(self, instance_id: str, event_id: str, name: str = "go") -> AppendReply:
        tail = instances.external_event(event_id, name, b"null")
        return self.append((instance_id, "", "E", tail))[0]

    def read(self, instance_id: str) -> Snapshot | None:
        return self.run(instances.read(self.ns, self.ns.partition_of(instance_id), [instance_id]))[
            0
        ]

    def set_status(self, instance_id: str, status: str) -> None:
        """Give a live instance another status, without a turn."""
        index = self.ns.partition_of(instance_id)
        created = self.fields(instance_id)["created"]
        self.command("HSET", self.ns.instance(instance_id), "status", status)
        self.command("ZREM", self.ns.index(index, "RUNNING"), instance_id)
        self.command("ZADD", self.ns.index(index, status), created, instance_id)

    def purge(self, instance_id: str, *, force: bool = False) -> str:
        return self.run(instances.purge(self.ns, instance_id, force=force))

    # --- orchestrators

    def acquire(
        self,
        token: str = "tok",
        *,
        queue: str = QUEUE,
        owner: str = "worker-1",
        lease_ms: int = LONG_MS,
        present: str = "",
        position: bytes = b"",
        partition: int = 0,
    ) -> Taken | Held:
        return self.run(
            partitions.acquire(
                self.ns, partition, queue,
                token=token, owner=owner, lease_ms=lease_ms, present_token=present,
                position=position,
            )
        )  # fmt: skip

    def own(self, token: str = "tok", **more: Any) -> Taken:
        """Acquire a lease that must be free."""
        reply = self.acquire(token, **more)
        assert isinstance(reply, Taken), reply
        return reply

    def read_events(
        self, token: str = "tok", *, queue: str = QUEUE, count: int = 1000, partition: int = 0
    ) -> list[tuple[bytes, list[tuple[str, Any]]]]:
        """The next entries the owner reads: entry id, then (instance id, event) pairs."""
        command = partitions.read_command(
            [self.ns.events(partition, queue)], token, count=count, block_ms=None
        )
        reply = self._raw(*command)
        return [
            (entry_id, pairs_of(fields)) for _, rows in reply or () for entry_id, fields in rows
        ]

    def _raw(self, *command: Argument) -> Any:
        """A command over a wire: redis-py would fold repeated fields into a dict."""
        with closing_wire(self.link, key_of(command)) as wire:
            wire.send([command])
            return wire.receive()

    def commit(
        self,
        *parts: InstanceCommit,
        token: str = "tok",
        position: bytes = b"0",
        last: bytes | None = None,
        notice: str = "",
        removals: str = "",
        queue: str = QUEUE,
        partition: int = 0,
    ) -> Committed:
        return self.run(
            partitions.commit(
                self.ns, partition, queue, token=token, position=position,
                last_entry=last, notice=notice, parts=parts, removals=removals,
            )
        )  # fmt: skip

    # --- schedulers and activity workers

    def fire(self, limit: int = timers.BATCH, partition: int = 0) -> Fired:
        return self.run(timers.fire(self.ns, partition, limit=limit))

    def make_groups(self, queue: str = QUEUE) -> None:
        for p in range(self.ns.partitions):
            command = activities.ensure_group_command(self.ns.activities(p, queue))
            self.command(*command)

    def take(
        self, consumer: str = "c1", *, queue: str = QUEUE, count: int = 1000, partition: int = 0
    ) -> list[ActivityMessage]:
        key = self.ns.activities(partition, queue)
        reply = self._raw(*activities.read_command([key], consumer, count=count, block_ms=None))
        return activities.parse_messages(reply, {key.encode(): partition})

    def complete(self, *outcomes: Outcome, queue: str = QUEUE, partition: int = 0) -> CompleteReply:
        return self.run(activities.complete(self.ns, partition, queue, outcomes))

    def claim(
        self, consumer: str, *, idle_ms: int = 0, count: int = 100, queue: str = QUEUE
    ) -> list[ActivityMessage]:
        if is_memory(self.url):
            # fakeredis asks for more than the idle time, a server for as much.
            before = self.now()
            poll(lambda: self.now() > before)
        claimed = self.run(
            activities.claim_tasks(self.ns, 0, queue, consumer, idle_ms=idle_ms, count=count)
        )
        return messages_of(0, claimed)

    def deliver(
        self, source: int, target: int, *messages: tuple[bytes, outbox.Message]
    ) -> list[str]:
        return self.run(outbox.deliver(self.ns, source, target, messages)).words

    # --- looking

    def events(self, queue: str = QUEUE, partition: int = 0) -> list[tuple[str, Any]]:
        """What the events stream holds: (instance id, event) in order."""
        found = []
        for _, fields in self._raw("XRANGE", self.ns.events(partition, queue), "-", "+"):
            found += pairs_of(fields)
        return found

    def entries(self, queue: str = QUEUE, partition: int = 0) -> list[bytes]:
        """The ids of the activities stream's entries."""
        rows = self._raw("XRANGE", self.ns.activities(partition, queue), "-", "+")
        return [entry_id for entry_id, _ in rows]

    def messages(self, queue: str = QUEUE, partition: int = 0) -> list[tuple[str, Any]]:
        """What the activities stream holds: (instance id, message) in order."""
        found = []
        for _, fields in self._raw("XRANGE", self.ns.activities(partition, queue), "-", "+"):
            found += pairs_of(fields)
        return found

    def history(self, instance_id: str) -> list[Any]:
        elements: list[bytes] = self.command("LRANGE", self.ns.history(instance_id), 0, -1)
        return [orjson.loads(element) for element in elements]

    def fields(self, instance_id: str) -> dict[str, str]:
        return self._texts(self.ns.instance(instance_id))

    def timers(self, partition: int = 0) -> dict[str, int]:
        rows = self._raw("ZRANGE", self.ns.timers(partition), 0, -1, "WITHSCORES")
        return {m.decode(): int(float(s)) for m, s in zip(rows[::2], rows[1::2], strict=True)}

    def tasks(self, partition: int = 0) -> dict[str, bytes]:
        flat = self._raw("HGETALL", self.ns.tasks(partition))
        return {k.decode(): v for k, v in zip(flat[::2], flat[1::2], strict=True)}

    def lease(self, queue: str = QUEUE) -> dict[str, str]:
        return self._texts(self.ns.lease(0, queue))

    def _texts(self, key: str) -> dict[str, str]:
        flat = [item.decode() for item in self._raw("HGETALL", key)]
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def indexes(self, instance_id: str) -> list[str]:
        """The statuses whose index holds the instance."""
        partition = self.ns.partition_of(instance_id)
        return [
            status
            for status in instances.INDEXED
            if self.command("ZSCORE", self.ns.index(partition, status), instance_id) is not None
        ]

    def now(self) -> int:
        seconds, micros = self.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def image(self) -> dict[str, Any]:
        """Everything the server holds, to compare: what a refused call must not change."""
        keys = sorted(key.decode() for key in set(self.link.scan("*")))
        return {key: self._value(key) for key in keys}

    def _value(self, key: str) -> Any:
        kind: str = self._raw("TYPE", key).decode()
        if kind == "stream":
            groups = self._raw("XINFO", "GROUPS", key)
            return (kind, self._raw("XRANGE", key, "-", "+"), [row[1] for row in groups])
        if kind == "hash":
            return (kind, self._texts(key))
        if kind == "set":
            return (kind, sorted(self._raw("SMEMBERS", key)))
        readers: dict[str, tuple[Argument, ...]] = {
            "string": ("GET", key),
            "list": ("LRANGE", key, 0, -1),
            "zset": ("ZRANGE", key, 0, -1, "WITHSCORES"),
        }
        return (kind, self._raw(*readers[kind]))

    @contextmanager
    def listening(self, channel: str) -> Iterator[Callable[[], list[bytes]]]:
        """Subscribe to a channel; the value returns what was published so far."""
        with self.link.redis.pubsub() as subscription:
            subscription.subscribe(channel)
            assert subscription.get_message(timeout=5) is not None

            def heard() -> list[bytes]:
                # A message of our own marks the end, so that nothing waits for silence. In a
                # cluster, order holds between messages that one node sends: the channel's.
                publish = "return redis.call('PUBLISH', ARGV[1], ARGV[2])"
                self.command("EVAL", publish, 1, channel, channel, "end of test")
                found: list[bytes] = []
                while True:
                    message = subscription.get_message(timeout=5)
                    assert message is not None
                    if message["data"] == b"end of test":
                        return found
                    found.append(message["data"])

            yield heard


@contextmanager
def closing_wire(link: SyncLink, key: str | bytes | None = None) -> Iterator[Any]:
    wire = link.wire(timeout_s=10, key=key)
    try:
        yield wire
    finally:
        wire.close()


def pairs_of(fields: list[bytes]) -> list[tuple[str, Any]]:
    """(instance id, parsed value) of a flat field list, repeated fields kept."""
    return [(fields[n].decode(), orjson.loads(fields[n + 1])) for n in range(0, len(fields), 2)]


def part(
    instance_id: str,
    turns: int | None,
    *operations: tuple[Argument, ...],
    inc: str = "inc1",
    record: Any = "turn",
) -> InstanceCommit:
    """A commit's part; `record` "turn" stands for some turn record, None for none."""
    if record == "turn":
        record = ["T", 1, f"n{turns}", [], [], None]
    made = InstanceCommit(instance_id, inc, turns, b"" if record is None else orjson.dumps(record))
    for operation in operations:
        letter, *values = operation
        made.add(str(letter), *values)
    return made


def message(
    nonce: str,
    task_id: int,
    *,
    attempt: int = 1,
    run: str = "inc1.0",
    home: str = QUEUE,
    payload: Any = None,
    opts: Any = None,
) -> bytes:
    """An activity message as a commit adds it."""
    action = ["A", task_id, "act", payload, opts]
    return orjson.dumps([nonce, attempt, 1000, home, run, action, None])


def done(*replies: Committed) -> bool:
    """Whether every commit was written, in full."""
    return all(not reply.stale and not reply.dropped for reply in replies)


def new_child(inc: str = "n1.0", letter: str = "C", created: int = 77) -> tuple[Any, ...]:
    """The operation of a commit that starts the child `a~kid` on the queue "kids"."""
    birth = orjson.dumps(["B", created, inc, 0, "kid", [], ["a", "inc1", 0, "n1"], None])
    taken = b'["X",0,"n1",{"type":"InstanceAlreadyExists"}]'
    return (letter, "a~kid", inc, "kid", "kids", birth, created, taken)
