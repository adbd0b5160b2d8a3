"""What the tests of the activity worker share: a shop of activities and a look into Redis."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from typing import Any

import orjson

from tests.servers import poll
from wfq.core.retry import RetryPolicy
from wfq.registry import Registry
from wfq.storage import timers
from wfq.storage.activities import GROUP
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq_workers.activities.options import ActivityOptions
from wfq_workers.activities.worker import ActivityLoop

RUN = "inc1.0"


class Shop:
    """A namespace with activities, a link to look into it, and workers that it stops."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = Namespace("shop", 4)
        self.link = SyncLink(url)
        self.registry = Registry()
        self.workers: list[ActivityLoop] = []
        self._numbers = itertools.count(1)

    def activity(self, fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """Register an activity."""
        self.registry.register_activity(fn, **options)
        return fn

    def worker(self, *, start: bool = True, **options: Any) -> ActivityLoop:
        """Start a worker; it is stopped with the shop."""
        options.setdefault("concurrency", 8)
        loop = ActivityLoop(
            self.url,
            self.namespace,
            self.registry,
            ActivityOptions(**options),
            worker_id=f"worker-{uuid.uuid4().hex[:8]}",
        )
        self.workers.append(loop)
        if start:
            loop.start()
            assert loop.wait_ready(10)
        return loop

    def schedule(
        self,
        name: str,
        value: Any = None,
        *,
        instance_id: str = "",
        task_id: int = 0,
        queue: str = "default",
        retry: RetryPolicy | None = None,
        timeout_ms: int | None = None,
        heartbeat_ms: int | None = None,
        given: bool = True,
        taken_by: str = "",
    ) -> str:
        """Queue an activity as a commit would, of a live instance; returns the instance's id.

        `taken_by` is a consumer that it is handed out to in the same step.
        """
        instance_id = instance_id or f"order-{next(self._numbers)}"
        options = {
            "r": retry and retry.to_opts(),
            "t": timeout_ms,
            "h": heartbeat_ms,
            "n": None if given else True,
        }
        options = {key: option for key, option in options.items() if option is not None}
        action = ["A", task_id, name, value, options or None]
        message = [f"nonce-{instance_id}", 1, self.now_ms(), "default", RUN, action, None]
        self.set_status(instance_id, None)
        partition = self.namespace.partition_of(instance_id)
        key = self.namespace.activities(partition, queue)
        with self.link.redis.pipeline(transaction=True) as step:
            step.execute_command("XADD", key, "*", instance_id, orjson.dumps(message))
            if taken_by:
                step.execute_command("XREADGROUP", "GROUP", GROUP, taken_by, "STREAMS", key, ">")
            step.execute()
        return instance_id

    def set_status(self, instance_id: str, status: str | None) -> None:
        """Make the instance live (None), or ended."""
        key = self.namespace.instance(instance_id)
        inc, gen = RUN.split(".")
        self.link.command("HSET", key, "inc", inc, "gen", gen)
        if status is not None:
            self.link.command("HSET", key, "status", status)

    def now_ms(self) -> int:
        seconds, micros = self.link.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def events(self) -> list[tuple[str, list[Any]]]:
        """Every event that was queued for instances: (instance id, event)."""
        found = []
        for partition in range(self.namespace.partitions):
            key = self.namespace.events(partition, "default")
            for _, fields in self.ask("XRANGE", key, "-", "+"):
                pairs = zip(fields[::2], fields[1::2], strict=True)
                found += [(name.decode(), orjson.loads(value)) for name, value in pairs]
        return found

    def events_of(self, instance_id: str) -> list[list[Any]]:
        return [event for name, event in self.events() if name == instance_id]

    def wait_event(self, instance_id: str, deadline_s: float = 15.0) -> list[Any]:
        """The first event of the instance; lets due retries go on meanwhile."""

        def look() -> list[Any] | None:
            self.fire()
            found = self.events_of(instance_id)
            return found[0] if found else None

        event = poll(look, deadline_s)
        assert event is not None
        return event

    def fire(self) -> int:
        """Do a scheduler's work once; returns the timers fired."""
        calls = [timers.fire(self.namespace, p) for p in range(self.namespace.partitions)]
        return sum(fired.fired for fired in self.link.run_many(calls))

    def entries(self, queue: str = "default") -> int:
        """Entries left in the activities streams."""
        keys = [self.namespace.activities(p, queue) for p in range(self.namespace.partitions)]
        return sum(self.link.command("XLEN", key) for key in keys)

    def pending(self, queue: str = "default") -> list[tuple[str, int]]:
        """Entries handed out and not acknowledged: (consumer, deliveries)."""
        found = []
        for partition in range(self.namespace.partitions):
            key = self.namespace.activities(partition, queue)
            rows = self.ask("XPENDING", key, GROUP, "-", "+", 1000)
            found += [(row[1].decode(), row[3]) for row in rows]
        return found

    def dead_letters(self) -> list[dict[str, str]]:
        found = []
        for partition in range(self.namespace.partitions):
            for _, fields in self.ask("XRANGE", self.namespace.dead(partition), "-", "+"):
                texts = [field.decode(errors="replace") for field in fields]
                found.append(dict(zip(texts[::2], texts[1::2], strict=True)))
        return found

    def ask(self, *command: Any) -> Any:
        """The raw reply: redis-py would make a dict of a stream's fields, and lose some."""
        wire = self.link.wire(timeout_s=10)
        wire.send([command])
        reply = wire.receive()
        wire.close()
        return reply or []

    def close(self) -> None:
        for worker in self.workers:
            worker.stop(0.5)
        self.link.close()


def retry(attempts: int, first_ms: int = 1, **options: Any) -> RetryPolicy:
    """A policy of `attempts` attempts with a short wait."""
    from datetime import timedelta

    return RetryPolicy(
        first_retry_interval=timedelta(milliseconds=first_ms),
        max_number_of_attempts=attempts,
        **options,
    )
