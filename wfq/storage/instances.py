"""Calls of clients: start, raise and command, read, list and purge instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from wfq.storage import scripts
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Call

TERMINAL = frozenset({"COMPLETED", "FAILED", "TERMINATED"})
#: Statuses that have an index; RUNNING also holds instances whose first turn is to come.
INDEXED = ("RUNNING", "PENDING", "SUSPENDED", "STALLED", "COMPLETED", "FAILED", "TERMINATED")
#: Starts or events in one script call, so that Redis is never blocked for long.
BATCH = 500

ReusePolicy = Literal["error", "existing", "replace"]


@dataclass(frozen=True, slots=True)
class NewInstance:
    """What `start` needs of one instance. `input` and `extra` are encoded JSON."""

    instance_id: str
    incarnation: str
    queue: str
    name: str
    input: bytes | None
    extra: dict[str, Any] | None = None
    due_ms: int | None = None
    policy: ReusePolicy = "error"

    def birth_tail(self) -> bytes:
        """The birth record behind its creation time, which the server's clock gives."""
        extra = dict(self.extra or {})
        if self.input is None:
            extra["noinput"] = True
        return b"".join(
            (
                b",",
                orjson.dumps(self.incarnation),
                b",0,",
                orjson.dumps(self.name),
                b",",
                b"null" if self.input is None else self.input,
                b",null,",
                orjson.dumps(extra) if extra else b"null",
                b"]",
            )
        )


@dataclass(frozen=True, slots=True)
class StartReply:
    """`outcome` is "started" or "exists"; `status` is that of the existing instance."""

    outcome: str
    incarnation: str
    status: str = ""


@dataclass(frozen=True, slots=True)
class AppendReply:
    """`outcome` is "queued", "unknown", "finished" (detail: status) or "full" (detail: count)."""

    outcome: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One instance as Redis holds it; `birth` and `last` are records, when they were asked for."""

    instance_id: str
    fields: dict[str, str]
    turns: int
    changed_ms: int
    birth: list[Any] | None = None
    last: list[Any] | None = None

    @property
    def status(self) -> str:
        """The runtime status; a live one that had no turn yet is PENDING."""
        status = self.fields.get("status")
        if status:
            return status
        pending = self.turns <= 1 and self.fields.get("gen", "0") == "0"
        return "PENDING" if pending else "RUNNING"

    @property
    def created_ms(self) -> int:
        return int(self.fields.get("created", "0"))

    @property
    def ended_ms(self) -> int | None:
        ended = self.fields.get("ended")
        return int(ended) if ended else None


def start(
    namespace: Namespace, partition: int, items: Sequence[NewInstance]
) -> Call[list[StartReply]]:
    """Create instances of one partition; at most `BATCH` of them."""
    first = items[0]
    shared = (first.queue, first.name, first.policy)
    plain = all(
        (item.queue, item.name, item.policy) == shared
        and item.due_ms is None
        and not (item.extra or {}).get("tags")
        for item in items
    )
    args: list[scripts.Argument] = [len(items), *(shared if plain else ("", "", ""))]
    for item in items:
        args += (item.instance_id, item.incarnation, item.birth_tail())
        if not plain:
            tags = (item.extra or {}).get("tags")
            args += (
                item.queue,
                item.name,
                "" if item.due_ms is None else item.due_ms,
                item.policy,
                orjson.dumps(tags) if tags else "",
            )

    def parse(reply: bytes | list[list[bytes]]) -> list[StartReply]:
        if isinstance(reply, bytes):
            return [StartReply("started", item.incarnation) for item in items]
        return [StartReply(*(part.decode() for part in row)) for row in reply]

    return Call(scripts.START, [namespace.prefix(partition)], args, parse)


def append(
    namespace: Namespace,
    partition: int,
    items: Sequence[tuple[str, str, str, bytes]],
    inbox_cap: int,
) -> Call[list[AppendReply]]:
    """Queue events of one partition: (instance id, incarnation or "", "E" or "L", event tail)."""
    args: list[scripts.Argument] = [inbox_cap, len(items)]
    for item in items:
        args += item
    return Call(scripts.APPEND, [namespace.prefix(partition)], args, _parse_appends)


def _parse_appends(reply: list[list[bytes | int]]) -> list[AppendReply]:
    return [AppendReply(*(_text(part) for part in row)) for row in reply]


def external_event(event_id: str, name: str, data: bytes) -> bytes:
    """The tail of an external event; `data` is encoded JSON."""
    return b",%b,%b,%b]" % (orjson.dumps(event_id), orjson.dumps(name), data)


def lifecycle_command(command_id: str, verb: str, data: dict[str, Any] | list[Any]) -> bytes:
    """The tail of a lifecycle command."""
    return b",%b,%b,%b]" % (orjson.dumps(command_id), orjson.dumps(verb), orjson.dumps(data))


def read(
    namespace: Namespace, partition: int, instance_ids: Sequence[str], *, payloads: bool = True
) -> Call[list[Snapshot | None]]:
    """Read instances of one partition; None for an unknown one."""

    def parse(reply: list[list[Any]]) -> list[Snapshot | None]:
        return [
            _snapshot(instance_id, row) if row else None
            for instance_id, row in zip(instance_ids, reply, strict=True)
        ]

    args = ["1" if payloads else "0", *instance_ids]
    return Call(scripts.READ, [namespace.prefix(partition)], args, parse)


def _snapshot(instance_id: str, row: list[Any]) -> Snapshot:
    flat, turns, changed, birth, last = row
    return Snapshot(
        instance_id,
        _fields(flat),
        turns,
        int(changed or 0),
        orjson.loads(birth) if birth else None,
        orjson.loads(last) if last else None,
    )


def _fields(flat: list[bytes]) -> dict[str, str]:
    texts = [part.decode() for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class Stored:
    """What an owner loads an instance from: raw history elements, birth record first."""

    incarnation: str
    queue: str
    status: str
    stalled: str
    version: str
    records: list[bytes]


def fetch(
    namespace: Namespace, partition: int, instance_ids: Sequence[str]
) -> Call[list[Stored | None]]:
    """Read whole histories of instances of one partition; None for an unknown one."""
    return Call(scripts.FETCH, [namespace.prefix(partition)], list(instance_ids), _parse_stored)


def _parse_stored(reply: list[list[Any]]) -> list[Stored | None]:
    found: list[Stored | None] = []
    for row in reply:
        if not row:
            found.append(None)
            continue
        incarnation, queue, status, stalled, version = (part.decode() for part in row[:5])
        found.append(Stored(incarnation, queue, status, stalled, version, row[5]))
    return found


@dataclass(frozen=True, slots=True)
class Filters:
    """What a listing looks for; times in epoch ms, `tags` as exact key-value pairs."""

    name: str = ""
    queue: str = ""
    created_from_ms: int | None = None
    created_to_ms: int | None = None
    id_part: str = ""
    tag: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended within one index: creation ms, then id, both falling."""

    created_ms: int
    instance_id: str


def list_page(
    namespace: Namespace,
    partition: int,
    status: str,
    filters: Filters,
    *,
    limit: int,
    position: Position | None = None,
    budget: int = 5000,
) -> Call[tuple[list[Snapshot], Position | None]]:
    """One page of one index, newest first; a position back means: there may be more."""
    high: str | int = "+inf" if filters.created_to_ms is None else filters.created_to_ms
    after = ""
    if position is not None:
        high, after = position.created_ms, position.instance_id
    tag = ""
    if filters.tag is not None:
        key, value = filters.tag
        tag = (orjson.dumps(key) + b":" + orjson.dumps(value)).decode()
    args: list[scripts.Argument] = [
        limit,
        high,
        after,
        "-inf" if filters.created_from_ms is None else filters.created_from_ms,
        filters.name,
        filters.queue,
        tag,
        filters.id_part,
        budget,
    ]
    keys = [namespace.index(partition, status), namespace.prefix(partition)]
    return Call(scripts.LIST, keys, args, _parse_page)


def _parse_page(reply: list[Any]) -> tuple[list[Snapshot], Position | None]:
    rows, created, last_id = reply
    page = [Snapshot(row[0].decode(), _fields(row[2]), row[3], int(row[4] or 0)) for row in rows]
    position = Position(int(created), last_id.decode()) if created else None
    return page, position


def purge(namespace: Namespace, instance_id: str, *, force: bool = False) -> Call[str]:
    """Remove an ended instance: "purged", "unknown" or "running"."""
    prefix = namespace.prefix(namespace.partition_of(instance_id))
    return Call(scripts.PURGE, [prefix], [instance_id, "1" if force else "0"], _first_word)


def _first_word(reply: list[bytes]) -> str:
    return reply[0].decode()


def _text(part: bytes | int) -> str:
    return part.decode() if isinstance(part, bytes) else str(part)
