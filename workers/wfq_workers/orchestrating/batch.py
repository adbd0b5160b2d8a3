"""Whole entries of one partition's events stream: from what was read to one commit."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from typing import Any

from orjson import loads

from wfq.core.events import (
    B_EXTRA,
    B_GEN,
    BIRTH,
    LIFECYCLE,
    RESUME,
    STARTED,
    T_EXTRA,
    Event,
    Failure,
    Record,
)
from wfq.core.ports import TurnAborted
from wfq.core.turn import CONTINUED, FAILED, FINAL, Turn
from wfq.errors import StaleLease, TurnTooLarge
from wfq.storage import partitions
from wfq.storage.instances import Stored
from wfq.storage.partitions import Committed, InstanceCommit
from wfq.storage.scripts import Call
from wfq.storage.timers import wake_member
from wfq_workers.backoff import one_line, told
from wfq_workers.orchestrating.commits import Messages, created_ms
from wfq_workers.orchestrating.engine import GROWTH, Cached
from wfq_workers.orchestrating.inline_turns import InlineTurns
from wfq_workers.orchestrating.partition import (
    ABORTED,
    ABORTED_RETRY_MS,
    KILLER,
    OwnedPartition,
    entry_number,
)

log = logging.getLogger("wfq.orchestrator")

#: The tasks that a turn has run itself, in a program without inline activities.
_NONE: Collection[int] = ()


def cut(partition: OwnedPartition, entries: list[Any], most_events: int) -> Iterator[Batch]:
    """Cut the entries of one read into batches of whole entries."""
    batch, count = Batch(partition), 0
    for entry_id, fields in entries:
        batch.take(entry_id, fields)
        count += len(fields) // 2
        if count >= most_events:
            yield batch
            batch, count = Batch(partition), 0
    if batch.last_entry is not None:
        yield batch


def wake_batch(partition: OwnedPartition, instance_ids: list[str]) -> Batch:
    """A batch that only tries stalled instances again; it consumes no entry."""
    batch = Batch(partition)
    for instance_id in instance_ids:
        # One set aside has events that are still to be recorded without its code: to try it
        # here would run it for them after all, and so for ever.
        if not partition.is_set_aside(instance_id):
            batch.works[instance_id] = []
    return batch


class Batch:
    """Whole entries of one partition: the unit of a commit."""

    __slots__ = (
        "_ended",
        "_entries",
        "_failed",
        "_late",
        "_loaded",
        "_news",
        "_started",
        "_stays",
        "_traced",
        "instance_id",
        "last_entry",
        "partition",
        "rest",
        "works",
    )

    def __init__(self, partition: OwnedPartition) -> None:
        self.partition = partition
        #: Events by instance, in the order of the stream.
        self.works: dict[str, list[Event]] = {}
        self.last_entry: bytes | None = None
        self.instance_id = ""
        #: Dispatches to go on with after the commit: instance id, cursor, messages.
        self.rest: list[tuple[str, str, Messages]] = []
        self._entries: list[tuple[bytes, list[bytes]]] = []
        #: Instances whose first event is a start that nobody can have consumed before.
        self._news: set[str] = set()
        #: Whether the entries stay in the stream, for a later commit to take them out.
        self._stays = False
        self._loaded: dict[str, Cached] = {}
        #: Parts without a record, which only the commit that takes the entries out may carry:
        #: nothing would tell the next owner that they were written.
        self._late: list[InstanceCommit] = []
        #: Workflows of the instances that this commit begins, and what it ends: name, status,
        #: seconds since the start. Counted once the commit is taken.
        self._started: list[str] = []
        self._ended: list[tuple[str, str, float]] = []
        self._failed: list[tuple[str, Failure]] = []
        #: What this commit ends, for traces; empty where nobody traces.
        self._traced: list[tuple[Cached, Turn]] = []

    def take(self, entry_id: bytes, fields: list[bytes]) -> None:
        """Add one stream entry: pairs of instance id and event."""
        self.last_entry = entry_id
        self._entries.append((entry_id, fields))
        works = self.works
        is_new = entry_number(entry_id) > self.partition.known_until
        for n in range(0, len(fields), 2):
            instance_id = fields[n].decode()
            event = loads(fields[n + 1])
            if instance_id in works:
                works[instance_id].append(event)
            else:
                works[instance_id] = [event]
                # A later generation may have consumed events before its start.
                if is_new and event[0] == STARTED and len(event) == 3 and not event[2][B_GEN]:
                    self._news.add(instance_id)

    def _place(self, instance_id: str, index: int) -> tuple[bytes, int]:
        """Entry id and field of the instance's event number `index` in this batch."""
        name = instance_id.encode()
        for entry_id, fields in self._entries:
            for n in range(0, len(fields), 2):
                if fields[n] == name:
                    if index == 0:
                        return entry_id, n // 2
                    index -= 1
        raise IndexError(instance_id)

    def _last_place(self, instance_id: str) -> tuple[bytes, int]:
        """Entry id and field of the instance's last event in this batch."""
        name = instance_id.encode()
        for entry_id, fields in reversed(self._entries):
            for n in range(len(fields) - 2, -1, -2):
                if fields[n] == name:
                    return entry_id, n // 2
        raise IndexError(instance_id)

    # --- loading

    def missing(self) -> list[str]:
        """Ids that must be fetched before the batch can run."""
        partition = self.partition
        cache, loaded, news = partition.engine.cache, self._loaded, self._news
        missing, fresh = [], 0
        for instance_id, events in self.works.items():
            cached = cache.get(instance_id)
            if cached is not None:
                cached.busy = True
                loaded[instance_id] = cached
                if instance_id in partition.consumed:
                    self._skip_consumed(instance_id)
            elif instance_id not in news:
                missing.append(instance_id)
            else:
                birth = events[0][2]
                instance = partition.load(instance_id, [birth])
                loaded[instance_id] = Cached(instance, created_ms(birth))
                fresh += 1
        counts = partition.engine.counts
        counts.misses += len(missing)
        counts.hits += len(self.works) - len(missing) - fresh
        return missing

    def load(self, stored: dict[str, Stored | None]) -> None:
        """Replay fetched instances; unknown ones and those that moved away drop out."""
        partition = self.partition
        for instance_id, found in stored.items():
            if found is None or found.queue != partition.engine.queue or not found.records:
                del self.works[instance_id]
                continue
            records = [loads(element) for element in found.records]
            self._note_consumed(instance_id, records[-1])
            killer = found.stalled == KILLER and not self._resumes(instance_id)
            instance = partition.load(instance_id, records, aside=KILLER if killer else None)
            self._loaded[instance_id] = Cached(instance, created_ms(records[0]))

    def _resumes(self, instance_id: str) -> bool:
        """Whether somebody asks for the instance to go on."""
        events = self.works[instance_id]
        return any(event[0] == LIFECYCLE and event[3] == RESUME for event in events)

    def _note_consumed(self, instance_id: str, last: Record) -> None:
        """Learn from the last record which events a partial commit has consumed already."""
        extra = last[B_EXTRA] if last[0] == BIRTH else last[T_EXTRA]
        position = (extra or {}).get("pos")
        if position and position[0] == self.partition.engine.queue:
            done = (entry_number(position[1].encode()), position[2])
            self.partition.consumed[instance_id] = done
            self._skip_consumed(instance_id)

    def _skip_consumed(self, instance_id: str) -> None:
        """Drop events that a partial commit has consumed: its entries were left in the stream."""
        done = self.partition.consumed[instance_id]
        kept = []
        for index, event in enumerate(self.works[instance_id]):
            entry_id, field = self._place(instance_id, index)
            if (entry_number(entry_id), field) > done:
                kept.append(event)
        self.works[instance_id] = kept

    # --- running

    def run(self, token: str) -> Call[Committed]:
        """Run every instance's turn and return the commit of them all."""
        partition = self.partition
        engine = partition.engine
        parts: list[InstanceCommit] = [] if self._stays else list(self._late)
        notice: list[str] = []
        now_ms = engine.now_ms()
        # Bound once: what follows runs for every turn.
        watch_turn, next_nonce = engine.watch.turn, engine.nonce
        writer, many_events, stays = partition.writer, partition.many_events, self._stays
        loaded, keep, keep_on = self._loaded, partition.keep, engine.cache.put
        inline, here = None, _NONE
        if engine.inline is not None:
            inline = InlineTurns(engine.inline, partition, token, now_ms)
        engine.watch.begin()
        for instance_id, events in self.works.items():
            cached = loaded[instance_id]
            instance, nonce = cached.instance, next_nonce(token)
            turns_before: int | None = instance.turns
            is_first = turns_before == 1 and not instance.gen
            watch_turn(instance)
            position = self._position(instance_id) if stays and events else None
            try:
                if inline is None:
                    turn = instance.apply(events, now_ms, nonce)
                else:
                    inline.instance = instance
                    turn, here = instance.apply(events, now_ms, nonce, inline), _NONE
                    if inline.used:
                        created = cached.created_ms
                        turn = inline.go_on(turn, created, turns_before, position, parts)
                        nonce, turns_before, here = inline.nonce, inline.turns_before, inline.here
                        # It took its time: those behind it begin later.
                        now_ms = inline.now_ms
            except TurnTooLarge as exc:
                raise self._set_aside(instance_id, exc) from exc
            except (TurnAborted, Exception) as exc:
                raise partition.given_up(instance, exc) from None
            try:
                if turn.plain and not stays:
                    # As nearly every turn: the instance stays in memory, or comes there.
                    draft = writer.plain(instance, turn, turns_before, here)
                    cached.busy = False
                    if not cached.size:
                        keep(cached)
                    elif instance.size > cached.size + GROWTH:
                        keep_on(cached)
                    if instance.length > many_events:
                        partition.warn_of_length(instance, turn)
                    if draft is not None and here is _NONE and not draft.rest:
                        # Nothing of what else may follow, below.
                        parts.append(draft)
                        notice.append(instance_id)
                        if is_first:
                            self._started.append(instance.name)
                        continue
                else:
                    draft = writer.draft(
                        instance, turn, turns_before=turns_before, nonce=nonce,
                        created=cached.created_ms, position=position, inline=here,
                    )  # fmt: skip
                    self._after(cached, turn)
            except TurnTooLarge as exc:
                raise self._set_aside(instance_id, exc) from exc
            if draft is None:
                if turns_before is None:
                    notice.append(instance_id)
                continue
            if inline is not None and inline.used:
                inline.finish(draft, turn)
            if turn.stalled == ABORTED:
                member = wake_member(engine.queue, instance_id, instance.inc)
                draft.add("T", now_ms + ABORTED_RETRY_MS, member)
            if stays and turn.empty:
                self._late.append(draft)
                continue
            parts.append(draft)
            if is_first:
                self._started.append(instance.name)
            if draft.ended:
                notice.append("!" + instance_id)
                self._note_end(cached, turn)
            else:
                notice.append(instance_id)
            if draft.rest:
                self.rest.append((instance_id, draft.cursor, draft.rest))
        engine.watch.end()
        position_before = partition.position
        last_entry = None if stays else self.last_entry
        partition.position = partitions.position_after(position_before, last_entry)
        return partitions.commit(
            engine.namespace, partition.number, engine.queue, token=token,
            position=position_before, last_entry=last_entry,
            notice=" ".join(notice), parts=parts, removals=partition.removals,
        )  # fmt: skip

    def _position(self, instance_id: str) -> list[Any]:
        """Where the instance's last event is, for a turn record: its entries stay."""
        entry_id, index = self._last_place(instance_id)
        return [self.partition.engine.queue, entry_id.decode(), index]

    def _note_end(self, cached: Cached, turn: Turn) -> None:
        instance = cached.instance
        taken_s = (turn.now_ms - cached.created_ms) / 1000
        self._ended.append((instance.name, turn.status, taken_s))
        if turn.status == FAILED:
            self._failed.append((instance.id, turn.actions[-1][1]))
        if self.partition.engine.tracer is not None:
            self._traced.append((cached, turn))

    def _set_aside(self, instance_id: str, why: Exception) -> StaleLease:
        """Have the batch read again, and the instance's events recorded without its code."""
        log.error(
            "instance %s is stalled: %s",
            instance_id,
            one_line(why, 1000),
            extra={"instance_id": instance_id},
        )
        self.partition.set_aside(instance_id, one_line(why, 1000))
        return StaleLease(f"the turn of instance {instance_id} cannot be committed")

    def _after(self, cached: Cached, turn: Turn) -> None:
        """Keep, replace or forget the live instance; the commit may yet be refused."""
        partition, instance = self.partition, cached.instance
        cached.busy = False
        if instance.length > partition.many_events:
            partition.warn_of_length(instance, turn)
        if instance.lacks_code:
            partition.warn_of_code(instance, turn)
        if turn.status in FINAL:
            partition.release(instance.id)
        elif turn.status == CONTINUED:
            assert turn.birth is not None
            following = partition.load(instance.id, [turn.birth])
            partition.release(instance.id)
            partition.keep(Cached(following, created_ms(turn.birth)))
        elif turn.stalled is not None:
            # What stalls it may be mended: it is loaded anew next time.
            partition.drop(instance.id)
        else:
            partition.keep(cached)

    def committed(self, reply: Committed) -> None:
        """The commit is durable, except for instances that were purged or reborn meanwhile."""
        self._count()
        self.partition.removals = reply.removals
        if self._stays or self.last_entry is None:
            self.partition.commits_partly()
        for instance_id in reply.dropped:
            self.partition.drop(instance_id)
        for instance_id, failure in self._failed:
            if instance_id not in reply.dropped:
                about = {"instance_id": instance_id}
                log.warning("instance %s failed: %s", instance_id, told(failure), extra=about)

    def _count(self) -> None:
        counts = self.partition.engine.counts
        counts.commits += 1
        for _, fields in () if self._stays else self._entries:
            counts.events += len(fields) // 2
        for name in self._started:
            counts.started[name] += 1
        for name, status, taken_s in self._ended:
            counts.ended[name, status].add(taken_s)
        if self._traced:
            self._trace()

    def _trace(self) -> None:
        tracer = self.partition.engine.tracer
        assert tracer is not None
        for cached, turn in self._traced:
            instance = cached.instance
            tracer.workflow(
                instance.id,
                instance.inc,
                instance.birth,
                turn.actions[-1] if turn.actions else None,
                name=instance.name,
                start_ms=cached.created_ms,
                end_ms=turn.now_ms,
            )

    # --- suspect mode

    def singles(self) -> Iterator[Batch]:
        """One batch an instance, leaving the entries in the stream."""
        for instance_id, events in self.works.items():
            single = Batch(self.partition)
            single.works = {instance_id: events}
            single._entries = self._entries
            single._news = self._news & {instance_id}
            single.instance_id = instance_id
            single._stays = True
            single._late = self._late
            yield single

    def finish(self) -> Batch:
        """The batch without instances that takes the entries out of the stream."""
        last = Batch(self.partition)
        last.last_entry = self.last_entry
        last._late = self._late
        return last
