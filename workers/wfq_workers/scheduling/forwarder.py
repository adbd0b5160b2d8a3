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
from wfq.errors import StorageError
from wfq.storage import instances, outbox
from wfq.storage.adoption import kin_of
from wfq.storage.keys import Namespace
from wfq.storage.link import Wire, timeout_of
from wfq.storage.slots import server_of
from wfq.urls import is_cluster

log = logging.getLogger("wfq.scheduler")

#: Outbox ids and messages, oldest first.
Letters = list[tuple[bytes, outbox.Message]]


class Forwarder:
    """Forwards the outboxes of a namespace. Belongs to one thread."""

    def __init__(self, url: str, namespace: Namespace) -> None:
        self._url = url
        self._namespace = namespace
        #: Connections, by the server that a partition is on.
        self._wires: dict[str, Wire] = {}

    def forward(self, sources: Sequence[int]) -> None:
        """Empty the outboxes of some partitions. Raises: StorageError.

        On a cluster, a node that is away holds up only what comes from there or goes there.
        """
        failure: StorageError | None = None
        for source in sources if is_cluster(self._url) else ():
            try:
                self._forward_all([source])
            except StorageError as exc:
                failure = exc
        if failure is not None:
            raise failure
        if not is_cluster(self._url):
            self._forward_all(sources)

    def close(self) -> None:
        """Close the connections; the next call opens others."""
        wires, self._wires = self._wires, {}
        for wire in wires.values():
            wire.close()

    def _forward_all(self, sources: Sequence[int]) -> None:
        if not sources:
            return
        try:
            wire = self._wire(sources[0])
            wire.send([("XLEN", self._namespace.outbox(source)) for source in sources])
            lengths = [wire.receive() for _ in sources]
            for source, length in zip(sources, lengths, strict=True):
                while length:
                    length = self._forward_some(wire, source)
        except BaseException:
            self.close()
            raise

    def _wire(self, partition: int) -> Wire:
        """The connection to where a partition is."""
        key = self._namespace.outbox(partition)
        server = server_of(self._url, key)
        wire = self._wires.get(server)
        if wire is None:
            wire = self._wires[server] = Wire(self._url, timeout_s=timeout_of(self._url), key=key)
        return wire

    def _forward_some(self, wire: Wire, source: int) -> int:
        """Deliver a partition's oldest messages, in order; returns how many there were."""
        namespace = self._namespace
        wire.send([outbox.read_command(namespace, source)])
        messages = outbox.parse_messages(wire.receive())
        by_target: dict[int, Letters] = {}
        for entry_id, message in messages:
            target = namespace.partition_of(message.target)
            by_target.setdefault(target, []).append((entry_id, message))
        failure: StorageError | None = None
        for target, some in by_target.items():
            try:
                self._deliver(wire, source, target, some)
            except StorageError as exc:
                # Of a cluster, another node may still take its own.
                if not is_cluster(self._url):
                    raise
                failure = exc
        if failure is not None:
            raise failure
        return len(messages)

    def _deliver(self, wire: Wire, source: int, target: int, some: Letters) -> None:
        namespace = self._namespace
        kin: dict[bytes, outbox.Kin] = {}
        while some:
            if failpoints.ACTIVE:
                failpoints.hit("sched.before_deliver")
            words = self._wire(target).call(outbox.deliver(namespace, source, target, some, kin))
            if failpoints.ACTIVE:
                failpoints.hit("sched.after_deliver")
            done = words.index("kin") if "kin" in words else len(words)
            if done:
                _tell(some[:done], words[:done])
                entry_ids = [entry_id for entry_id, _ in some[:done]]
                wire.send([outbox.trim_command(namespace, source, entry_ids)])
                wire.receive()
                if failpoints.ACTIVE:
                    failpoints.hit("sched.after_trim")
            some = some[done:]
            for entry_id, message in some[:1]:
                fetch = instances.fetch(namespace, target, [message.target])
                (stored,) = self._wire(target).call(fetch)
                kin[entry_id] = kin_of(message, stored) if stored else outbox.NOT_LOOKED_AT


def _tell(some: Letters, words: Sequence[str]) -> None:
    """Log what was not simply applied."""
    for (_, message), word in zip(some, words, strict=True):
        if word in ("unknown", "finished"):
            what = f"message for instance {message.target} was dropped: {word}"
            log.info(what, extra={"instance_id": message.target})
        elif word == "adopted":
            log.warning(
                "child %s was started before, in a time that its parent's server has lost; "
                "it is the same child",
                message.target,
                extra={"instance_id": message.target},
            )
