"""Counting instances by the indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from wfq.storage import scripts
from wfq.storage.instances import Filters, Position
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Argument, Call

#: Index entries one call may look at, so that Redis is never blocked for long.
BUDGET = 5000


def count(
    namespace: Namespace,
    partition: int,
    status: str,
    filters: Filters,
    *,
    tags: Mapping[str, str] | None = None,
    position: Position | None = None,
    budget: int = BUDGET,
) -> Call[tuple[int, Position | None]]:
    """Count one index, from `position` on; a position back means: go on from there.

    Every one of `tags` must fit, besides the filters.
    """
    high: str | int = "+inf" if filters.created_to_ms is None else filters.created_to_ms
    after = ""
    if position is not None:
        high, after = position.created_ms, position.instance_id
    wanted = dict(tags or {}) | (dict([filters.tag]) if filters.tag else {})
    texts = [orjson.dumps({key: value}).decode()[1:-1] for key, value in wanted.items()]
    args: list[Argument] = [
        high,
        after,
        "-inf" if filters.created_from_ms is None else filters.created_from_ms,
        filters.name,
        filters.queue,
        len(texts),
        *texts,
        filters.id_part,
        budget,
    ]
    keys = [namespace.index(partition, status), namespace.prefix(partition)]
    return Call(scripts.COUNT, keys, args, _parse_count)


def _parse_count(reply: list[Any]) -> tuple[int, Position | None]:
    number, created, last_id = reply
    return number, Position(int(created), last_id.decode()) if created else None
