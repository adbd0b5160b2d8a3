"""Dead letters of listeners: messages that could not be delivered, and why.

They are kept in the ``dead`` stream of the partition of the instance they named, or, where they
named none, of the partition that the source's name falls into; so they are spread, and a lone bad
sender stays in one place. Fields::

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

from dataclasses import dataclass

from wfq.rules import ListenerRule
from wfq.storage.activities import DEAD_LETTERS
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Argument

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
