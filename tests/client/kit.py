"""What the client tests share: an orchestrator played by hand, and clients of a test's own."""

from __future__ import annotations

import itertools
from typing import Any

import orjson

from wfq.storage import partitions
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace
from wfq.storage.partitions import InstanceCommit, Taken

NAMESPACE = "test"
QUEUE = "default"


class Hand:
    """Commits turns as an orchestrator does, one at a time and as the test says."""

    def __init__(self, url: str) -> None:
        self.link = SyncLink(url)
        self.ns: Namespace = open_namespace(self.link, NAMESPACE)
        self._numbers = itertools.count()

    def close(self) -> None:
        self.link.close()

    def turn(
        self,
        instance_id: str,
        *,
        events: list[Any] | None = None,
        actions: list[Any] | None = None,
        status: str = "",
        notice: bool = True,
        at_ms: int | None = None,
        custom: Any = None,
    ) -> None:
        """Commit one turn; `status` is the one it ends with, "" = as before."""
        fields = self.fields(instance_id)
        turns = int(self.link.command("LLEN", self.ns.history(instance_id)))
        now = at_ms if at_ms is not None else int(self.link.command("TIME")[0]) * 1000
        nonce = f"nonce{next(self._numbers)}"
        record = orjson.dumps(["T", now, nonce, events or [], actions or [], None])
        part = InstanceCommit(instance_id, fields["inc"], turns, record)
        before = fields.get("status", "RUNNING")
        if status and status != before:
            part.add("I", before, status, int(fields["created"]))
            if status == "RUNNING":
                part.add("D", "status")
            else:
                part.add("S", "status", status)
        if custom is not None:
            part.add("S", "custom", orjson.dumps(custom))
        ended = status in ("COMPLETED", "FAILED", "TERMINATED")
        if ended:
            part.add("S", "ended", now)
        self._commit(
            part, fields["queue"], f"{'!' if ended else ''}{instance_id}" if notice else ""
        )

    def complete(self, instance_id: str, output: Any = None, **more: Any) -> None:
        """End an instance with a result."""
        self.turn(instance_id, actions=[["K", output]], status="COMPLETED", **more)

    def fail(self, instance_id: str, kind: str = "ValueError", message: str = "boom") -> None:
        """End an instance with a failure."""
        failure = {"type": kind, "message": message, "stack": "at x", "cause": None}
        self.turn(instance_id, actions=[["!", failure]], status="FAILED")

    def fields(self, instance_id: str) -> dict[str, str]:
        """The instance hash."""
        flat = self.link.redis.hgetall(self.ns.instance(instance_id))
        return {key.decode(): value.decode() for key, value in flat.items()}  # type: ignore[union-attr]

    def events(self, instance_id: str) -> list[Any]:
        """The events of an instance that wait in its queue's stream."""
        key = self.ns.events(self.ns.partition_of(instance_id), self.fields(instance_id)["queue"])
        found = []
        # By a script: redis-py makes a dict of an entry, which loses repeated fields.
        script = "return redis.call('XRANGE', KEYS[1], '-', '+')"
        for _, flat in self.link.command("EVAL", script, 1, key):
            pairs = zip(flat[::2], flat[1::2], strict=True)
            found += [orjson.loads(value) for name, value in pairs if name.decode() == instance_id]
        return found

    def history(self, instance_id: str) -> list[Any]:
        """The stored history."""
        return [
            orjson.loads(record)
            for record in self.link.command("LRANGE", self.ns.history(instance_id), 0, -1)
        ]

    def _commit(self, part: InstanceCommit, queue: str, notice: str) -> None:
        partition = self.ns.partition_of(part.instance_id)
        token = f"hand{next(self._numbers)}"
        taken = self.link.run(
            partitions.acquire(
                self.ns, partition, queue, token=token, owner="hand", lease_ms=60_000
            )
        )
        assert isinstance(taken, Taken)
        done = self.link.run(
            partitions.commit(
                self.ns,
                partition,
                queue,
                token=token,
                position=b"0",
                last_entry=taken.last_entry if taken.last_entry != b"0-0" else None,
                notice=notice,
                parts=[part],
            )
        )
        assert done.stale == "", done
        assert done.dropped == (), done
        self.link.run(partitions.release(self.ns, partition, queue, token=token))
