"""Finding parents whose far children a shard of a cluster has lost, or lost to.

Whatever a server loses, it loses with everything behind it, and all of an instance is on one
server. So only what crosses servers can be torn: a parent here, its child there. This walks over
the live instances, a page at a time, and looks only at those with such children.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator

import orjson

from wfq.checker.ledger import read_records
from wfq.core import actions as act
from wfq.storage.instances import Stored, fetch
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

log = logging.getLogger("wfq.checker")

#: Instances of one page: their histories are read in one script.
PAGE = 10
_LIVE = ("RUNNING", "SUSPENDED", "STALLED")
_ENDED = frozenset((b"COMPLETED", b"FAILED", b"TERMINATED"))
#: Begins a decision to start a child.
_STARTS = f'["{act.START_CHILD}",'.encode()


def torn_parents(
    link: SyncLink, namespace: Namespace, partitions: Collection[int]
) -> Iterator[list[str]]:
    """Live instances whose children across partitions are not what they should be, by pages.

    Only children that live in one of `partitions`, or whose parent does. Most pages are empty: the
    caller may pause, or give up, between them. What is merely on its way may be among them.
    Raises: StorageError.
    """
    for partition in range(namespace.partitions):
        for status in _LIVE:
            for ids in _pages(link, namespace.index(partition, status)):
                yield _torn(link, namespace, partition, ids, partitions)


def _pages(link: SyncLink, index: str) -> Iterator[list[str]]:
    """The members of an index; those that come or go meanwhile may be missed."""
    lowest: str | bytes = "-inf"
    seen: set[bytes] = set()
    while True:
        flat = link.command(
            "ZRANGEBYSCORE", index, lowest, "+inf", "WITHSCORES", "LIMIT", 0, PAGE + len(seen)
        )
        rows = [(member, score) for member, score in _pairs(flat) if member not in seen]
        if not rows:
            return
        yield [member.decode() for member, _ in rows]
        last = rows[-1][1]
        if last != lowest:
            lowest, seen = last, set()
        seen.update(member for member, score in rows if score == last)


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _torn(
    link: SyncLink,
    namespace: Namespace,
    partition: int,
    ids: list[str],
    partitions: Collection[int],
) -> list[str]:
    expected: list[tuple[str, str, str]] = []
    stored = link.run(fetch(namespace, partition, ids))
    for instance_id, one in zip(ids, stored, strict=True):
        if one is None or not any(_STARTS in record for record in one.records):
            continue
        for child_id, inc in _open_children(instance_id, one):
            home = namespace.partition_of(child_id)
            if home != partition and (home in partitions or partition in partitions):
                expected.append((instance_id, child_id, inc))
    found = link.commands(
        [
            ("HMGET", namespace.instance(child), "inc", "adopted", "status")
            for _, child, _ in expected
        ]
    )
    torn = {
        instance_id: None
        for (instance_id, _, inc), (*known, status) in zip(expected, found, strict=True)
        if inc.encode() not in known or status in _ENDED
    }
    return list(torn)


def _open_children(instance_id: str, one: Stored) -> list[tuple[str, str]]:
    try:
        return list(_children(one))
    except (ValueError, LookupError, TypeError):
        # A damaged history must not hold up the others.
        log.exception(
            "the history of instance %s cannot be read",
            instance_id,
            extra={"instance_id": instance_id},
        )
        return []


def _children(one: Stored) -> Iterator[tuple[str, str]]:
    """Id and incarnation of the open children."""
    ledger = read_records([orjson.loads(record) for record in one.records])
    for task in ledger.open.values():
        if task.kind == act.START_CHILD:
            yield task.action[3], task.child_inc
