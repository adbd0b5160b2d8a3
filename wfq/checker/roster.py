"""The live workers of a namespace, as they have registered, and what they are there for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from wfq.checker.waiting import Lack
from wfq.errors import StorageError
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import live_workers


class Roster:
    """What live workers have registered."""

    def __init__(self, details: Sequence[dict[str, Any]]) -> None:
        self._all = details
        self.ids = {str(one["id"]) for one in details}

    @classmethod
    def read(cls, link: SyncLink, namespace: Namespace) -> Roster:
        """Return who is alive now. Raises: StorageError."""
        return cls(
            [info.details | {"id": info.worker_id} for info in live_workers(link, namespace)]
        )

    def orchestrators(self, queue: str) -> list[dict[str, Any]]:
        """Those that run the turns of a queue."""
        return [w for w in self._all if "workflows" in w and w.get("app_id") == queue]

    def activity_workers(self, queue: str) -> list[dict[str, Any]]:
        """Those that run the activities of a queue."""
        return [w for w in self._all if "activities" in w and queue in w.get("queues", ())]

    def slots(self, queue: str) -> int:
        """How many activities of a queue can run at once."""
        return sum(int(worker.get("concurrency", 0)) for worker in self.activity_workers(queue))

    def timer_lacks(self) -> tuple[Lack, ...]:
        """What lacks where nobody fires timers."""
        alive = any("scheduler" in w.get("roles", ()) for w in self._all)
        return () if alive else (Lack("scheduler"),)

    def activity_lacks(self, activity: str, queue: str) -> tuple[Lack, ...]:
        """What lacks where nobody can run an activity of a queue."""
        live = self.activity_workers(queue)
        if not live:
            return (Lack("worker", queue, activity),)
        names = {name for worker in live for name in worker["activities"]}
        if activity in names:
            return ()
        return (Lack("activity", queue, activity, near(activity, names)),)


def near(name: str, names: Iterable[str]) -> str:
    """The one of the names that may be meant; "" where none is like it."""
    return next(iter(get_close_matches(name, list(names), 1)), "")


def grace_ms(workers: Sequence[dict[str, Any]]) -> int | None:
    """How long the most patient of these workers waits for code that is missing; None: unknown."""
    found = [worker["unknown_grace_s"] for worker in workers if "unknown_grace_s" in worker]
    return int(max(found) * 1000) if found else None


def running_activities(link: SyncLink, namespace: Namespace, queue: str) -> int:
    """Return how many entries of a queue workers hold. Raises: StorageError."""
    return sum(
        _pending(link, namespace.activities(partition, queue))
        for partition in range(namespace.partitions)
    )


def _pending(link: SyncLink, stream: str) -> int:
    try:
        reply = link.command("XPENDING", stream, "activities")
    except StorageError as exc:
        if "NOGROUP" in str(exc):
            return 0
        raise
    return int(reply["pending"] if isinstance(reply, dict) else reply[0])
