"""Calls of activity workers: report outcomes, renew and take over attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wfq.storage import scripts
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Argument, Call

#: The consumer group of every activities stream.
GROUP = "activities"
#: Dead letters kept in a partition; the oldest go first.
DEAD_LETTERS = 10_000


@dataclass(frozen=True, slots=True)
class ActivityMessage:
    """One delivered attempt. `value`: the message array; `deliveries`: how often handed out."""

    partition: int
    entry_id: bytes
    instance_id: str
    value: bytes
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class Completed:
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


@dataclass(frozen=True, slots=True)
class Dead:
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


@dataclass(frozen=True, slots=True)
class Retry:
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


@dataclass(frozen=True, slots=True)
class HandBack:
    """An attempt that was not started, for another worker to take."""

    entry_id: bytes
    instance_id: str
    message: bytes

    def args(self) -> tuple[Argument, ...]:
        return ("H", self.entry_id, self.instance_id, self.message)


@dataclass(frozen=True, slots=True)
class Note:
    """An event about an attempt that goes on (its entry stays as it is)."""

    entry_id: bytes
    orchestrator_queue: str
    instance_id: str
    event: bytes

    def args(self) -> tuple[Argument, ...]:
        return ("N", self.entry_id, self.instance_id, self.orchestrator_queue, self.event)


Outcome = Completed | Dead | Retry | HandBack | Note


@dataclass(frozen=True, slots=True)
class CompleteReply:
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
                messages.append(ActivityMessage(partition, entry_id, fields[0].decode(), fields[1]))
    return messages


def complete(
    namespace: Namespace, partition: int, queue: str, outcomes: Sequence[Outcome]
) -> Call[CompleteReply]:
    """Report outcomes of one partition and activity queue in one step."""
    entries: list[Argument] = []
    events: list[Argument] = []
    others: list[Outcome] = []
    home = ""
    for outcome in outcomes:
        if (
            type(outcome) is Completed
            and not outcome.task
            and home in ("", outcome.orchestrator_queue)
        ):
            home = outcome.orchestrator_queue
            entries.append(outcome.entry_id)
            events += (outcome.instance_id, outcome.event)
        else:
            others.append(outcome)
    args: list[Argument] = [queue, DEAD_LETTERS, home, len(entries), *entries, *events, len(others)]
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


def claim_tasks(
    namespace: Namespace, partition: int, queue: str, consumer: str, *, idle_ms: int, count: int
) -> Call[list[ActivityMessage]]:
    """Take over attempts that nobody renewed for `idle_ms`."""

    def parse(reply: list[list[Any]]) -> list[ActivityMessage]:
        return [
            ActivityMessage(partition, entry_id, instance_id.decode(), value, deliveries)
            for entry_id, instance_id, value, deliveries in reply
        ]

    keys = [namespace.activities(partition, queue), namespace.tasks(partition)]
    return Call(scripts.CLAIM, keys, [consumer, idle_ms, count], parse)


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
