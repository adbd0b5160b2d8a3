"""The call that creates an instance with a history that it did not live through itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from wfq.storage import scripts
from wfq.storage.instances import StartReply
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Argument, Call


@dataclass(slots=True)
class Revival:
    """What `rerun` writes; records, events and messages are encoded.

    `replaces` is the incarnation of an ended instance that makes way, "" when there must be
    none. `begin` queues the start event: the first turn is to come.
    """

    instance_id: str
    incarnation: str
    queue: str
    birth_tail: bytes
    replaces: str = ""
    begin: bool = False
    fields: dict[str, str | bytes] = field(default_factory=dict)
    records: list[bytes] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    #: (activity queue, message, "task_id nonce" where it has a schedule-to-start timeout or "")
    activities: list[tuple[str, bytes, str]] = field(default_factory=list)
    #: (due epoch ms, member)
    timers: list[tuple[int, str]] = field(default_factory=list)
    #: Outbox messages.
    messages: list[bytes] = field(default_factory=list)


def rerun(namespace: Namespace, revival: Revival) -> Call[StartReply]:
    """Create the instance: "started", or "exists" where the id is not free."""
    args: list[Argument] = [
        revival.instance_id,
        revival.incarnation,
        revival.replaces,
        revival.queue,
        revival.birth_tail,
        "1" if revival.begin else "0",
        len(revival.fields),
    ]
    for name, value in revival.fields.items():
        args += (name, value)
    args += (len(revival.records), *revival.records)
    args += (len(revival.events), *revival.events)
    args.append(len(revival.activities))
    for activity in revival.activities:
        args += activity
    args.append(len(revival.timers))
    for due_ms, member in revival.timers:
        args += (due_ms, member)
    args += (len(revival.messages), *revival.messages)
    prefix = namespace.prefix(namespace.partition_of(revival.instance_id))
    return Call(scripts.RERUN, [prefix], args, _parse)


def _parse(reply: list[bytes]) -> StartReply:
    return StartReply(*(part.decode() for part in reply))
