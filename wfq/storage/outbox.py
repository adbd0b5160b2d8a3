"""Messages between partitions: what a commit leaves in the outbox, and its delivery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from wfq.storage import scripts
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Argument, Call

#: Messages forwarded by one call.
BATCH = 100


@dataclass(frozen=True, slots=True)
class Message:
    """One outbox entry: `kind` "E" (an event) or "C" (start a child), and its values.

    An event's values: target id, incarnation or "", form ("E" external, "L" lifecycle,
    "T" a task's outcome), event text. A child's: id, incarnation, name, queue, birth text
    behind its time, parent id, outcome event for the parent if the id is taken, parent
    incarnation, and "1" if the id may replace an instance that has ended (else absent). One
    without a parent has "" for parent id, outcome event and parent incarnation.
    """

    kind: str
    values: list[str]

    @property
    def target(self) -> str:
        return self.values[0]

    def encode(self) -> bytes:
        return orjson.dumps([self.kind, *self.values])

    @classmethod
    def decode(cls, document: bytes) -> Message:
        kind, *values = orjson.loads(document)
        return cls(kind, values)


def outcome_pieces(parent: Sequence[Any], event: bytes) -> tuple[bytes, ...]:
    """The message that tells a parent an outcome, split around its incarnation and its nonce.

    parent, event: as the child knows them; the commit knows whether these two are still right.
    """
    parent_id, parent_inc, _, nonce = parent
    message = Message("E", [parent_id, parent_inc, "T", event.decode()]).encode()
    head = Message("E", [parent_id, parent_inc, "T", event[: event.index(b',"') + 2].decode()])
    # Without the end of the text and of the list.
    before = head.encode()[:-2]
    after = message[len(before) + len(nonce) :]
    # Without the end of the list; neither value has letters that JSON writes in another way.
    first = len(orjson.dumps(["E", parent_id])) - 1 + len(',"')
    return (
        before[:first], parent_inc.encode(), before[first + len(parent_inc) :],
        nonce.encode(), after,
    )  # fmt: skip


def detached_start(
    instance_id: str, incarnation: str, name: str, queue: str, birth_tail: str
) -> Message:
    """Start an instance that has no parent, as a client would; a taken id is left alone."""
    return Message("C", [instance_id, incarnation, name, queue, birth_tail, "", "", ""])


def read_command(
    namespace: Namespace, partition: int, *, after: bytes = b"", count: int = BATCH
) -> tuple[Argument, ...]:
    """Read the oldest messages of a partition's outbox, behind an entry if one is given."""
    start = b"(" + after if after else b"-"
    return ("XRANGE", namespace.outbox(partition), start, "+", "COUNT", count)


def parse_messages(reply: list[Any]) -> list[tuple[bytes, Message]]:
    """Outbox id and message, oldest first."""
    # redis-py's own commands make a dict of an entry; a wire gives it as it came.
    return [
        (entry_id, Message.decode(fields[b"m"] if isinstance(fields, dict) else fields[1]))
        for entry_id, fields in reply
    ]


@dataclass(frozen=True, slots=True)
class Kin:
    """What an instance of the same parent is to a child that was to be started under its id.

    what, value: those documented in deliver.lua. incarnation: of the instance.
    """

    what: str
    incarnation: str
    value: bytes = b""


NOT_LOOKED_AT = Kin("", "")


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of messages: a word for each (see deliver.lua).

    seen: the outbox id of the source that the receiver had applied last, before.
    """

    words: list[str]
    seen: bytes


def deliver(
    namespace: Namespace,
    source: int,
    target: int,
    messages: Sequence[tuple[bytes, Message]],
    kin: Mapping[bytes, Kin] | None = None,
) -> Call[Delivered]:
    """Apply messages to their partition, each once.

    `kin`, by outbox id: what was found of those that an earlier call has answered "kin".
    """
    args: list[Argument] = [source, len(messages)]
    for entry_id, message in messages:
        ms, _, seq = entry_id.partition(b"-")
        args += (ms, seq, message.kind, *_operands(message))
        if message.kind == "C":
            found = (kin or {}).get(entry_id, NOT_LOOKED_AT)
            args += (found.what, found.incarnation, found.value)
    keys = [namespace.inbox_from(target), namespace.prefix(target)]
    return Call(scripts.DELIVER, keys, args, _parse_delivered)


def _operands(message: Message) -> list[Argument]:
    if message.kind == "E":
        return list(message.values)
    *child, parent_id, taken_event, parent_inc = message.values[:8]
    # Without a parent there is nobody to tell that the id is taken.
    taken = Message("E", [parent_id, parent_inc, "T", taken_event]).encode() if parent_id else b""
    return [*child, parent_id, parent_inc, taken, "".join(message.values[8:])]


def trim_command(
    namespace: Namespace, partition: int, entry_ids: Sequence[bytes]
) -> tuple[Argument, ...]:
    """Remove forwarded messages."""
    return ("XDEL", namespace.outbox(partition), *entry_ids)


def _parse_delivered(reply: list[bytes]) -> Delivered:
    *words, seen = reply
    return Delivered([word.decode() for word in words], seen)


def order_of(entry_id: bytes) -> tuple[int, int]:
    """What outbox ids are compared by."""
    ms, _, seq = entry_id.partition(b"-")
    return int(ms), int(seq)


def reissue(namespace: Namespace, partition: int, seen: bytes) -> Call[bool]:
    """Give a partition's messages new ids above `seen`, if it never gave one so high.

    Returns whether they have new ids.
    """
    keys = [namespace.outbox(partition), namespace.prefix(partition)]
    return Call(scripts.REISSUE, keys, [seen], bool)
