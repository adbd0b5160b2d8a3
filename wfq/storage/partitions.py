"""Calls of orchestrators: own a partition, commit turns, go on with a large dispatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from wfq.storage import scripts
from wfq.storage.activities import SHORT_FOR_MS
from wfq.storage.entries import id_after
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Argument, Call

#: Activities that one script call adds; a larger fan-out goes on with `dispatch`.
DISPATCH_BATCH = 1000


#: In place of "task_id nonce": the activity is known to be short, and may share an entry.
SHORT = "+"
#: Activity queue, message, and "task_id nonce" when a schedule-to-start timeout watches it, or
#: `SHORT`, or "".
DispatchMessage = tuple[str, bytes, str]


@dataclass(frozen=True, slots=True)
class Taken:
    """A lease was taken; `cursors` are unfinished dispatches: instance id -> cursor.

    `continued`: nobody else has held the partition since the present token's last commit, so
    what its holder knows of the instances still holds. `behind`: what its holder has committed is
    not there any more; the server was emptied, or has lost what came last.
    """

    now_ms: int
    takeovers: int
    suspect: str
    last_entry: bytes
    cursors: dict[str, str]
    continued: bool = False
    behind: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """Another owner holds the lease for `expires_in_ms` more."""

    expires_in_ms: int
    owner: str


def acquire(
    namespace: Namespace,
    partition: int,
    queue: str,
    *,
    token: str,
    owner: str,
    lease_ms: int,
    present_token: str = "",
    position: bytes = b"",
) -> Call[Taken | Held]:
    """Lease a partition of a queue, if nobody holds it (or the present token is ours).

    `position` is the last entry committed under the present token.
    """
    keys = [
        namespace.lease(partition, queue),
        namespace.events(partition, queue),
        namespace.cursors(partition),
    ]
    args: list[Argument] = [token, owner, lease_ms, present_token, position]
    return Call(scripts.ACQUIRE, keys, args, _parse_acquire)


def _parse_acquire(reply: list[Any]) -> Taken | Held:
    if reply[0] == b"held":
        return Held(int(reply[1]), reply[2].decode())
    _, now, takeovers, suspect, last, flat, continued = reply
    texts = [part.decode() for part in flat]
    cursors = dict(zip(texts[::2], texts[1::2], strict=True))
    return Taken(
        int(now), int(takeovers), suspect.decode(), last, cursors, continued == 1, continued < 0
    )


@dataclass(frozen=True, slots=True)
class Renewal:
    """Whether the token is still valid, and the server's time."""

    valid: bool
    now_ms: int


def renew(
    namespace: Namespace, partition: int, queue: str, *, token: str, lease_ms: int
) -> Call[Renewal]:
    """Prolong a lease."""
    return Call(scripts.RENEW, [namespace.lease(partition, queue)], [token, lease_ms], _parse_renew)


def _parse_renew(reply: list[bytes]) -> Renewal:
    return Renewal(reply[0] == b"renewed", int(reply[1]))


def release(
    namespace: Namespace,
    partition: int,
    queue: str,
    *,
    token: str = "",
    owner: str = "",
    died: bool = False,
) -> Call[bool]:
    """Give up a lease, by token (own) or by owner (of a process that died)."""
    keys = [namespace.lease(partition, queue), namespace.events(partition, queue)]
    return Call(scripts.RELEASE, keys, [token, owner, "died" if died else "clean"], bool)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in an events stream; `seen` is the last entry that was looked at."""

    entries: int
    seen: str
    has_command: bool


def waiting(
    namespace: Namespace, partition: int, queue: str, *, after: str, limit: int
) -> Call[Waiting]:
    """Look whether a lifecycle command waits behind the entry `after`."""

    def parse(reply: list[Any]) -> Waiting:
        entries, seen, found = reply
        return Waiting(int(entries), seen.decode(), bool(found))

    return Call(scripts.WAITING, [namespace.events(partition, queue)], [after, limit], parse)


@dataclass(frozen=True, slots=True)
class Report:
    """The server's time, who serves the queue, and the short activities of the queues asked for."""

    now_ms: int
    members: list[str]
    short: list[frozenset[str]]


def report(
    namespace: Namespace, queue: str, worker_id: str, *, silent_ms: int, short_of: Sequence[str]
) -> Call[Report]:
    """Say that an orchestrator of the queue lives."""
    keys = [namespace.members(queue), *map(namespace.short, short_of)]
    return Call(scripts.REPORT, keys, [worker_id, silent_ms, SHORT_FOR_MS], _parse_report)


def _parse_report(reply: list[Any]) -> Report:
    now, members, *short = reply
    names = [frozenset(name.decode() for name in found) for found in short]
    return Report(int(now), sorted(name.decode() for name in members), names)


def accuse(
    namespace: Namespace, partition: int, queue: str, *, token: str, name: str
) -> Call[bool]:
    """Name in the lease what is about to run ("order-7 1"); "" takes it back.

    False when the token is not valid any more.
    """
    return Call(scripts.ACCUSE, [namespace.lease(partition, queue)], [token, name], bool)


def read_command(
    keys: Sequence[str], token: str, *, count: int, block_ms: int | None
) -> tuple[Argument, ...]:
    """XREADGROUP of a lane over its partitions' events streams.

    NOACK: the commit trims what it consumed, so a list of pending entries would only cost.
    """
    block: tuple[Argument, ...] = () if block_ms is None else ("BLOCK", block_ms)
    return (
        "XREADGROUP", "GROUP", token, "owner", "COUNT", count, *block, "NOACK",
        "STREAMS", *keys, *([">"] * len(keys)),
    )  # fmt: skip


def position_after(position: bytes, last_entry: bytes | None) -> bytes:
    """The position that a commit leaves behind; each is used once."""
    return position + b"+" if last_entry is None else last_entry


@dataclass(slots=True)
class InstanceCommit:
    """One instance's part of a commit; `operations` are those documented in commit.lua.

    `turns_before` None: the part only passes events on, whatever the instance's history is.
    """

    instance_id: str
    incarnation: str
    turns_before: int | None
    record: bytes
    #: The letters of the operations, and their values.
    letters: str = ""
    operations: list[Argument] = field(default_factory=list)

    def add(self, letter: str, *values: Argument) -> None:
        """Add one operation."""
        self.letters += letter
        self.operations += values


@dataclass(frozen=True, slots=True)
class Committed:
    """The commit was written, except for the instances `dropped`; or refused as `stale`.

    `removals` counts instances that were removed from the partition: for the next commit.
    """

    stale: str = ""
    removals: str = ""
    dropped: tuple[str, ...] = ()


def commit(
    namespace: Namespace,
    partition: int,
    queue: str,
    *,
    token: str,
    position: bytes,
    last_entry: bytes | None,
    notice: str,
    parts: Sequence[InstanceCommit],
    removals: str = "",
) -> Call[Committed]:
    """Commit the turns of one batch; `last_entry` None leaves its entries in the stream.

    The next commit under the token has the position that `position_after` tells.
    `removals` is what the last commit under this token answered: while it holds, the token and
    the position prove what every history contains, and none has to be looked at.
    """
    args: list[Argument] = [
        token,
        position,
        last_entry or b"",
        id_after(last_entry) if last_entry else b"",
        notice,
        removals,
        queue,
    ]
    _columns(args, parts)
    keys = [
        namespace.lease(partition, queue),
        namespace.events(partition, queue),
        namespace.timers(partition),
        namespace.tasks(partition),
        namespace.prefix(partition),
    ]
    return Call(scripts.COMMIT, keys, args, parse_committed)


def _columns(args: list[Argument], parts: Sequence[InstanceCommit]) -> None:
    """Add the arguments of the parts: what is plain comes first, in columns, as it costs least.

    A part that follows another of its instance stays behind it: it has no `turns_before`.
    """
    turns: list[Argument] = []
    turn_records: list[Argument] = []
    ends: list[Argument] = []
    end_records: list[Argument] = []
    others: list[Argument] = []
    turn_lines, end_lines, other_lines = [], [], []
    end_times: list[int] = []
    count = 0
    for part in parts:
        before, letters, operations = part.turns_before, part.letters, part.operations
        if letters == "a" and before is not None and part.record:
            turns += (part.instance_id, operations[0])
            turn_records.append(part.record)
            turn_lines.append(f"{part.incarnation} {before}\n")
        elif letters == "f" and before is not None and part.record:
            created, ended = operations
            ends += (created, part.instance_id)
            end_times.append(int(ended))
            end_records.append(part.record)
            end_lines.append(f"{part.incarnation} {before}\n")
        else:
            count += 1
            others += (part.instance_id, part.record, letters)
            others += operations
            other_lines.append(f"{part.incarnation} {'' if before is None else before}\n")
    lines = "".join((*turn_lines, *end_lines, *other_lines))
    # Many end in the same millisecond.
    ended_at = " ".join(f"{ms} {len(list(run))}" for ms, run in groupby(end_times))
    args += (len(turn_records), len(end_records), ended_at, lines, count)
    args += turns
    args += turn_records
    args += ends
    args += end_records
    args += others


def parse_committed(reply: list[bytes]) -> Committed:
    """What `commit` answered."""
    if reply[0] == b"stale":
        return Committed(stale=reply[1].decode())
    removals, *dropped = (part.decode() for part in reply[1:])
    return Committed(removals=removals, dropped=tuple(dropped))


def _parse_dispatched(reply: list[bytes]) -> Committed:
    return Committed(stale=reply[1].decode()) if reply[0] == b"stale" else Committed()


def dispatch(
    namespace: Namespace,
    partition: int,
    queue: str,
    *,
    token: str,
    instance_id: str,
    cursor: str,
    next_cursor: str,
    messages: Sequence[DispatchMessage],
) -> Call[Committed]:
    """Add the next activities of a turn larger than one commit."""
    args: list[Argument] = [token, instance_id, cursor, next_cursor]
    for message in messages:
        args += message
    keys = [
        namespace.lease(partition, queue),
        namespace.cursors(partition),
        namespace.prefix(partition),
        namespace.tasks(partition),
    ]
    return Call(scripts.DISPATCH, keys, args, _parse_dispatched)
