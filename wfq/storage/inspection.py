"""Reading all that concerns some instances in one step, for the checker."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from wfq.storage import scripts
from wfq.storage.keys import PARTITION_KEYS, Namespace
from wfq.storage.link import SyncLink
from wfq.storage.outbox import Message
from wfq.storage.scripts import Argument, Call

#: Entries and members one look may walk over, so that Redis is not blocked for long.
BUDGET = 200_000

_TEXT = rb'"((?:[^"\\]|\\.)*)"'
_HEAD = re.compile(rb'\["(\w)",(?:(\d+)|%b)(?:,%b)?(?:,%b)?' % (_TEXT, _TEXT, _TEXT))


@dataclass(frozen=True, slots=True)
class InstanceState:
    """What Redis holds of one instance; `indexes` maps statuses to creation ms."""

    instance_id: str
    fields: dict[str, str]
    records: list[bytes]
    indexes: dict[str, int]
    cursor: str
    expires: bool

    @property
    def exists(self) -> bool:
        return bool(self.fields or self.records)

    @property
    def status(self) -> str:
        """The stored status; "" for a live one without a special status."""
        return self.fields.get("status", "")


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """An event in a stream: its place, and what its beginning tells.

    task_id and nonce of a resolution; inc of the others, with event id and name (or verb).
    """

    queue: str
    entry_id: bytes
    index: int
    instance_id: str
    code: str
    task_id: int | None
    inc: str
    nonce: str
    name: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An activity entry; `state` is "new", "pending" or (delivered, held by nobody) "lost"."""

    queue: str
    entry_id: bytes
    instance_id: str
    nonce: str
    attempt: int
    task_id: int
    state: str
    consumer: str
    idle_ms: int
    deliveries: int


@dataclass(frozen=True, slots=True)
class LeaseState:
    """The lease of one queue; `group` tells whether the owner's consumer group exists."""

    queue: str
    token: str
    owner: str
    expires_ms: int
    group: bool


@dataclass(frozen=True, slots=True)
class Look:
    """One consistent snapshot of some instances of a partition."""

    partition: int
    now_ms: int
    instances: dict[str, InstanceState]
    events: list[WaitingEvent]
    entries: list[Entry]
    timers: dict[str, int]
    tasks: dict[str, str]
    outbox: list[tuple[bytes, Message]]
    leases: dict[str, LeaseState]
    truncated: bool


def inspect(
    namespace: Namespace,
    partition: int,
    instance_ids: Sequence[str],
    queues: Sequence[str],
    activity_queues: Sequence[str],
    *,
    budget: int = BUDGET,
) -> Call[Look]:
    """Look at instances of one partition, with all that waits for them in these queues."""
    args: list[Argument] = [budget]
    for names in (instance_ids, queues, activity_queues):
        args += (len(names), *names)

    def parse(reply: list[Any]) -> Look:
        now, states, events, entries, timers, tasks, outbox, leases, truncated = reply
        return Look(
            partition,
            int(now),
            {i: _state(i, row) for i, row in zip(instance_ids, states, strict=True)},
            [_event(row) for row in events],
            [_entry(row) for row in entries],
            {member.decode(): int(float(due)) for member, due in timers},
            {name.decode(): value.decode() for name, value in tasks},
            [(entry_id, Message.decode(document)) for entry_id, document in outbox],
            {row[0].decode(): _lease(row) for row in leases},
            bool(truncated),
        )

    return Call(scripts.INSPECT, [namespace.prefix(partition)], args, parse)


def _state(instance_id: str, row: list[Any]) -> InstanceState:
    flat, records, places, cursor, expires = row
    texts = [part.decode() for part in flat]
    return InstanceState(
        instance_id,
        dict(zip(texts[::2], texts[1::2], strict=True)),
        records,
        {s.decode(): int(float(c)) for s, c in zip(places[::2], places[1::2], strict=True)},
        cursor.decode(),
        bool(expires),
    )


def _event(row: list[Any]) -> WaitingEvent:
    queue, entry_id, index, instance_id, head = row
    match = _HEAD.match(head)
    code, task, inc, second, third = match.groups() if match else (b"?", None, b"", b"", b"")
    return WaitingEvent(
        queue.decode(),
        entry_id,
        int(index),
        instance_id.decode(),
        code.decode(),
        int(task) if task is not None else None,
        _unquoted(inc),
        _unquoted(second),
        _unquoted(third),
    )


def _unquoted(text: bytes | None) -> str:
    return str(orjson.loads(b'"' + text + b'"')) if text else ""


def _entry(row: list[Any]) -> Entry:
    queue, entry_id, instance_id, nonce, attempt, task, state, consumer, idle, deliveries = row
    return Entry(
        queue.decode(),
        entry_id,
        instance_id.decode(),
        nonce.decode(),
        int(attempt),
        int(task or -1),
        state.decode(),
        consumer.decode(),
        int(idle),
        int(deliveries),
    )


def _lease(row: list[Any]) -> LeaseState:
    queue, token, owner, expires, group = row
    return LeaseState(
        queue.decode(), token.decode(), owner.decode(), int(float(expires)), bool(group)
    )


@dataclass(slots=True)
class PartitionKeys:
    """The names found in the keys of one partition."""

    instances: set[str] = field(default_factory=set)
    histories: set[str] = field(default_factory=set)
    queues: set[str] = field(default_factory=set)
    activity_queues: set[str] = field(default_factory=set)
    strange: list[str] = field(default_factory=list)


def survey(link: SyncLink, namespace: Namespace) -> list[PartitionKeys]:
    """Walk over all keys of the namespace: what is there, by partition.

    Not atomic: what comes or goes meanwhile may be missed.
    """
    found = [PartitionKeys() for _ in range(namespace.partitions)]
    for key in link.scan(f"wfq:{{{namespace.name}:*"):
        _sort(found, key.decode(), namespace)
    return found


_KEY = re.compile(r"wfq:\{[^{}:]+:(\d+)\}:(.+)", re.DOTALL)


def _sort(found: list[PartitionKeys], key: str, namespace: Namespace) -> None:
    match = _KEY.fullmatch(key)
    if match is None or int(match[1]) >= namespace.partitions:
        return
    keys = found[int(match[1])]
    kind, _, name = match[2].partition(":")
    match kind:
        case "instance":
            keys.instances.add(name)
        case "history":
            keys.histories.add(name)
        case "events" | "lease":
            keys.queues.add(name)
        case "activities":
            keys.activity_queues.add(name)
        case _ if match[2] not in PARTITION_KEYS and f"{kind}:" not in PARTITION_KEYS:
            keys.strange.append(key)
