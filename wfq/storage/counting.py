"""Counting instances by the indexes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from wfq.storage import scripts
from wfq.storage.instances import Filters, Position
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Argument, Call

#: Index entries one call may look at, so that Redis is never blocked for long.
BUDGET = 5000


@dataclass(frozen=True, slots=True)
class Counted:
    """`new` of the `number` had no turn yet; a position means: go on from there."""

    number: int
    new: int
    position: Position | None


def count(
    namespace: Namespace,
    partition: int,
    status: str,
    filters: Filters,
    *,
    tags: Mapping[str, str] | None = None,
    position: Position | None = None,
    apart: bool = False,
    budget: int = BUDGET,
) -> Call[Counted]:
    """Count one index, from `position` on.

    Every one of `tags` must fit, besides the filters. apart: tell how many had no turn yet,
    for which every instance has to be looked at.
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
        int(apart),
    ]
    keys = [namespace.index(partition, status), namespace.prefix(partition)]
    return Call(scripts.COUNT, keys, args, _parse_count)


def _parse_count(reply: list[Any]) -> Counted:
    number, created, last_id, new = reply
    position = Position(int(created), last_id.decode()) if created else None
    return Counted(number, new, position)
