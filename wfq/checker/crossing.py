"""Finding parents whose far children a shard of a cluster has lost, or lost to, and such children.

Whatever a server loses, it loses with everything behind it, and all of an instance is on one
server. So only what crosses servers can be torn: a parent here, its child there. This walks over
the live instances, a page at a time, and looks only at those with such children or parents.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import orjson

from wfq.checker.ledger import read_records
from wfq.core import actions as act
from wfq.core import events as ev
from wfq.storage.adoption import child_lineage, is_of_task
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


@dataclass(frozen=True, slots=True)
class Forsaken:
    """A live child whose parent was terminated with its children: command_id tells it so, once."""

    instance_id: str
    incarnation: str
    command_id: str


def forsaken_children(
    link: SyncLink, namespace: Namespace, partitions: Collection[int]
) -> Iterator[list[Forsaken]]:
    """Live children that a shard lost the termination of, by pages, as `torn_parents`."""
    for partition in range(namespace.partitions):
        for status in _LIVE:
            for ids in _pages(link, namespace.index(partition, status)):
                keys = [namespace.instance(one) for one in ids]
                parents = link.commands([("HGET", key, "parent") for key in keys])
                far = {
                    child_id: parent.decode()
                    for child_id, parent in zip(ids, parents, strict=True)
                    if parent and _is_between(namespace, partition, parent.decode(), partitions)
                }
                yield [
                    found
                    for child_id, parent_id in far.items()
                    if (found := _forsaken(link, namespace, child_id, parent_id)) is not None
                ]


def _is_between(
    namespace: Namespace, partition: int, parent_id: str, partitions: Collection[int]
) -> bool:
    home = namespace.partition_of(parent_id)
    return home != partition and (home in partitions or partition in partitions)


def _forsaken(
    link: SyncLink, namespace: Namespace, child_id: str, parent_id: str
) -> Forsaken | None:
    if link.command("HGET", namespace.instance(parent_id), "status") != b"TERMINATED":
        return None
    (parent,) = link.run(fetch(namespace, namespace.partition_of(parent_id), [parent_id]))
    (child,) = link.run(fetch(namespace, namespace.partition_of(child_id), [child_id]))
    if parent is None or child is None:
        return None
    try:
        command_id = _command_of(child_id, child, parent_id, parent)
    except (ValueError, LookupError, TypeError):
        log.exception(
            "the histories of instance %s and its parent %s cannot be read",
            child_id,
            parent_id,
            extra={"instance_id": child_id},
        )
        return None
    return None if command_id is None else Forsaken(child_id, child.incarnation, command_id)


def _command_of(child_id: str, child: Stored, parent_id: str, parent: Stored) -> str | None:
    """The command that terminated an open child, if its parent's end was to be that of it too."""
    records = [orjson.loads(record) for record in parent.records]
    last = records[-1]
    if not any(
        event[0] == ev.LIFECYCLE and event[3] == ev.TERMINATE and event[4].get("recursive")
        for event in last[ev.T_EVENTS]
    ):
        return None
    birth, generation = orjson.loads(child.records[0]), records[0][ev.B_GEN]
    resolved = {event[1] for event in last[ev.T_EVENTS] if event[0] in ev.COMPLETED + ev.FAILED}
    # The end closes what was open before it.
    for task in read_records(records[:-1]).open.values():
        if task.kind != act.START_CHILD or task.action[3] != child_id or task.task_id in resolved:
            continue
        whose = [parent_id, parent.incarnation, task.task_id, task.nonce]
        lineage = child_lineage(records[0], generation, task.task_id)
        if is_of_task(birth, whose, generation, lineage):
            return str(last[ev.T_NONCE])
    return None


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
