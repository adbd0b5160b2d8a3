"""Which partitions an orchestrator should own: its share, taken and given up without a leader.

Members of a queue's orchestrators report to a sorted set. Each keeps what it has up to its
share (partitions / members, rounded up), gives up what is over, and takes what is free while
it has less than others may have. Leases decide; the member list is a hint.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence

from wfq.errors import StorageError
from wfq.storage import partitions
from wfq.storage.link import SyncLink
from wfq.storage.membership import MEMBER_SILENT_MS, server_now_ms
from wfq.urls import is_cluster
from wfq_workers.orchestrating.engine import Engine
from wfq_workers.orchestrating.lane import Lane

log = logging.getLogger("wfq.orchestrator")

#: Seconds between looks at the members; a member that is silent for `SILENT_MS` is gone.
REPORT_S = 2.0
SILENT_MS = MEMBER_SILENT_MS
#: Seconds between looks at one partition that others hold.
PROBE_S = 1.0
#: Milliseconds after its expiry at which a lease that nobody took is up for adoption.
ORPHAN_MS = 500
#: Seconds after which an adopted partition counts towards the share. A member that died is off
#: the list by then, so one that is still on it was only late, and is to get its share back.
ADOPTED_S = SILENT_MS / 1000 + 2 * REPORT_S
#: Milliseconds until its expiry that no lease has: the server's clock was set back.
FAR_MS = 60_000


class Leases:
    """Renews the leases of all lanes, in a thread of its own: a slow server, or much to deal,
    must not make one run out."""

    def __init__(self, engine: Engine, lanes: Sequence[Lane], wake: Callable[[], None]) -> None:
        self._engine = engine
        self._lanes = lanes
        self._wake = wake
        lease_s = engine.lease_ms / 1000
        #: Seconds between renewals: several fit into a lease.
        self.period_s = lease_s / 3.5
        #: Seconds after which an answer is given up. The server may have renewed all the same;
        #: what counts is that it is asked again before the lease ends.
        self.timeout_s = lease_s * 0.6

    def renew(self, link: SyncLink) -> None:
        """Renew all leases; a lane learns what it has lost. Raises: StorageError."""
        engine = self._engine
        held = [(lane, lane.token, number) for lane in self._lanes for number in list(lane.owned)]
        calls = [
            partitions.renew(
                engine.namespace, number, engine.queue, token=token, lease_ms=engine.lease_ms
            )
            for _, token, number in held
        ]
        renewals = link.try_many(calls)
        for (lane, token, number), renewal in zip(held, renewals, strict=True):
            if isinstance(renewal, StorageError):
                continue
            engine.clock.set(renewal.now_ms)
            if not renewal.valid and lane.token == token:
                engine.counts.lost += 1
                log.info("partition %d went to another orchestrator", number)
                lane.lose()
                self._wake()
        for renewal in renewals:
            if isinstance(renewal, StorageError):
                raise renewal


class Ownership:
    """Deals partitions to lanes. Lives in a thread of its own."""

    def __init__(
        self,
        engine: Engine,
        lanes: Sequence[Lane],
        wake: Callable[[], None],
        only: frozenset[int] | None = None,
    ) -> None:
        self._engine = engine
        self._lanes = lanes
        self._wake = wake
        #: The partitions of a caretaker, which takes what is free and is no member.
        self._only = only
        self._members: list[str] = [engine.worker_id]
        self._reported = 0.0
        self._look_again = [0.0] * engine.namespace.partitions
        #: Partitions beyond the share, of a member that seems to have died, and until when
        #: (monotonic) they are kept as such.
        self._adopted: dict[int, float] = {}
        #: Seconds between ticks.
        self.period_s = min(0.5, engine.lease_ms / 1000 / 6)

    def tick(self, link: SyncLink) -> None:
        """One round. Raises: StorageError."""
        now = time.monotonic()
        failure: StorageError | None = None
        if now - self._reported >= REPORT_S:
            try:
                self._report(link)
                self._reported = now
            except StorageError as exc:
                # Of a cluster, the other nodes' partitions can be dealt all the same.
                if not is_cluster(link.url):
                    raise
                failure = exc
        self._deal(link)
        self._engine.other_queues.tell(link, self._engine.namespace)
        if failure is not None:
            raise failure

    def leave(self, link: SyncLink) -> None:
        """Take this orchestrator off the member list."""
        engine = self._engine
        link.command("ZREM", engine.namespace.members(engine.queue), engine.worker_id)

    def _report(self, link: SyncLink) -> None:
        engine = self._engine
        if self._only is not None:
            engine.clock.set(server_now_ms(link))
            return
        queues = engine.short.queues
        reply = link.run(
            partitions.report(
                engine.namespace, engine.queue, engine.worker_id,
                silent_ms=SILENT_MS, short_of=queues,
            )
        )  # fmt: skip
        engine.clock.set(reply.now_ms)
        for queue, names in zip(queues, reply.short, strict=True):
            engine.short.learn(queue, names)
        members = reply.members or [engine.worker_id]
        if members != self._members:
            self._members = members
            self._adopted.clear()

    def _deal(self, link: SyncLink) -> None:
        """Move the lanes' wanted partitions towards this orchestrator's share."""
        total, members = self._engine.namespace.partitions, self._members
        share = -(-total // len(members))
        wanted = {number for lane in self._lanes for number in lane.wanted}
        # What a lane has yet to give up stays out: two lanes must not share cached instances.
        busy = wanted.union(*(list(lane.owned) for lane in self._lanes))
        now = time.monotonic()
        kept = {number for number, until in self._adopted.items() if now < until}
        # What was adopted goes first: the rest of the instances may be in memory for long.
        own = sorted(wanted - kept, key=lambda number: (number in self._adopted, number))
        for number in own[share:]:
            self._give_up(number)
        self._adopted = {n: until for n, until in self._adopted.items() if n in kept & wanted}
        if len(own) < share:
            found = self._probe(link, self._candidates(busy, watch=False), 0)
            self._take(found[: share - len(own)])
        else:
            # The others have their share to take, unless one of them has just died: what
            # stays without an owner is adopted until the member list tells.
            orphans = self._probe(link, self._candidates(busy, watch=True), ORPHAN_MS)
            self._adopted.update(dict.fromkeys(orphans, now + ADOPTED_S))
            self._take(orphans)

    def _take(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            lanes = (lane for lane in self._lanes if lane.takes(number))
            lane = min(lanes, key=lambda lane: len(lane.wanted))
            lane.wanted |= {number}
        if numbers:
            self._wake()

    def _give_up(self, number: int) -> None:
        for lane in self._lanes:
            if number in lane.wanted:
                lane.wanted -= {number}
                self._wake()

    def _candidates(self, busy: set[int], *, watch: bool) -> list[int]:
        """Partitions to look at now; each about once a second.

        With `watch`, or with more members than partitions, only those few that fall to this
        member, so that the members together look at each partition about twice a second.
        """
        now = time.monotonic()
        total, members = self._engine.namespace.partitions, self._members
        rank = members.index(self._engine.worker_id) if self._engine.worker_id in members else 0
        # Those without a share look the less often the more they are: together, at each
        # partition about once a second.
        period_s = PROBE_S * max(1.0, 2 * len(members) / total) if len(members) > total else PROBE_S
        candidates = []
        for offset in range(total):
            # Members start their search at different places, so that they seldom collide.
            number = (offset + rank * total // len(members)) % total
            few = watch or len(members) > total
            if self._only is not None and number not in self._only:
                continue
            if few and (number - rank) % min(len(members), total) > 1:
                continue
            if number not in busy and now >= self._look_again[number]:
                self._look_again[number] = now + period_s * random.uniform(0.8, 1.2)
                candidates.append(number)
        return candidates

    def _probe(self, link: SyncLink, candidates: list[int], expired_ms: int) -> list[int]:
        """Those of the partitions whose lease is gone or expired at least `expired_ms` ago."""
        if not candidates:
            return []
        engine = self._engine
        server_ms = engine.now_ms()
        leases = [engine.namespace.lease(number, engine.queue) for number in candidates]
        found = link.try_commands([("HGET", lease, "expires") for lease in leases])
        free = []
        for number, expires in zip(candidates, found, strict=True):
            if isinstance(expires, StorageError):
                continue
            if expires is None:
                # Given up in good order, for the member that takes its share.
                if not expired_ms:
                    free.append(number)
            elif int(expires) <= server_ms - expired_ms or int(expires) > server_ms + FAR_MS:
                free.append(number)
        return free
