"""A lane: one connection, the partitions it owns, one batch in flight.

The lane is a generator that gives up control wherever it waits for Redis, so that one thread
drives several. Its life is a loop of *own* (take a fresh token for every wanted partition) and
*serve* (read a batch, run its turns, commit; the commit and the next blocking read go out in
one write). Anything odd - a refused commit, a lost connection, a changed set of partitions -
ends *serve*: what was not committed is still in the streams, and the next *own* reads it again
from the start. There is no second path.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from wfq import failpoints
from wfq.core.ports import TurnAborted
from wfq.errors import StaleLease, StorageError
from wfq.storage import instances, partitions
from wfq.storage.link import ServerReply, Wire
from wfq.storage.partitions import Committed, Held
from wfq.storage.scripts import Argument, Call
from wfq_workers.backoff import Backoff
from wfq_workers.orchestrating.batch import Batch, cut, wake_batch
from wfq_workers.orchestrating.commits import Messages
from wfq_workers.orchestrating.connection import SILENCE_S, LaneConnection, Steps, Wait
from wfq_workers.orchestrating.engine import Engine
from wfq_workers.orchestrating.partition import SOMEBODY, OwnedPartition

log = logging.getLogger("wfq.orchestrator")

#: Entries of one stream in one read: enough to share the cost, little enough to answer soon.
READ_COUNT = 64
#: Events after which a read is cut into a further commit.
COMMIT_EVENTS = 512
#: Stalled instances of a partition that are tried again between two reads.
RETRY_COUNT = 100
#: Seconds between looks of a lane that nobody wants anything of, should a wake-up be lost.
REST_S = 5.0
#: Milliseconds of one blocking read.
BLOCK_MS = 5_000
#: Seconds between looks at the streams of the memory store, which cannot block.
MEMORY_POLL_S = 0.004


class Restart(Exception):
    """The wanted partitions changed, or the lane is to stop: give up the blocked read."""


class Lane(LaneConnection):
    """Owns `wanted` partitions under one token and serves them. Driven by `steps`.

    With `home`, at most that one: a cluster takes no blocking read over several slots.
    """

    def __init__(self, engine: Engine, name: str, home: int | None = None) -> None:
        super().__init__(engine)
        self._name = name
        self._home = home
        self.backoff = Backoff(log, f"orchestrator lane {name}")
        self.token = ""
        self.owned: dict[int, OwnedPartition] = {}
        #: While a fresh token is taken: the partitions that were held under the last one.
        self._staying: dict[int, OwnedPartition] = {}
        #: What proves, by partition, what was committed under the present token. It is kept until
        #: a fresh one is taken: a failover takes several attempts.
        self._proofs: dict[int, bytes] = {}
        #: The wire whose socket the driving thread's selector watches.
        self.watched: Wire | None = None
        #: True while the lane sits in a blocked read with nothing to be told.
        self.idle = False
        self._lost = False
        self._keys: list[str] = []

    def steps(self) -> Steps:
        """Run until `stopping`; yields wherever it would wait."""
        while not self.stopping:
            try:
                yield from self._own()
                if self.owned:
                    self.backoff.clear()
                    yield from self._serve()
                else:
                    yield from self._rest()
            except Restart:
                pass
            except (StorageError, StaleLease) as exc:
                self._abandon()
                if isinstance(exc, StaleLease):
                    log.info("lane %s starts again: %s", self._name, exc)
                    yield from self._pause(0.01)
                else:
                    self.backoff.total += 1
                    delay_s = self.backoff.next_delay_s()
                    log.warning("lane %s: %s; next attempt in %.2g s", self._name, exc, delay_s)
                    yield from self._pause(delay_s)
            except TurnAborted:
                # The watchdog's exception came just as the turn came back by itself.
                self._abandon()
            except Exception:
                # A bug of ours, not a fault of Redis: say so, and read everything again.
                log.exception("lane %s failed; it starts again", self._name)
                self._abandon()
                yield from self._pause(self.backoff.next_delay_s())
        self._close_wire()

    def _rest(self) -> Steps:
        """Wait until partitions are wanted; whoever deals them wakes this thread."""
        while not self.wanted and not self.stopping:
            yield time.monotonic() + REST_S, False

    def lose(self) -> None:
        """A renewal found the token invalid: own anew at the next step."""
        self._lost = True

    def takes(self, number: int) -> bool:
        """Whether the lane may own the partition."""
        return self._home is None or self._home == number

    @property
    def changed(self) -> bool:
        """Whether the lane should leave its blocked read."""
        return self.stopping or self._lost or frozenset(self.owned) != self.wanted

    # --- own

    def _own(self) -> Steps:
        """Take a fresh token for all wanted partitions; those held elsewhere stay out."""
        self._close_wire()
        engine, previous = self._engine, self.token
        self._lost = False
        leaving = [p for p in self.owned.values() if p.number not in self.wanted]
        self._staying = {n: p for n, p in self.owned.items() if n in self.wanted}
        self._proofs.update((n, p.proof) for n, p in self._staying.items())
        # Of what is another's by now they would prove a loss that never was.
        self._proofs = {n: proof for n, proof in self._proofs.items() if n in self.wanted}
        self.owned = {}
        for partition in leaving:
            partition.forget()
        if not leaving and not self.wanted:
            self.token = ""
            return
        nearest = self._home or 0
        wire = self.wire = engine.open_wire(BLOCK_MS / 1000 + SILENCE_S, nearest)
        yield from self._calls(
            [partitions.release(engine.namespace, p.number, engine.queue, token=previous)
             for p in leaving]
        )  # fmt: skip
        token = secrets.token_urlsafe(6)
        wanted = sorted(self.wanted)
        if not wanted:
            self.token = ""
            return
        replies = yield from self._calls(
            [
                partitions.acquire(
                    engine.namespace, number, engine.queue, token=token,
                    owner=engine.worker_id, lease_ms=engine.lease_ms, present_token=previous,
                    position=self._proofs.get(number, b""),
                )
                for number in wanted
            ]
        )  # fmt: skip
        self.token, self._proofs = token, {}
        for number, reply in zip(wanted, replies, strict=True):
            partition = self._staying.pop(number, OwnedPartition(engine, number))
            if isinstance(reply, Held) or not reply.continued:
                # Another owner may have gone on with its instances since.
                partition.forget()
            if isinstance(reply, Held):
                continue
            if reply.behind:
                log.error(
                    "partition %d has lost what was committed last: its server was emptied or "
                    "rolled back; going on from what it holds (wfq doctor --deep checks it)",
                    number,
                )
            engine.clock.set(reply.now_ms)
            partition.taken(token, reply)
            self.owned[number] = partition
        # What another has just taken is no longer wanted until the ownership thread says so again.
        self.wanted -= frozenset(wanted) - frozenset(self.owned)
        self._keys = [engine.namespace.events(n, engine.queue) for n in sorted(self.owned)]
        if self.owned:
            log.debug("lane %s owns partitions %s", self._name, sorted(self.owned))
        for partition in self.owned.values():
            yield from self._recover(partition)
        assert wire is self.wire

    def _recover(self, partition: OwnedPartition) -> Steps:
        """Finish large dispatches that an earlier owner left; note its stalled instances."""
        for instance_id, cursor in partition.cursors.items():
            found = (yield from self._fetch(partition, [instance_id]))[instance_id]
            if found is None or found.queue == self._engine.queue:
                messages = partition.rest_of(instance_id, cursor, found)
                yield from self._dispatch_rest(partition, instance_id, cursor, messages)
        partition.cursors = {}
        index = self._engine.namespace.index(partition.number, "STALLED")
        stalled = yield from self._plain(("ZRANGE", index, 0, -1))
        partition.stalled = [item.decode() for item in stalled]

    def _retry_stalled(self) -> Steps:
        """Try some of the stalled instances again: this program's code may fit them.

        Where it ends the process instead, the next owner finds that somebody was named, and
        tries them one by one.
        """
        for partition in self.owned.values():
            some = partition.stalled[:RETRY_COUNT]
            if not some:
                continue
            del partition.stalled[:RETRY_COUNT]
            batch = wake_batch(partition, some)
            if partition.accused:
                yield from self._one_by_one(batch)
                yield from self._commit_now(batch.finish())
                continue
            yield from self._accuse(partition, SOMEBODY)
            yield from self._load(batch, [])
            yield from self._commit_now(batch)
            yield from self._accuse(partition, "")

    # --- serve

    def _serve(self) -> Steps:
        wire = self.wire
        assert wire is not None
        yield from self._retry_stalled()
        read = self._read_command()
        wire.send([read])
        while True:
            reply = yield from self._blocked_read(read)
            if failpoints.ACTIVE:
                failpoints.hit("orch.after_read")
            outstanding: list[tuple[Batch, Call[Committed]]] = []
            # The last commit, which goes out in one write with the next read.
            unsent: list[tuple[Argument, ...]] = []
            batches = self._batches(reply or ())
            ahead = next(batches, None)
            while ahead is not None:
                batch, ahead = ahead, next(batches, None)
                partition = batch.partition
                if partition.suspect:
                    yield from self._settle(outstanding)
                    yield from self._one_by_one(batch)
                    yield from self._commit_now(batch.finish())
                    partition.acquitted()
                    continue
                yield from self._load(batch, outstanding)
                if failpoints.ACTIVE:
                    failpoints.hit("orch.after_load")
                call = batch.run(self.token)
                if failpoints.ACTIVE:
                    failpoints.hit("orch.after_run")
                outstanding.append((batch, call))
                if ahead is None and not batch.rest:
                    unsent.append(call.command())
                    break
                wire.send([call.command()])
                if batch.rest:
                    # Before any other turn of the same instance.
                    yield from self._settle(outstanding)
            changed = self.changed
            if unsent and (changed or self._has_stalled()):
                wire.send(unsent)
                unsent = []
            if changed:
                yield from self._settle(outstanding)
                raise Restart
            if self._has_stalled():
                yield from self._settle(outstanding)
                yield from self._retry_stalled()
            read = self._read_command()
            wire.send([*unsent, read])
            yield from self._settle(outstanding)

    def _batches(self, reply: Iterable[Any]) -> Iterator[Batch]:
        """What a read has brought, in batches of one partition each."""
        engine = self._engine
        by_key = {engine.namespace.events(n, engine.queue).encode(): p
                  for n, p in self.owned.items()} if reply else {}  # fmt: skip
        for key, entries in reply:
            yield from cut(by_key[key], entries, COMMIT_EVENTS)

    def _has_stalled(self) -> bool:
        """Whether stalled instances are still to be tried again."""
        return any(partition.stalled for partition in self.owned.values())

    def _read_command(self) -> tuple[Argument, ...]:
        """A read that waits for events, unless there are stalled instances to go on with."""
        assert self.wire is not None
        busy = self.wire.memory or self._has_stalled()
        return partitions.read_command(
            self._keys, self.token, count=READ_COUNT, block_ms=None if busy else BLOCK_MS
        )

    def _blocked_read(self, read: tuple[Argument, ...]) -> Generator[Wait, None, Any]:
        wire = self.wire
        assert wire is not None
        deadline = time.monotonic() + BLOCK_MS / 1000 + SILENCE_S
        try:
            while not wire.has_reply():
                self.idle = True
                if self.changed:
                    raise Restart
                if time.monotonic() > deadline:
                    raise StaleLease("no answer to a blocking read")
                yield deadline, True
            self.idle = False
            reply = wire.receive()
            while not reply and wire.memory:
                self.idle = True
                if self.changed:
                    raise Restart
                yield time.monotonic() + MEMORY_POLL_S, False
                wire.send([read])
                reply = wire.receive()
            return reply
        except ServerReply as exc:
            # NOGROUP and UNBLOCKED: another orchestrator took a partition of this lane.
            if exc.transient:
                raise StaleLease(str(exc)) from exc
            raise
        finally:
            self.idle = False

    def _load(self, batch: Batch, outstanding: list[tuple[Batch, Call[Committed]]]) -> Steps:
        """Bring every instance of the batch into memory."""
        missing = batch.missing()
        if missing:
            # Replies come in order: those to commits before those to what is fetched now.
            yield from self._settle(outstanding)
        for first in range(0, len(missing), 100):
            stored = yield from self._fetch(batch.partition, missing[first : first + 100])
            batch.load(stored)

    def _fetch(
        self, partition: OwnedPartition, instance_ids: list[str]
    ) -> Generator[Wait, None, dict[str, instances.Stored | None]]:
        call = instances.fetch(self._engine.namespace, partition.number, instance_ids)
        (stored,) = yield from self._calls([call])
        return dict(zip(instance_ids, stored, strict=True))

    def _settle(self, outstanding: list[tuple[Batch, Call[Committed]]]) -> Steps:
        """Take the answers to the commits sent, and go on with large dispatches."""
        for batch, call in outstanding:
            try:
                reply = yield from self._reply()
            except ServerReply as exc:
                raise self._refused(exc) from exc
            if failpoints.ACTIVE:
                failpoints.hit("orch.after_commit")
            committed = call.parse(reply)
            if committed.stale:
                self._engine.counts.refused += 1
                raise StaleLease(
                    f"commit to partition {batch.partition.number} refused: {committed.stale}"
                )
            batch.committed(committed)
        # After all answers: replies come in the order in which calls were sent.
        for batch, _ in outstanding:
            for instance_id, cursor, messages in batch.rest:
                yield from self._dispatch_rest(batch.partition, instance_id, cursor, messages)
        outstanding.clear()

    def _refused(self, exc: ServerReply) -> Exception:
        """A commit that a server error refused wrote nothing, or nothing that matters."""
        if exc.missing_script:
            self._engine.forget_scripts()
            return StaleLease("the server forgot its scripts")
        return StorageError(str(exc))

    def _one_by_one(self, batch: Batch) -> Steps:
        """Run one instance at a time, named in the lease before it is even loaded."""
        partition = batch.partition
        for single in batch.singles():
            yield from self._accuse(partition, single.instance_id)
            yield from self._load(single, [])
            if failpoints.ACTIVE:
                failpoints.hit("orch.after_load")
            yield from self._commit_now(single)
            yield from self._accuse(partition, "")

    def _accuse(self, partition: OwnedPartition, name: str) -> Steps:
        """Name in the lease what may end this process; "" takes it back."""
        call = partitions.accuse(
            self._engine.namespace, partition.number, self._engine.queue,
            token=self.token, name=partition.accuse(name) if name else "",
        )  # fmt: skip
        (valid,) = yield from self._calls([call])
        if not valid:
            raise StaleLease(f"partition {partition.number} went to another orchestrator")

    def _commit_now(self, batch: Batch) -> Steps:
        call = batch.run(self.token)
        assert self.wire is not None
        self.wire.send([call.command()])
        yield from self._settle([(batch, call)])

    def _dispatch_rest(
        self,
        partition: OwnedPartition,
        instance_id: str,
        cursor: str,
        messages: Messages,
    ) -> Steps:
        nonce, _, offset = cursor.partition(" ")
        at = int(offset)
        step = partitions.DISPATCH_BATCH
        while True:
            now, messages = messages[:step], messages[step:]
            at += len(now)
            following = f"{nonce} {at}" if messages else ""
            (done,) = yield from self._calls(
                [
                    partitions.dispatch(
                        self._engine.namespace, partition.number, self._engine.queue,
                        token=self.token, instance_id=instance_id,
                        cursor=cursor, next_cursor=following, messages=now,
                    )
                ]
            )  # fmt: skip
            if done.stale:
                self._engine.counts.refused += 1
                raise StaleLease(f"dispatch of {instance_id} refused: {done.stale}")
            if not messages:
                return
            cursor = following

    def _abandon(self) -> None:
        """Forget everything in memory: Redis alone knows what became of the batch."""
        self._engine.watch.end()
        for partition in (*self.owned.values(), *self._staying.values()):
            partition.forget()
        self._staying = {}
        self._close_wire()
