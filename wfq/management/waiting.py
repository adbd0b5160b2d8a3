"""Waiting for instances without polling: what is waited for, and who is told of it.

A wait subscribes to the changes of its instance's partition, reads the state, and reads again
whenever a commit names the instance, whenever the subscription is confirmed anew, and at a
slow beat, since a subscription can be cut in silence. One connection serves all waits of a
client; the two clients drive it from a thread (`waiting_sync`) and a task (`waiting_async`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from wfq.errors import InstanceNotFound, WaitTimeout, WfqError
from wfq.storage import instances
from wfq.storage.channels import Notice
from wfq.storage.instances import TERMINAL, Snapshot
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Call

#: Seconds after which the state is read again although nothing was heard.
BEAT_S = 5.0
#: Seconds without a wait after which the subscription is given up.
LINGER_S = 30.0
#: Seconds without Redis after which waits fail; a failover or restart takes less.
OUTAGE_S = 60.0
#: Seconds between attempts to subscribe again: the first, and the longest.
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 2.0
#: Notices taken before what they name is read.
NOTICES_AT_ONCE = 1000
#: Waits of a partition up to which a notice is searched for each, before it is taken apart.
FEW_WAITS = 8
#: Instances in one read, so that Redis is never blocked for long.
READ_BATCH = 200


#: What shows whether an instance has changed: turns, time of the last one, status.
Mark = tuple[int, int, str]


def mark_of(snapshot: Snapshot) -> Mark:
    """What differs from an earlier snapshot's once the instance has changed."""
    return (snapshot.turns, snapshot.changed_ms, snapshot.status)


@dataclass(frozen=True, slots=True)
class Wish:
    """What one wait is for: that an instance has started, ended, been suspended or resumed, or
    changed since `seen`."""

    instance_id: str
    goal: Literal["started", "ended", "suspended", "resumed", "changed"] = "ended"
    payloads: bool = True
    timeout_s: float | None = None
    seen: Mark | None = None

    def met(self, snapshot: Snapshot | None) -> bool:
        """Whether the wait is over; it is over for an instance that does not exist, too."""
        if snapshot is None:
            return True
        match self.goal:
            case "ended":
                return snapshot.status in TERMINAL
            case "started":
                return snapshot.status != "PENDING"
            case "suspended":
                return snapshot.status == "SUSPENDED" or snapshot.status in TERMINAL
            case "resumed":
                return snapshot.status != "SUSPENDED"
            case "changed":
                return mark_of(snapshot) != self.seen


class Ticket:
    """One wait under way; `wake` is called once it is settled."""

    __slots__ = ("error", "partition", "settled", "snapshot", "wake", "wish")

    def __init__(self, wish: Wish, partition: int, wake: Callable[[], None]) -> None:
        self.wish = wish
        self.partition = partition
        self.wake = wake
        self.settled = False
        self.snapshot: Snapshot | None = None
        self.error: Exception | None = None

    def settle(self, snapshot: Snapshot | None, error: Exception | None = None) -> None:
        """End the wait with what was read, or with an error."""
        self.snapshot = snapshot
        self.error = error
        self.settled = True
        self.wake()

    def outcome(self) -> Snapshot:
        """What the wait ended with. Raises: WaitTimeout, InstanceNotFound, the error given."""
        wish = self.wish
        if self.error is not None:
            raise self.error
        if not self.settled:
            raise WaitTimeout(
                f"workflow instance {wish.instance_id!r} has not {wish.goal} within "
                f"{wish.timeout_s:g} s; it goes on, wait again or look at its state"
            )
        if self.snapshot is None:
            raise not_found(wish.instance_id)
        return self.snapshot


class Read(NamedTuple):
    """A call that reads instances, and their ids in its order."""

    ids: Sequence[str]
    call: Call[list[Snapshot | None]]


def not_found(instance_id: str) -> InstanceNotFound:
    """The error for an id that no instance has."""
    return InstanceNotFound(f"no workflow instance {instance_id!r}; start it first", instance_id)


def closed() -> WfqError:
    """The error for waits of a client that is being closed."""
    return WfqError("the client was closed while waiting; use another one")


class WaitBook:
    """The waits under way, by partition and instance. Not safe for threads by itself."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._tickets: dict[int, dict[str, list[Ticket]]] = {}
        self._partition_of = {namespace.changes(p): p for p in range(namespace.partitions)}
        #: Partitions whose channel is listened to right now.
        self.confirmed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._tickets)

    def add(self, ticket: Ticket) -> str | None:
        """Enter a wait; returns the channel to listen to, unless it is already wanted."""
        new = ticket.partition not in self._tickets and ticket.partition not in self.confirmed
        by_id = self._tickets.setdefault(ticket.partition, {})
        by_id.setdefault(ticket.wish.instance_id, []).append(ticket)
        return self._namespace.changes(ticket.partition) if new else None

    def remove(self, ticket: Ticket) -> None:
        """Strike a wait out; it may be gone already."""
        by_id = self._tickets.get(ticket.partition, {})
        tickets = by_id.get(ticket.wish.instance_id, [])
        if ticket in tickets:
            tickets.remove(ticket)
            if not tickets:
                del by_id[ticket.wish.instance_id]
            if not by_id:
                del self._tickets[ticket.partition]

    def channels(self) -> list[str]:
        """The channels of all waits."""
        return [self._namespace.changes(p) for p in self._tickets]

    def unwanted(self) -> list[str]:
        """Channels that are listened to for no wait any more; they count as unheard from now."""
        unwanted = [p for p in self.confirmed if p not in self._tickets]
        self.confirmed.difference_update(unwanted)
        return [self._namespace.changes(p) for p in unwanted]

    def heard(self, notice: Notice) -> Iterable[str]:
        """Ids that a notice gives reason to read."""
        partition = self._partition_of[notice.channel]
        by_id = self._tickets.get(partition)
        if notice.data is None:
            self.confirmed.add(partition)
            return list(by_id or ())
        if not by_id:
            return ()
        if len(by_id) <= FEW_WAITS and not any(name.encode() in notice.data for name in by_id):
            # Most commits of a busy partition are about others.
            return ()
        # Commits name what they changed, with "!" before what has ended.
        names = notice.data.decode().split(" ")
        return [name.lstrip("!") for name in names if self._concerns(by_id, name)]

    @staticmethod
    def _concerns(by_id: dict[str, list[Ticket]], name: str) -> bool:
        tickets = by_id.get(name.lstrip("!"))
        if tickets is None:
            return False
        return name[0] == "!" or any(ticket.wish.goal != "ended" for ticket in tickets)

    def all_ids(self) -> list[str]:
        """Every instance that is waited for."""
        return [instance_id for by_id in self._tickets.values() for instance_id in by_id]

    def reads(self, ids: Iterable[str], *, light: bool) -> list[Read]:
        """What reads those of `ids` that are waited for; `light` leaves all payloads out."""
        wanted: dict[int, dict[str, bool]] = {}
        for instance_id in ids:
            partition = self._namespace.partition_of(instance_id)
            tickets = self._tickets.get(partition, {}).get(instance_id)
            if tickets:
                payloads = not light and any(ticket.wish.payloads for ticket in tickets)
                wanted.setdefault(partition, {})[instance_id] = payloads
        return [
            Read(
                part, instances.read(self._namespace, partition, part, payloads=any(some.values()))
            )
            for partition, some in wanted.items()
            for part in _parts(list(some))
        ]

    def settle(self, ids: Sequence[str], snapshots: Sequence[Snapshot | None]) -> list[str]:
        """End the waits that are over; returns ids that must be read again with payloads."""
        again = []
        for instance_id, snapshot in zip(ids, snapshots, strict=True):
            partition = self._namespace.partition_of(instance_id)
            for ticket in list(self._tickets.get(partition, {}).get(instance_id, ())):
                if not ticket.wish.met(snapshot):
                    continue
                if snapshot is not None and snapshot.birth is None and ticket.wish.payloads:
                    again.append(instance_id)
                else:
                    self.remove(ticket)
                    ticket.settle(snapshot)
        return again

    def fail(self, error: Exception) -> None:
        """End every wait with an error."""
        tickets = [t for by_id in self._tickets.values() for some in by_id.values() for t in some]
        self._tickets.clear()
        for ticket in tickets:
            ticket.settle(None, error)


def _parts(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[at : at + READ_BATCH] for at in range(0, len(ids), READ_BATCH))
