"""Dead letters: what could not be delivered, and why; kept until somebody looks at it.

Activities leave theirs by the script that fails their task. Those of listeners are kept in the
``dead`` stream of the partition of the instance they named, or, where they named none, of the
partition that the source's name falls into; so they are spread, and a lone bad sender stays in one
place. Their fields::

    kind      "listener"
    source    "channel approvals"
    id        the instance that was named, or ""
    queue     the application of a workflow to start, or ""
    reason    one line
    rule      the rule as JSON, or "" where none fitted
    delivery  what identifies the message ("<stream>-<entry id>", ...), or ""
    message   the message as it came; cut at `MAX_MESSAGE` bytes, and then
    cut       the bytes that it had
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from wfq.errors import WfqError
from wfq.rules import ListenerRule
from wfq.storage.activities import DEAD_LETTERS
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.scripts import Argument
from wfq_workers.listening.intents import CompiledRule, Doer, Raise, identified
from wfq_workers.listening.messages import Rejected, decode

#: Bytes of a message that are kept.
MAX_MESSAGE = 256 * 1024


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that could not be delivered under one rule (or under any: `rule` None)."""

    source: str
    reason: str
    message: bytes
    rule: ListenerRule | None = None
    instance_id: str = ""
    delivery_id: str = ""

    def command(self, namespace: Namespace) -> tuple[Argument, ...]:
        """The command that keeps it."""
        partition = namespace.partition_of(self.instance_id or self.source)
        rule = self.rule.model_dump_json(exclude_defaults=True) if self.rule else ""
        fields: list[Argument] = ["kind", "listener", "source", self.source]
        fields += ["id", self.instance_id, "queue", (self.rule and self.rule.app_id) or ""]
        fields += ["reason", self.reason, "rule", rule, "delivery", self.delivery_id]
        fields += ["message", self.message[:MAX_MESSAGE]]
        if len(self.message) > MAX_MESSAGE:
            fields += ["cut", len(self.message)]
        return ("XADD", namespace.dead(partition), "MAXLEN", "~", DEAD_LETTERS, "*", *fields)


@dataclass(frozen=True, slots=True)
class Kept:
    """A dead letter as it is stored. `address` names it: partition and entry id."""

    address: str
    fields: dict[str, bytes]

    @property
    def at(self) -> datetime:
        """When it was kept."""
        milliseconds = self.address.partition(":")[2].partition("-")[0]
        return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)

    def text(self, name: str) -> str:
        """A field as text, "" where it is missing."""
        return self.fields.get(name, b"").decode("utf-8", "replace")


def list_letters(link: SyncLink, namespace: Namespace) -> list[Kept]:
    """Return all dead letters of a namespace, oldest first. Raises: StorageError."""
    found = []
    for partition in range(namespace.partitions):
        entries = link.command("XRANGE", namespace.dead(partition), "-", "+")
        for entry_id, fields in entries:
            named = {name.decode("utf-8", "replace"): value for name, value in fields.items()}
            found.append(Kept(f"{partition}:{entry_id.decode()}", named))
    return sorted(found, key=lambda letter: letter.at)


def drop_letter(link: SyncLink, namespace: Namespace, address: str) -> bool:
    """Remove a dead letter; False when there is none of that address. Raises: StorageError."""
    partition, _, entry_id = address.partition(":")
    if not partition.isdecimal() or int(partition) >= namespace.partitions:
        return False
    return bool(link.command("XDEL", namespace.dead(int(partition)), entry_id))


def send_again(letter: Kept, doer: Doer, rules: Sequence[ListenerRule], *, limit: int) -> None:
    """Do what a listener's dead letter asked for, under its rule, or those of its source.

    Safe to repeat. Raises: WfqError with the reason why it cannot be done.
    """
    if letter.text("kind") != "listener":
        raise WfqError("only messages of listeners can be sent again; 'wfq rerun' runs a workflow")
    if "cut" in letter.fields:
        raise WfqError(f"the message of {letter.text('cut')} bytes was cut; it is not all there")
    own = letter.text("rule")
    chosen = [ListenerRule.model_validate_json(own)] if own else list(rules)
    chosen = [rule for rule in chosen if rule.source == letter.text("source")]
    if not chosen:
        raise WfqError(f"there is no rule for {letter.text('source')}; add one to wfq.toml")
    delivery_id = letter.text("delivery") or f"dead-{letter.address}"
    try:
        message = decode(letter.fields.get("message", b""), limit=limit)
        intents = [
            CompiledRule(rule, number).apply(message, delivery_id)
            for number, rule in enumerate(chosen)
        ]
    except Rejected as exc:
        raise WfqError(str(exc)) from exc
    for intent in map(identified, intents):
        if isinstance(intent, Raise):
            doer.raise_event(intent)
        else:
            doer.start(intent)
