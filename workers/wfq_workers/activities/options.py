"""How an activity worker works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityOptions:
    """The settings of one activity worker; see `wfq.settings` for how users give them."""

    #: Queues whose activities it runs.
    queues: Sequence[str] = ("default",)
    #: Activities that run at once.
    concurrency: int = 64
    #: Activities with ``process=True`` that run at once; None: as many as there are processors.
    processes: int | None = None
    #: Seconds without renewal before another worker may take an attempt over.
    lease_s: float = 15.0
    #: Deliveries of one attempt without a result before the task fails with WorkerLost.
    max_deliveries: int = 5
    #: Seconds that an unregistered name may wait for a worker that knows it.
    unknown_grace_s: float = 30.0
