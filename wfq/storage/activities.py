"""Calls of activity workers: report outcomes, renew and take over attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from wfq.storage import scripts
from wfq.storage.entries import entry_number, id_after
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Argument, Call

#: The consumer group of every activities stream.
GROUP = "activities"
#: Activities, at most, that share an entry; the same in commit.lua and dispatch.lua.
PACK = 16
#: Milliseconds for which an activity counts as short, unless that is said again.
SHORT_FOR_MS = 60_000
#: Dead letters kept in a partition; the oldest go first.
DEAD_LETTERS = 10_000


class ActivityMessage(NamedTuple):
    """One delivered attempt. `value`: the message array; `deliveries`: how often handed out."""

    partition: int
    entry_id: bytes
    instance_id: str
    value: bytes
    deliveries: int = 1


class Completed(NamedTuple):
    """A final outcome: acknowledge and queue its event.

    `task` is "task_id nonce" where an attempt left heartbeat details, or has a timeout of its
    start: both go with it.
    """

    entry_id: bytes
    orchestrator_queue: str
    instance_id: str
    event: bytes
    task: str = ""

    def args(self) -> tuple[Argument, ...]:
        item = (self.entry_id, self.instance_id, self.orchestrator_queue, self.event)
        return ("D", *item, self.task) if self.task else ("C", *item)


class Dead(NamedTuple):
    """A final outcome that also leaves a dead letter."""

    entry_id: bytes
    orchestrator_queue: str
    instance_id: str
    event: bytes
    reason: str
    message: bytes
    task_id: int
    nonce: str

    def args(self) -> tuple[Argument, ...]:
        task = f"{self.task_id} {self.nonce}"
        return (
            "X",
            self.entry_id,
            self.instance_id,
            self.orchestrator_queue,
            self.event,
            self.reason,
            self.message,
            task,
        )


class Retry(NamedTuple):
    """A failed attempt: the next one follows after `delay_ms`, while the run lives."""

    entry_id: bytes
    instance_id: str
    task_id: int
    nonce: str
    run: str
    delay_ms: int
    message: bytes

    def args(self) -> tuple[Argument, ...]:
        task = f"{self.task_id} {self.nonce}"
        return ("R", self.entry_id, self.instance_id, task, self.run, self.delay_ms, self.message)


class HandBack(NamedTuple):
    """An attempt that was not started, for another worker to take."""

    entry_id: bytes
    instance_id: str
    message: bytes

    def args(self) -> tuple[Argument, ...]:
        return ("H", self.entry_id, self.instance_id, self.message)


class Note(NamedTuple):
    """An event about an attempt that goes on (its entry stays as it is)."""

    entry_id: bytes
    orchestrator_queue: str
    instance_id: str
    event: bytes

    def args(self) -> tuple[Argument, ...]:
        return ("N", self.entry_id, self.instance_id, self.orchestrator_queue, self.event)


class PackCompleted(NamedTuple):
    """All attempts of a pack have plain final outcomes: instance id, event, instance id, ..."""

    entry_id: bytes
    orchestrator_queue: str
    events: list[str | bytes]

    def singles(self) -> list[Completed]:
        """The same one by one, in the form that counts by the entry."""
        pairs = zip(self.events[::2], self.events[1::2], strict=True)
        return [
            Completed(self.entry_id, self.orchestrator_queue, str(name), event, "-")
            for name, event in pairs
            if isinstance(event, bytes)
        ]

    def args(self) -> tuple[Argument, ...]:
        """Raises: NotImplementedError, since all of a pack goes into columns."""
        raise NotImplementedError


class Split(NamedTuple):
    """One attempt of a pack takes long: it keeps the entry, and the others' outcomes follow.

    They count only if `consumer` holds the entry, whole. `mark`: the field that stays open.
    """

    entry_id: bytes
    consumer: str
    mark: int

    def args(self) -> tuple[Argument, ...]:
        return ("S", self.entry_id, "", self.consumer, self.mark)


class Unmark(NamedTuple):
    """The attempt that kept a split entry has its outcome."""

    entry_id: bytes

    def args(self) -> tuple[Argument, ...]:
        return ("U", self.entry_id, "")


Outcome = Completed | Dead | Retry | HandBack | Note | PackCompleted | Split | Unmark


class CompleteReply(NamedTuple):
    """How many attempts were acknowledged, and how many retries were scheduled."""

    acknowledged: int
    retried: int


def read_command(
    keys: Sequence[str], consumer: str, *, count: int, block_ms: int | None
) -> tuple[Argument, ...]:
    """XREADGROUP over several partitions' streams; `block_ms` None does not wait."""
    block: tuple[Argument, ...] = () if block_ms is None else ("BLOCK", block_ms)
    return (
        "XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count, *block,
        "STREAMS", *keys, *([">"] * len(keys)),
    )  # fmt: skip


def parse_messages(reply: list[Any] | None, partitions: dict[bytes, int]) -> list[ActivityMessage]:
    """The attempts in an XREADGROUP reply; `partitions` maps stream keys to partitions."""
    messages = []
    for key, entries in reply or ():
        partition = partitions[key]
        for entry_id, fields in entries:
            if fields:
                for n in range(0, len(fields), 2):
                    name, value = fields[n].decode(), fields[n + 1]
                    messages.append(ActivityMessage(partition, entry_id, name, value))
    return messages


def complete(
    namespace: Namespace, partition: int, queue: str, outcomes: Sequence[Outcome]
) -> Call[CompleteReply]:
    """Report outcomes of one partition and activity queue in one step."""
    entries: list[bytes] = []
    events: list[Argument] = []
    others: list[Outcome] = []
    home = ""
    for outcome in outcomes:
        if isinstance(outcome, PackCompleted):
            if not home or home == outcome.orchestrator_queue:
                home = outcome.orchestrator_queue
                entries.append(outcome.entry_id)
                events += outcome.events
            else:
                others += outcome.singles()
        elif (
            isinstance(outcome, Completed)
            and not outcome.task
            and (not home or home == outcome.orchestrator_queue)
        ):
            home = outcome.orchestrator_queue
            entries.append(outcome.entry_id)
            events += (outcome.instance_id, outcome.event)
        else:
            others.append(outcome)
    above = id_after(max(entries, key=entry_number)) if entries else b""
    args: list[Argument] = [
        queue, DEAD_LETTERS, home, len(entries), len(events) // 2, above,
        *entries, *events, len(others),
    ]  # fmt: skip
    for outcome in others:
        args += outcome.args()
    keys = [
        namespace.activities(partition, queue),
        namespace.timers(partition),
        namespace.tasks(partition),
        namespace.prefix(partition),
    ]
    return Call(scripts.COMPLETE, keys, args, _parse_complete)


def _parse_complete(reply: list[int]) -> CompleteReply:
    return CompleteReply(*reply)


def renew_tasks(
    namespace: Namespace,
    partition: int,
    queue: str,
    consumer: str,
    held: Sequence[tuple[bytes, str, str]],
) -> Call[list[str]]:
    """Renew (entry id, instance id, run) attempts: a word per item, see renew_tasks.lua."""
    args: list[Argument] = [consumer]
    for item in held:
        args += item
    keys = [namespace.activities(partition, queue), namespace.prefix(partition)]
    return Call(scripts.RENEW_TASKS, keys, args, _words)


def _words(reply: list[bytes]) -> list[str]:
    return [word.decode() for word in reply]


class Claimed(NamedTuple):
    """An entry that was taken over: instance id, message, ... `mark`: of a split one, or b""."""

    entry_id: bytes
    fields: list[bytes]
    deliveries: int
    mark: bytes


def claim_tasks(
    namespace: Namespace, partition: int, queue: str, consumer: str, *, idle_ms: int, count: int
) -> Call[list[Claimed]]:
    """Take over entries that nobody renewed for `idle_ms`."""
    keys = [namespace.activities(partition, queue), namespace.tasks(partition)]
    return Call(scripts.CLAIM, keys, [consumer, idle_ms, count, queue], _parse_claimed)


def _parse_claimed(reply: list[list[Any]]) -> list[Claimed]:
    return [Claimed(*row) for row in reply]


def announce_commands(
    namespace: Namespace, queue: str, *, short: Sequence[str], long: Sequence[str], now_ms: int
) -> list[tuple[Argument, ...]]:
    """Say which activities of a queue were found to be short, and which to be long."""
    key = namespace.short(queue)
    commands: list[tuple[Argument, ...]] = []
    if short:
        commands.append(("ZADD", key, *[part for name in short for part in (now_ms, name)]))
        commands.append(("ZREMRANGEBYSCORE", key, "-inf", now_ms - 10 * SHORT_FOR_MS))
    if long:
        commands.append(("ZREM", key, *long))
    return commands


def short_command(namespace: Namespace, queue: str, now_ms: int) -> tuple[Argument, ...]:
    """Read the names of a queue's activities that were found to be short of late."""
    return ("ZRANGEBYSCORE", namespace.short(queue), now_ms - SHORT_FOR_MS, "+inf")


def mark_command(
    namespace: Namespace, partition: int, queue: str, entry_id: bytes
) -> tuple[Argument, ...]:
    """Read the mark of a split entry, or nil."""
    return ("HGET", namespace.tasks(partition), b"p %b %b" % (entry_id, queue.encode()))


def leave(
    namespace: Namespace, partition: int, queue: str, consumer: str = "", *, silent_ms: int = 0
) -> Call[int]:
    """Remove a consumer that holds nothing; without a name, all that were silent for long."""
    keys = [namespace.activities(partition, queue)]
    return Call(scripts.LEAVE, keys, [consumer, silent_ms], int)


def save_heartbeat(
    namespace: Namespace,
    partition: int,
    queue: str,
    consumer: str,
    *,
    entry_id: bytes,
    instance_id: str,
    task_id: int,
    nonce: str,
    details: bytes,
) -> Call[bool]:
    """Keep heartbeat details for the next attempt of a task; only its holder may."""
    field = f"hb {instance_id} {task_id} {nonce}"
    keys = [namespace.activities(partition, queue), namespace.tasks(partition)]
    return Call(scripts.HEARTBEAT, keys, [consumer, entry_id, field, details], bool)


def isolate(
    namespace: Namespace,
    partition: int,
    queue: str,
    consumer: str,
    *,
    entry_id: bytes,
    instance_id: str,
    task_id: int,
    nonce: str,
    deliveries: int,
    most: int,
) -> Call[int]:
    """Note that an attempt runs alone; returns such runs before this, -1 if it is not ours."""
    field = f"x {instance_id} {task_id} {nonce}"
    keys = [namespace.activities(partition, queue), namespace.tasks(partition)]
    return Call(scripts.ISOLATE, keys, [consumer, entry_id, field, deliveries, most], int)


def read_heartbeat_command(
    namespace: Namespace, partition: int, instance_id: str, task_id: int, nonce: str
) -> tuple[Argument, ...]:
    """Read the heartbeat details an earlier attempt of a task left, or nil."""
    return ("HGET", namespace.tasks(partition), f"hb {instance_id} {task_id} {nonce}")


def ensure_group_command(stream: str) -> tuple[Argument, ...]:
    """Create the consumer group of a partition's stream; BUSYGROUP means it is there.

    From id 0: entries that came before the group are work to do.
    """
    return ("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
