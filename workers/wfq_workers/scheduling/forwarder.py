"""Carries messages between partitions: what commits have left in the outboxes.

Any number of forwarders may run at once: the receiving partition applies each message once and
in order. Reading, delivering and removing go over one connection, without another attempt: a
server that came back without its last second has broken it, so nothing is removed that was
delivered to a state which is gone, and nothing is delivered that such a state had decided.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from wfq import failpoints
from wfq.storage import outbox
from wfq.storage.keys import Namespace
from wfq.storage.link import Wire

log = logging.getLogger("wfq.scheduler")

#: Seconds after which an answer is given up.
TIMEOUT_S = 10.0


class Forwarder:
    """Forwards the outboxes of a namespace. Belongs to one thread."""

    def __init__(self, url: str, namespace: Namespace) -> None:
        self._url = url
        self._namespace = namespace
        self._wire: Wire | None = None

    def forward(self, sources: Sequence[int]) -> None:
        """Empty the outboxes of some partitions. Raises: StorageError."""
        try:
            wire = self._wire = self._wire or Wire(self._url, timeout_s=TIMEOUT_S)
            wire.send([("XLEN", self._namespace.outbox(source)) for source in sources])
            lengths = [wire.receive() for _ in sources]
            for source, length in zip(sources, lengths, strict=True):
                while length:
                    length = self._forward_some(wire, source)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _forward_some(self, wire: Wire, source: int) -> int:
        """Deliver a partition's oldest messages, in order; returns how many there were."""
        namespace = self._namespace
        wire.send([outbox.read_command(namespace, source)])
        messages = outbox.parse_messages(wire.receive())
        by_target: dict[int, list[tuple[bytes, outbox.Message]]] = {}
        for entry_id, message in messages:
            target = namespace.partition_of(message.target)
            by_target.setdefault(target, []).append((entry_id, message))
        for target, some in by_target.items():
            words = wire.call(outbox.deliver(namespace, source, target, some))
            if failpoints.ACTIVE:
                failpoints.hit("sched.after_deliver")
            for (_, message), word in zip(some, words, strict=True):
                if word in ("unknown", "finished"):
                    log.info("message for instance %s was dropped: %s", message.target, word)
            wire.send([outbox.trim_command(namespace, source, [entry for entry, _ in some])])
            wire.receive()
        return len(messages)
