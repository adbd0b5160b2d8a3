"""One owned partition: which events belong together, which instances they wake, what follows."""

from __future__ import annotations

import logging

from orjson import loads

from wfq.core.events import T_NONCE, Record
from wfq.core.instance import Instance
from wfq.core.ports import TurnAborted, TurnBlocked
from wfq.core.turn import STALLED, Turn
from wfq.errors import NonDeterministicWorkflow, StaleLease
from wfq.logs import plain_text
from wfq.storage.instances import Stored
from wfq.storage.partitions import Taken
from wfq_workers.backoff import one_line
from wfq_workers.orchestrating.commits import CommitWriter, Messages
from wfq_workers.orchestrating.engine import Cached, Engine

log = logging.getLogger("wfq.orchestrator")

#: Owners in a row that an instance may take down in suspect mode before it is set aside.
ACCUSATIONS = 2
#: The part of `history_events` at which a long history is warned of.
WARN_AT = 5
#: Stands in the lease for one of several instances that run together; no id.
SOMEBODY = "*"
#: Milliseconds before an instance whose turn was aborted is tried again.
ABORTED_RETRY_MS = 60_000
#: Why an instance whose turn did not yield is stalled.
ABORTED = "its turn did not come back in time and was aborted; it is tried again"
#: Why one that took its owners down is stalled. No event runs its code, but for a resumption.
KILLER = "its turns ended their worker process more than once; mend its code, then resume it"


class OwnedPartition:
    """A leased partition and what its owner knows of it."""

    def __init__(self, engine: Engine, number: int) -> None:
        self.engine = engine
        self.number = number
        limits = engine.host.limits
        self.writer = CommitWriter(
            engine.namespace,
            number,
            engine.queue,
            most_bytes=limits.turn_bytes,
            is_short=engine.short.has,
            note_queue=engine.other_queues.note,
            tracer=engine.tracer,
        )
        #: Events of one generation from which on to warn of its limit.
        self.many_events = limits.history_events // WARN_AT
        self.position = b"0"
        #: Entries above this came after the lease: their start events are really new.
        self.known_until = (0, 0)
        #: Whether commits have been made that leave the position as it is.
        self._partly = False
        self.cursors: dict[str, str] = {}
        #: Stalled instances that this owner has yet to try again.
        self.stalled: list[str] = []
        #: What the last commit said of removed instances; "" makes the next look at each one.
        self.removals = ""
        self.suspect = False
        self._accused = ("", 0)
        #: Instances whose next turn must not run their code, and why.
        self._set_aside: dict[str, str] = {}
        self._ids: set[str] = set()
        #: Entry and field up to which partial commits have consumed an instance's events.
        self.consumed: dict[str, tuple[tuple[int, int], int]] = {}

    def taken(self, token: str, reply: Taken) -> None:
        """Begin a fresh lease of this partition."""
        self.position = b"0"
        self._partly = False
        self.removals = ""
        self.known_until = entry_number(reply.last_entry)
        self.cursors = reply.cursors
        self.suspect = reply.takeovers >= 1
        accused, _, times = reply.suspect.partition(" ")
        self._accused = (accused, int(times or 0))
        if self.suspect:
            log.warning(
                "partition %d was taken over %d times without a commit: one instance at a time",
                self.number,
                reply.takeovers + 1,
            )

    @property
    def proof(self) -> bytes:
        """The position, where it proves what this owner knows of its instances; else nothing."""
        return b"" if self._partly else self.position

    @property
    def accused(self) -> bool:
        """Whether an earlier owner ended while an instance was named."""
        return bool(self._accused[0])

    def forget(self) -> None:
        """Drop every live instance: Redis alone knows what was committed."""
        for instance_id in self._ids:
            self.engine.cache.drop(instance_id)
        self._ids.clear()
        self.consumed.clear()

    def keep(self, cached: Cached) -> None:
        """Keep an instance live."""
        self.engine.cache.put(cached)
        self._ids.add(cached.instance.id)

    def drop(self, instance_id: str) -> None:
        """Forget one instance."""
        self.engine.cache.drop(instance_id)
        self._ids.discard(instance_id)

    def release(self, instance_id: str) -> None:
        """Forget an instance that has ended."""
        self.engine.cache.release(instance_id)
        self._ids.discard(instance_id)

    def commits_partly(self) -> None:
        """Note a commit that a server may lose without its lease telling."""
        self._partly = True

    def accuse(self, instance_id: str) -> str:
        """What to write into the lease before this instance runs alone."""
        accused, times = self._accused
        return f"{instance_id} {times + 1 if accused == instance_id else 1}"

    def acquitted(self) -> None:
        """A whole batch came through: read on as usual."""
        self.suspect = False
        self._accused = ("", 0)

    def rest_of(self, instance_id: str, cursor: str, stored: Stored | None) -> Messages:
        """What an unfinished dispatch still has to add."""
        if stored is None:
            return []
        nonce, _, offset = cursor.partition(" ")
        records = [loads(element) for element in stored.records]
        # The records say it all: no code is run for it.
        instance = Instance.load(instance_id, records, self.engine.host, stalled="not asked")
        for record in records[1:]:
            if record[T_NONCE] == nonce:
                return self.writer.rest_of(instance, record, int(offset))
        return []

    def load(
        self, instance_id: str, records: list[Record], *, aside: str | None = None
    ) -> Instance:
        """Replay an instance; one whose code does not fit comes back stalled.

        `aside`: a reason not to run its code.
        """
        stalled = self._set_aside.pop(instance_id, aside)
        accused, times = self._accused
        if accused == instance_id and times >= ACCUSATIONS:
            stalled = KILLER
        if stalled is None:
            instance = self._replay(instance_id, records)
            if isinstance(instance, Instance):
                return instance
            stalled = instance
        return Instance.load(instance_id, records, self.engine.host, stalled=stalled)

    def _replay(self, instance_id: str, records: list[Record]) -> Instance | str:
        """Run the code over the history; returns why it cannot be done, where it cannot."""
        watch = self.engine.watch
        replays = len(records) > 1
        try:
            if replays:
                watch.begin()
                watch.load(instance_id)
            return Instance.load(instance_id, records, self.engine.host)
        except NonDeterministicWorkflow as exc:
            log.error(
                "instance %s is stalled: %s",
                instance_id,
                one_line(exc, 1000),
                extra={"instance_id": instance_id},
            )
            return str(exc)
        except TurnBlocked as exc:
            log.error(
                "instance %s is stalled: %s",
                instance_id,
                one_line(exc),
                extra={"instance_id": instance_id},
            )
            return str(exc)
        except TurnAborted:
            return ABORTED
        except Exception as exc:
            # Whatever is wrong with one instance, the others of its partition go on.
            log.exception(
                "instance %s is stalled: it cannot be loaded",
                instance_id,
                extra={"instance_id": instance_id},
            )
            return f"it cannot be loaded: {one_line(exc)}"
        finally:
            if replays:
                watch.end()

    def given_up(self, instance: Instance, exc: Exception | TurnAborted) -> StaleLease:
        """What to raise where an instance's code cannot be run, within the handler of `exc`.

        Nothing of the batch is committed yet: it is read again, and then the instance's events
        are recorded without running its code.
        """
        about = {"instance_id": instance.id}
        if isinstance(exc, TurnBlocked):
            log.error("instance %s is stalled: %s", instance.id, one_line(exc), extra=about)
            self.set_aside(instance.id, str(exc))
            return StaleLease(f"the turn of instance {instance.id} cannot be run here")
        if isinstance(exc, TurnAborted):
            # Unless the abort was for the turn before this one.
            if instance.aborted:
                self.set_aside(instance.id, ABORTED)
            return StaleLease(f"the turn of instance {instance.id} was aborted")
        log.exception(
            "instance %s is stalled: its turn failed inside wfq", instance.id, extra=about
        )
        self.set_aside(instance.id, f"its turn failed inside wfq: {one_line(exc)}")
        return StaleLease(f"the turn of instance {instance.id} failed")

    def warn_of_length(self, instance: Instance, turn: Turn) -> None:
        """Say it once when a generation's history gets long."""
        if instance.length - len(turn.events) <= self.many_events and not turn.ended:
            log.warning(
                "instance %s of %s has consumed %d events since it last continued as new, of at "
                "most %d: call ctx.continue_as_new() in time",
                instance.id, plain_text(instance.name), instance.length,
                self.engine.host.limits.history_events,
                extra={"instance_id": instance.id},
            )  # fmt: skip

    def warn_of_code(self, instance: Instance, turn: Turn) -> None:
        """Say once a workflow what its instances lack: there may be thousands."""
        engine = self.engine
        reason = turn.lacks_code or instance.why or ""
        if turn.status_before == turn.status == STALLED or reason in engine.lacking:
            return
        engine.lacking.add(reason)
        grace_s = engine.host.limits.unknown_grace_ms / 1000
        then = f"STALLED unless some comes within {grace_s:g} s" if turn.lacks_code else "STALLED"
        log.warning(
            "instance %s waits for code: %s; %s",
            instance.id,
            plain_text(reason),
            then,
            extra={"instance_id": instance.id},
        )

    def is_set_aside(self, instance_id: str) -> bool:
        """Whether the instance's next events are to be recorded without running its code."""
        return instance_id in self._set_aside

    def set_aside(self, instance_id: str, why: str) -> None:
        """Record the instance's next events without running its code."""
        self._set_aside[instance_id] = why


def entry_number(entry_id: bytes) -> tuple[int, int]:
    """The parts of a stream id, which compare as ids do."""
    ms, _, seq = entry_id.partition(b"-")
    return int(ms), int(seq)
