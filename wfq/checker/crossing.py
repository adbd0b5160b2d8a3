"""Finding parents whose far children a shard of a cluster has lost, or lost to, and such children.

Whatever a server loses, it loses with everything behind it, and all of an instance is on one
server. So only what crosses servers can be torn: a parent here, its child there. This walks over
the live instances, a page at a time, and looks only at those with such children or parents.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import orjson

from wfq.checker.ledger import Open, read_records
from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.events import Record
from wfq.storage.adoption import child_lineage, is_of_task
from wfq.storage.inspection import Look
from wfq.storage.instances import TERMINAL, Snapshot, Stored, fetch, lifecycle_command, read
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.outbox import parse_messages, read_command

log = logging.getLogger("wfq.checker")

#: Instances of one page: their histories are read in one script.
PAGE = 10
#: The same where histories are read of few.
BIRTH_PAGE = 100
#: Messages of an outbox that are read at once.
_OUTBOX_PAGE = 1000
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
class Termination:
    """That a live instance was to end with its parent: the command that its parent has sent.

    An instance obeys a command once, so it may be sent again.
    """

    parent_id: str
    incarnation: str
    command_id: str

    @property
    def beginning(self) -> str:
        """What the event begins with, wherever it comes from."""
        return orjson.dumps([ev.LIFECYCLE, self.incarnation, self.command_id]).decode()[:-1]

    @property
    def event(self) -> bytes:
        """The event for the stream of the child."""
        tail = lifecycle_command(self.command_id, ev.TERMINATE, {"recursive": True})
        return orjson.dumps([ev.LIFECYCLE, self.incarnation])[:-1] + tail

    def waits(self, look: Look) -> bool:
        """Whether it is in the stream of the child, which the look has to show."""
        return any(
            event.code == ev.LIFECYCLE
            and (event.inc, event.nonce) == (self.incarnation, self.command_id)
            for event in look.events
        )


def forsaken_children(
    link: SyncLink, namespace: Namespace, partitions: Collection[int]
) -> Iterator[list[str]]:
    """Live instances whose shard has lost that they were to end with their parents.

    By pages, of the same relations, and with the same errors as `torn_parents`.
    """
    for partition in range(namespace.partitions):
        for status in _LIVE:
            for ids in _pages(link, namespace.index(partition, status), BIRTH_PAGE):
                keys = [namespace.instance(one) for one in ids]
                told = link.commands([("HGET", key, "parent") for key in keys])
                parents = {
                    child_id: parent.decode()
                    for child_id, parent in zip(ids, told, strict=True)
                    if parent
                }
                far = {
                    child_id: parent_id
                    for child_id, parent_id in parents.items()
                    if partition in partitions or namespace.partition_of(parent_id) in partitions
                }
                yield list(lost_terminations(link, namespace, far))


def lost_terminations(
    link: SyncLink, namespace: Namespace, parents: Mapping[str, str]
) -> dict[str, Termination]:
    """Of children (child id: parent id), those that live on though they were to end with a parent.

    Only of parents in other partitions: the others are on the same server. Nothing that its
    parent's outbox still holds counts as lost; what has arrived in the child's stream does.
    Raises: StorageError.
    """
    children: dict[str, list[str]] = {}
    for child_id, parent_id in parents.items():
        if namespace.partition_of(child_id) != namespace.partition_of(parent_id):
            children.setdefault(parent_id, []).append(child_id)
    statuses = link.commands([("HGET", namespace.instance(one), "status") for one in children])
    found: dict[str, Termination] = {}
    for parent_id, status in zip(children, statuses, strict=True):
        if status == b"TERMINATED":
            found |= _lost_of(link, namespace, parent_id, children[parent_id])
    return found


def _lost_of(
    link: SyncLink, namespace: Namespace, parent_id: str, children: list[str]
) -> dict[str, Termination]:
    home = namespace.partition_of(parent_id)
    (parent,) = link.run(fetch(namespace, home, [parent_id]))
    # It may have been purged, and its id used again, since its status was read.
    if parent is None or parent.status != "TERMINATED":
        return {}
    found: dict[str, Termination] = {}
    looked_at = parent_id
    try:
        ending = _Ending.of(parent_id, parent)
        for looked_at in children if ending is not None else ():
            (child,) = link.run(read(namespace, namespace.partition_of(looked_at), [looked_at]))
            if ending is not None and child is not None and ending.was_for(child):
                inc = child.fields["inc"]
                found[looked_at] = Termination(parent_id, inc, ending.command_id)
    except (ValueError, LookupError, TypeError, AttributeError):
        # A damaged history must not hold up the others.
        log.exception(
            "the history of instance %s cannot be read",
            looked_at,
            extra={"instance_id": looked_at},
        )
    posted = _posted(link, namespace, home) if found else set()
    return {
        child_id: lost
        for child_id, lost in found.items()
        if (child_id, lost.command_id) not in posted
    }


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a parent was terminated with its children."""

    parent_id: str
    parent: Stored
    birth: Record
    command_id: str
    #: By the id of the child.
    open: dict[str, list[Open]]

    @classmethod
    def of(cls, parent_id: str, parent: Stored) -> _Ending | None:
        """None where its children were to go on."""
        records = [orjson.loads(record) for record in parent.records]
        last = records[-1]
        ends = [e for e in last[ev.T_EVENTS] if e[0] == ev.LIFECYCLE and e[3] == ev.TERMINATE]
        if not any((event[4] or {}).get("recursive") for event in ends):
            return None
        # The end closes what was open before it, the tasks of its own turn included.
        last[ev.T_ACTIONS] = [a for a in last[ev.T_ACTIONS] if a[0] not in act.TERMINAL]
        ledger = read_records(records)
        children: dict[str, list[Open]] = {}
        for task in ledger.open.values() if not ledger.wrong else ():
            if task.kind == act.START_CHILD:
                children.setdefault(task.action[3], []).append(task)
        return cls(parent_id, parent, records[0], last[ev.T_NONCE], children)

    def was_for(self, child: Snapshot) -> bool:
        """Whether an instance is one of the children, and lives."""
        if child.birth is None or child.status in TERMINAL:
            return False
        generation = self.birth[ev.B_GEN]
        for task in self.open.get(child.instance_id, ()):
            if child.fields.get("inc") == task.child_inc:
                return True
            # Or of a time that the parent's server has lost, and adopted.
            whose = [self.parent_id, self.parent.incarnation, task.task_id, task.nonce]
            lineage = child_lineage(self.birth, generation, task.task_id)
            if is_of_task(child.birth, whose, generation, lineage):
                return True
        return False


def _posted(link: SyncLink, namespace: Namespace, partition: int) -> set[tuple[str, str]]:
    """The commands in an outbox: the instance and the id of each."""
    found: set[tuple[str, str]] = set()
    after = b""
    while True:
        command = read_command(namespace, partition, after=after, count=_OUTBOX_PAGE)
        page = parse_messages(link.command(*command))
        for after, message in page:  # noqa: B007
            if message.kind == "E" and message.values[2] == ev.LIFECYCLE:
                command_id, *_ = orjson.loads("[" + message.values[3].lstrip(","))
                found.add((message.target, command_id))
        if len(page) < _OUTBOX_PAGE:
            return found


def _pages(link: SyncLink, index: str, size: int = PAGE) -> Iterator[list[str]]:
    """The members of an index; those that come or go meanwhile may be missed."""
    lowest: str | bytes = "-inf"
    seen: set[bytes] = set()
    while True:
        flat = link.command(
            "ZRANGEBYSCORE", index, lowest, "+inf", "WITHSCORES", "LIMIT", 0, size + len(seen)
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
