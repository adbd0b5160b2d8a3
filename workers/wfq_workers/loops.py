"""The loops of one worker process, by role."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Protocol, runtime_checkable

from wfq.registry import Registry
from wfq.rules import ListenerRule
from wfq.settings import Settings
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import publish_workflows
from wfq.urls import is_cluster
from wfq_workers.process import Loop, new_worker_id

#: Roles in the order of the command line's choice; the first three are a worker's default.
ROLES = ("orchestrator", "activity", "scheduler", "listener")
DEFAULT_ROLES = ROLES[:3]
#: Roles that run the user's code.
CODE_ROLES = frozenset(("orchestrator", "activity"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process works. `settings` hold the URL that was resolved."""

    settings: Settings
    url: str
    namespace: Namespace
    worker_id: str = field(default_factory=new_worker_id)


@dataclass(frozen=True, slots=True)
class Job:
    """What a process does: roles, the program where one is needed, queues, rules."""

    roles: Sequence[str]
    registry: Registry | None = None
    #: Queues whose activities are run; none means the application's own.
    queues: Sequence[str] = ()
    rules: Sequence[ListenerRule] = ()


def make_loops(place: Place, job: Job, *, own_process: bool) -> list[Loop]:
    """Return the loops of a job, and the one that reports the process alive.

    own_process: nothing else runs in it, so it may be ended where the store turns out to be
    another one. Raises: ConfigurationError.
    """
    from wfq_workers.presence import Presence
    from wfq_workers.scheduling.epoch import end_process

    loops = [_MAKERS[role](place, job) for role in job.roles]
    if "scheduler" in job.roles:
        loops.append(_caretaker(place))
        if is_cluster(place.url):
            loops.append(_reconciler(place))
    details = describe(place, job)
    counting = [loop for loop in loops if isinstance(loop, Counting)]

    slotted = next((loop for loop in loops if isinstance(loop, Slotted)), None)

    def report() -> dict[str, Any]:
        now = {} if slotted is None else {"busy": slotted.running}
        return {**details, **now, **{loop.name: loop.counts() for loop in counting}}

    on_remade = end_process if own_process else None
    presence = Presence(
        place.url,
        place.namespace,
        place.worker_id,
        report,
        on_remade=on_remade,
        publish=_publisher(place, job),
    )
    return [*loops, presence, *_metrics(place, loops)]


def _metrics(place: Place, loops: Sequence[Loop]) -> list[Loop]:
    """Return the loop that answers Prometheus, where the settings want one."""
    settings = place.settings
    if settings.metrics_port is None:
        return []
    from wfq_workers.metrics.exporter import MetricsLoop

    return [MetricsLoop(settings.metrics_host, settings.metrics_port, loops)]


def _publisher(place: Place, job: Job) -> Callable[[SyncLink], None] | None:
    """Return what tells of the workflows, for the dashboard; None where none are run."""
    registry = job.registry
    if registry is None or "orchestrator" not in job.roles:
        return None

    def publish(link: SyncLink) -> None:
        # In the presence's thread: reading sources delays nothing.
        from wfq.analysis.describing import describe_workflows

        descriptions = describe_workflows(registry)
        publish_workflows(link, place.namespace, place.settings.app_id, descriptions)

    return publish


@runtime_checkable
class Counting(Protocol):
    """A loop whose counts go into the register of workers, from where `/metrics` has them."""

    name: str

    def counts(self) -> dict[str, dict[str, int]]: ...


@runtime_checkable
class Slotted(Protocol):
    """A loop with slots; how many are taken goes into the register of workers, for people."""

    @property
    def running(self) -> int: ...


def _orchestrator(place: Place, job: Job) -> Loop:
    from wfq_workers.orchestrating.orchestrator import OrchestratorLoop

    assert job.registry is not None
    settings = place.settings
    return OrchestratorLoop(
        place.url,
        place.namespace,
        job.registry,
        worker_id=place.worker_id,
        queue=settings.app_id,
        lease_s=settings.lease_s,
        turn_timeout_s=settings.turn_timeout_s,
    )


def _activity(place: Place, job: Job) -> Loop:
    from wfq_workers.activities.options import ActivityOptions
    from wfq_workers.activities.worker import ActivityLoop

    assert job.registry is not None
    settings = place.settings
    options = ActivityOptions(
        queues=job.queues or (settings.app_id,),
        concurrency=settings.concurrency,
        lease_s=settings.task_lease_s,
        max_deliveries=settings.max_deliveries,
        unknown_grace_s=settings.unknown_grace_s,
    )
    return ActivityLoop(
        place.url, place.namespace, job.registry, options, worker_id=place.worker_id
    )


def _scheduler(place: Place, _job: Job) -> Loop:
    from wfq_workers.scheduling.retention import ages_of
    from wfq_workers.scheduling.scheduler import SchedulerLoop

    return SchedulerLoop(place.url, place.namespace, retention=ages_of(place.settings))


def _caretaker(place: Place) -> Loop:
    from wfq_workers.scheduling.caretaker import CaretakerLoop

    return CaretakerLoop(
        place.url, place.namespace, worker_id=place.worker_id, lease_s=place.settings.lease_s
    )


def _reconciler(place: Place) -> Loop:
    from wfq_workers.scheduling.reconciler import ReconcilerLoop

    return ReconcilerLoop(place.url, place.namespace)


def _listener(place: Place, job: Job) -> Loop:
    from wfq_workers.listening.listener import make_listener

    return make_listener(
        place.url, place.namespace, place.settings, worker_id=place.worker_id, rules=job.rules
    )


_MAKERS: dict[str, Callable[[Place, Job], Loop]] = {
    "orchestrator": _orchestrator,
    "activity": _activity,
    "scheduler": _scheduler,
    "listener": _listener,
}


def describe(place: Place, job: Job) -> dict[str, Any]:
    """Return what the register of workers says of a process."""
    details: dict[str, Any] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": version("wfq"),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "roles": list(job.roles),
        "app_id": place.settings.app_id,
        "queues": _queues(place, job),
        "unknown_grace_s": place.settings.unknown_grace_s,
    }
    registry = job.registry
    if registry is not None and "orchestrator" in job.roles:
        details["workflows"] = sorted({entry.name for entry in registry.workflows()})
    if registry is not None and "activity" in job.roles:
        details["activities"] = sorted(entry.name for entry in registry.activities())
        details["concurrency"] = place.settings.concurrency
    return details


def _queues(place: Place, job: Job) -> list[str]:
    own = place.settings.app_id
    queues = set(job.queues or (own,)) if "activity" in job.roles else set()
    if "orchestrator" in job.roles:
        queues.add(own)
    return sorted(queues)
