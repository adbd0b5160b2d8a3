"""Automatic retention: removes ended instances once they are old enough.

Any number of schedulers may run it, without a leader: a claim that expires by itself keeps two
of them from looking through the same partition at once. A pass through a partition goes in small
steps with pauses between them; what one that died has left undone the next pass does.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from wfq import failpoints
from wfq.errors import StorageError
from wfq.settings import Settings
from wfq.storage import retention
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.scripts import Call

log = logging.getLogger("wfq.scheduler")

#: Seconds between two passes through a partition: a tenth of the shortest age, within these.
SHORTEST_PASS_S = 1.0
LONGEST_PASS_S = 60.0
#: Seconds between two steps of a pass: Redis has other things to do.
STEP_S = 0.02


def ages_of(settings: Settings) -> dict[str, float]:
    """Seconds that an ended instance is kept, by status; a status that is missing for ever."""
    wanted = {
        "COMPLETED": settings.retention_completed_s,
        "FAILED": settings.retention_failed_s,
        "TERMINATED": settings.retention_terminated_s,
    }
    kept = {
        status: settings.retention_s if seconds is None else seconds
        for status, seconds in wanted.items()
    }
    return {status: seconds for status, seconds in kept.items() if seconds is not None}


@dataclass(slots=True)
class _Pass:
    """Where a pass through one partition stands, and when to go on (monotonic seconds)."""

    at: float
    status: int = 0
    position: tuple[str, str] | None = None
    removed: int = 0


class Sweeper:
    """Applies `ages` (seconds by status) to every partition. Belongs to one thread."""

    def __init__(self, namespace: Namespace, ages: Mapping[str, float]) -> None:
        self._namespace = namespace
        self._ages = [(status, round(seconds * 1000)) for status, seconds in ages.items()]
        shortest = min(ages.values(), default=LONGEST_PASS_S)
        self._pass_s = min(LONGEST_PASS_S, max(SHORTEST_PASS_S, shortest / 10))
        self._token = secrets.token_hex(8)
        now = time.monotonic()
        # Spread: neither all partitions nor all schedulers that started together at once.
        self._passes = [_Pass(now + random.random() * STEP_S) for _ in range(namespace.partitions)]

    @property
    def next_at(self) -> float:
        """When there is something to do, in monotonic seconds."""
        return min(one.at for one in self._passes) if self._ages else float("inf")

    def sweep(self, link: SyncLink) -> int:
        """Take the steps that are due; returns how many were removed. Raises: StorageError."""
        now = time.monotonic()
        due = [p for p, one in enumerate(self._passes) if one.at <= now] if self._ages else []
        if not due:
            return 0
        found = link.try_many([self._step(partition) for partition in due])
        results = [one for one in found if not isinstance(one, StorageError)]
        removed = sum(result.removed for result in results)
        if failpoints.ACTIVE and removed:
            failpoints.hit("sched.after_expire")
        failure: StorageError | None = None
        for partition, result in zip(due, found, strict=True):
            if isinstance(result, StorageError):
                self._passes[partition].at = now + SHORTEST_PASS_S
                failure = result
            else:
                self._advance(partition, result)
        if failure is not None:
            raise failure
        return removed

    def _step(self, partition: int) -> Call[retention.Swept]:
        one = self._passes[partition]
        status, age_ms = self._ages[one.status]
        return retention.expire(
            self._namespace,
            partition,
            status,
            age_ms=age_ms,
            token=self._token,
            # What is left of it after the last step keeps the others away until the next pass.
            hold_ms=round(self._pass_s * 1000),
            position=one.position,
        )

    def _advance(self, partition: int, result: retention.Swept) -> None:
        one, now = self._passes[partition], time.monotonic()
        if result.held_ms is not None:
            wait_s = max(STEP_S, result.held_ms / 1000) * (1 + random.random() / 4)
            self._passes[partition] = _Pass(now + wait_s)
            return
        one.removed += result.removed
        one.position = result.position
        one.at = now + STEP_S
        if one.position is None:
            one.status += 1
        if one.status == len(self._ages):
            if one.removed:
                log.info(
                    "retention removed %d ended instances of partition %d", one.removed, partition
                )
            self._passes[partition] = _Pass(now + self._pass_s)
