"""Carries messages between partitions: what commits have left in the outboxes.

Any number of forwarders may run at once: the receiving partition applies each message once and
in order. Reading and removing go over one connection, without another attempt: a server that
came back without its last second has broken it, so nothing is removed that was delivered to a
state which is gone.

On a cluster, a node that is away holds up only what comes from there or goes there. What goes
there is held: the rest of its outbox passes by. A receiver takes nothing below what it has
applied, so what is held for it goes first when it is back, from the oldest on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from wfq import failpoints
from wfq.errors import StorageError
from wfq.storage import instances, outbox
from wfq.storage.adoption import kin_of
from wfq.storage.keys import Namespace
from wfq.storage.link import ServerReply, Wire, timeout_of
from wfq.storage.scripts import Call
from wfq.storage.slots import server_of
from wfq.urls import is_cluster
from wfq_workers.backoff import Backoff

log = logging.getLogger("wfq.scheduler")

T = TypeVar("T")

#: Outbox ids and messages, oldest first.
Letters = list[tuple[bytes, outbox.Message]]
#: Who could not be reached is left alone for so many times the seconds that trying has cost:
#: most of the time is for those that can be.
_REST = 2.0


class _Unreached(Exception):
    """The receiver of messages cannot take them now."""


@dataclass(slots=True)
class _Walk:
    """How far an outbox was gone through, over one connection: ids mean nothing over another.

    after: nothing up to this entry is left but for held targets. newest: the highest id that the
    outbox is known to have given. before: the walk that this one repeats, for what was held.
    """

    wire: Wire
    after: bytes = b""
    newest: tuple[int, int] = (0, 0)
    held: set[int] = field(default_factory=set)
    before: _Walk | None = None

    def advance(self, last: bytes) -> None:
        """Everything up to an entry was looked at."""
        self.after = last
        old = self.before
        if old is not None and self.held >= old.held:
            # Nobody is back: what lies between was looked at the last time.
            self.after = max(last, old.after, key=outbox.order_of)
            self.before = None


class Forwarder:
    """Forwards the outboxes of a namespace. Belongs to one thread."""

    def __init__(self, url: str, namespace: Namespace) -> None:
        self._url = url
        self._namespace = namespace
        self._is_cluster = is_cluster(url)
        #: Connections, by the server that a partition is on.
        self._wires: dict[str, Wire] = {}
        #: The walks that hold something, by source.
        self._walks: dict[int, _Walk] = {}
        #: Servers and partitions that could not be reached, and when to try again (monotonic).
        self._away: dict[str, tuple[float, Backoff]] = {}

    def forward(self, sources: Sequence[int]) -> dict[int, float]:
        """Empty the outboxes of some partitions. Raises: StorageError, but not on a cluster.

        Returns the sources from which not everything could be carried, with the seconds until
        it may be tried again; of a cluster only.
        """
        try:
            if self._is_cluster:
                waits = {source: self._forward_from(source) for source in sources}
                return {source: wait_s for source, wait_s in waits.items() if wait_s}
            if sources:
                wire = self._wire(sources[0])
                wire.send([("XLEN", self._namespace.outbox(source)) for source in sources])
                lengths = [wire.receive() for _ in sources]
                for source, length in zip(sources, lengths, strict=True):
                    if length:
                        self._walk(wire, source)
            return {}
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections; the next call opens others."""
        wires, self._wires = self._wires, {}
        self._walks.clear()
        for wire in wires.values():
            wire.close()

    # --- who can be reached

    def _server(self, partition: int) -> str:
        return server_of(self._url, self._namespace.outbox(partition))

    def _wire(self, partition: int) -> Wire:
        """The connection to where a partition is."""
        server = self._server(partition)
        wire = self._wires.get(server)
        if wire is None:
            key = self._namespace.outbox(partition)
            wire = self._wires[server] = Wire(self._url, timeout_s=timeout_of(self._url), key=key)
        return wire

    def _names(self, partition: int) -> list[str]:
        """What a partition may be away by: itself, and its server."""
        try:
            return [f"partition {partition}", self._server(partition)]
        except StorageError:
            return [f"partition {partition}"]

    def _rest_s(self, partition: int) -> float:
        """Seconds for which a partition is not to be tried; 0 if it may be."""
        if not self._away:
            return 0.0
        until = [self._away[name][0] for name in self._names(partition) if name in self._away]
        return max(0.0, max(until, default=0.0) - time.monotonic())

    def _note_away(self, names: list[str], error: StorageError, began: float) -> float:
        """Leave a partition, or all of its server, alone for a while; returns the seconds.

        names: those that the partition had when it was tried; it may have moved since.
        """
        # A server that answers may still serve its other partitions.
        name = names[0] if isinstance(error, ServerReply) else names[-1]
        wire = self._wires.pop(name, None)
        if wire is not None:
            wire.close()
        now = time.monotonic()
        _, backoff = self._away.get(name, (0.0, Backoff(log, f"forwarder to {name}")))
        rest_s = backoff.note(error) + _REST * (now - began)
        self._away[name] = now + rest_s, backoff
        return rest_s

    def _note_back(self, names: list[str]) -> None:
        for name in names if self._away else ():
            _, backoff = self._away.pop(name, (0.0, None))
            if backoff is not None:
                backoff.clear()

    # --- one outbox

    def _forward_from(self, source: int) -> float:
        """Carry what can be carried; seconds until the rest is to be tried, 0 for no rest."""
        rest_s = self._rest_s(source)
        if rest_s:
            return rest_s
        names, began = self._names(source), time.monotonic()
        try:
            held = self._walk(self._wire(source), source)
        except StorageError as exc:
            return self._note_away(names, exc, began)
        self._note_back(names)
        return max(min(map(self._rest_s, held)), 0.001) if held else 0.0

    def _walk(self, wire: Wire, source: int) -> set[int]:
        """Go through an outbox, oldest first; returns the targets for which something is held."""
        walk = self._walks.pop(source, None)
        if walk is None or walk.wire is not wire:
            walk = _Walk(wire)
        elif not all(map(self._rest_s, walk.held)):
            # In its order: what is held for one that may be back, before what came later.
            walk = _Walk(wire, newest=walk.newest, before=walk)
        while True:
            wire.send([outbox.read_command(self._namespace, source, after=walk.after)])
            messages = outbox.parse_messages(wire.receive())
            if not messages:
                break
            last = messages[-1][0]
            walk.newest = max(walk.newest, outbox.order_of(last))
            if self._carry(walk, source, messages):
                walk.advance(last)
            else:
                walk = _Walk(wire)
        if walk.held:
            walk.before = None
            self._walks[source] = walk
        return walk.held

    def _carry(self, walk: _Walk, source: int, messages: Letters) -> bool:
        """Deliver messages to those that can be reached; False when the outbox has other ids."""
        by_target: dict[int, Letters] = {}
        for entry_id, message in messages:
            target = self._namespace.partition_of(message.target)
            by_target.setdefault(target, []).append((entry_id, message))
        for target, some in by_target.items():
            if target in walk.held:
                continue
            if self._rest_s(target):
                walk.held.add(target)
                continue
            try:
                if not self._deliver(walk, source, target, some):
                    return False
            except _Unreached:
                walk.held.add(target)
        return True

    def _deliver(self, walk: _Walk, source: int, target: int, some: Letters) -> bool:
        namespace, wire = self._namespace, walk.wire
        kin: dict[bytes, outbox.Kin] = {}
        while some:
            if failpoints.ACTIVE:
                failpoints.hit("sched.before_deliver")
            found = self._ask(wire, target, outbox.deliver(namespace, source, target, some, kin))
            if failpoints.ACTIVE:
                failpoints.hit("sched.after_deliver")
            words = found.words
            if "skipped" in words and self._has_gone_back(walk, source, found.seen):
                return False
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
                (stored,) = self._ask(wire, target, fetch)
                kin[entry_id] = kin_of(message, stored) if stored else outbox.NOT_LOOKED_AT
        return True

    def _ask(self, source: Wire, target: int, call: Call[T]) -> T:
        """Run a call at the receiver. Raises: _Unreached; StorageError if it is the source, too."""
        names, began = self._names(target), time.monotonic()
        wire = None
        try:
            wire = self._wire(target)
            answer = wire.call(call)
        except StorageError as exc:
            if not self._is_cluster or (wire is source and not isinstance(exc, ServerReply)):
                raise
            self._note_away(names, exc, began)
            raise _Unreached from exc
        self._note_back(names)
        return answer

    def _has_gone_back(self, walk: _Walk, source: int, seen: bytes) -> bool:
        """Whether a receiver has seen what the source, as it is now, has never sent.

        Its server has lost that, and its clock is so far behind that the ids come again. What
        is there has other ids then, which nobody has seen.
        """
        if outbox.order_of(seen) <= walk.newest:
            return False
        if walk.wire.call(outbox.reissue(self._namespace, source, seen)):
            log.warning(
                "the server of partition %d has lost messages, and its clock is behind: what it "
                "sends is numbered anew",
                source,
            )
            return True
        # Another forwarder has been faster.
        walk.newest = outbox.order_of(seen)
        return False


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
