"""Namespace metadata and the register of live workers: plain commands, no scripts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from wfq.errors import SchemaMismatch
from wfq.storage.keys import DEFAULT_PARTITIONS, Namespace
from wfq.storage.link import AsyncLink, SyncLink

#: Version of the stored layout. A namespace with a higher one is refused.
SCHEMA = 1
#: A worker that has not reported for so long is taken for gone.
WORKER_TTL_MS = 15_000
#: Reports of workers for each that sweeps those away that are long gone.
SWEEP_ONE_IN = 10
#: An orchestrator that has not reported to its queue for so long is gone.
MEMBER_SILENT_MS = 5_000


def open_namespace(link: SyncLink, name: str, *, partitions: int = DEFAULT_PARTITIONS) -> Namespace:
    """The namespace, created if it is new. Raises: SchemaMismatch, StorageError."""
    meta = Namespace(name, 1).meta
    found = link.command("HMGET", meta, "schema", "partitions")
    if found[1] is None:
        link.command(
            "EVAL",
            "for i = 1, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end",
            1, meta, "schema", SCHEMA, "partitions", partitions, "epoch", secrets.token_hex(8),
        )  # fmt: skip
        found = link.command("HMGET", meta, "schema", "partitions")
    return _checked(name, found)


async def open_namespace_async(
    link: AsyncLink, name: str, *, partitions: int = DEFAULT_PARTITIONS
) -> Namespace:
    """The asyncio twin of `open_namespace`."""
    meta = Namespace(name, 1).meta
    found = await link.command("HMGET", meta, "schema", "partitions")
    if found[1] is None:
        await link.command(
            "EVAL",
            "for i = 1, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end",
            1, meta, "schema", SCHEMA, "partitions", partitions, "epoch", secrets.token_hex(8),
        )  # fmt: skip
        found = await link.command("HMGET", meta, "schema", "partitions")
    return _checked(name, found)


def _checked(name: str, found: list[bytes | None]) -> Namespace:
    try:
        schema, partitions = int(found[0] or 0), int(found[1] or 0)
    except ValueError:
        schema, partitions = 0, 0
    if schema > SCHEMA:
        raise SchemaMismatch(
            f"namespace {name!r} has schema {schema}, this wfq reads up to {SCHEMA}; upgrade wfq"
        )
    if partitions < 1:
        meta = Namespace(name, 1).meta
        raise SchemaMismatch(f"namespace {name!r}: its key {meta} is damaged; restore a backup")
    return Namespace(name, partitions)


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a live worker registered; times in epoch ms of the server."""

    worker_id: str
    seen_ms: int
    details: dict[str, Any]


def server_now_ms(link: SyncLink) -> int:
    """The server's clock in epoch ms."""
    seconds, micros = link.command("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def turn_command(
    namespace: Namespace,
    name: str,
    worker_id: str,
    period_ms: int,
    partition: int | None = None,
) -> tuple[str | int, ...]:
    """Ask whether it is this worker's turn to do what one worker is to do now and then.

    Nil: another has had it within `period_ms`. A turn that is not used is only late. With
    `partition`, it is the turn of that partition alone.
    """
    key = namespace.turn(name) if partition is None else namespace.turn_in(partition, name)
    return ("SET", key, worker_id, "NX", "PX", period_ms)


def register_worker(link: SyncLink, namespace: Namespace, info: WorkerInfo) -> None:
    """Report a worker alive, with what it serves; it is forgotten after `WORKER_TTL_MS`."""
    now = server_now_ms(link)
    document = orjson.dumps(info.details)
    commands: list[tuple[str | bytes | int, ...]] = [
        ("SET", namespace.worker(info.worker_id), document, "PX", WORKER_TTL_MS),
        ("ZADD", namespace.workers, now, info.worker_id),
    ]
    if not now % SWEEP_ONE_IN:
        commands.append(("ZREMRANGEBYSCORE", namespace.workers, "-inf", now - 10 * WORKER_TTL_MS))
    queues = info.details.get("queues")
    if queues:
        commands.append(("SADD", namespace.queues, *queues))
    link.commands(commands)


def publish_workflows(
    link: SyncLink, namespace: Namespace, queue: str, descriptions: Mapping[str, bytes]
) -> None:
    """Keep descriptions of a queue's workflows by name; those of other names stay."""
    for name, description in descriptions.items():
        link.command("HSET", namespace.about(queue), name, description)


def forget_worker(link: SyncLink, namespace: Namespace, worker_id: str) -> None:
    """Remove a worker that stopped."""
    link.command("DEL", namespace.worker(worker_id))
    link.command("ZREM", namespace.workers, worker_id)


def live_workers(link: SyncLink, namespace: Namespace) -> list[WorkerInfo]:
    """The workers that reported lately, by id."""
    rows = link.command("ZRANGE", namespace.workers, 0, -1, "WITHSCORES")
    workers = []
    for worker_id, score in sorted(zip(rows[::2], rows[1::2], strict=True)):
        document = link.command("GET", namespace.worker(worker_id.decode()))
        if document is not None:
            workers.append(
                WorkerInfo(worker_id.decode(), int(float(score)), orjson.loads(document))
            )
    return workers


def known_queues(link: SyncLink, namespace: Namespace) -> list[str]:
    """Queues that were ever used, sorted."""
    return sorted(name.decode() for name in link.command("SMEMBERS", namespace.queues))


def served_queues(link: SyncLink, namespace: Namespace, queues: Sequence[str]) -> set[str]:
    """Those of the queues whose orchestrators have reported lately."""
    oldest = server_now_ms(link) - MEMBER_SILENT_MS
    counts = link.commands([("ZCOUNT", namespace.members(q), oldest, "+inf") for q in queues])
    return {queue for queue, count in zip(queues, counts, strict=True) if count}
