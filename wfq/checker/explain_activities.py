"""Where an activity is: with a worker, in its queue, or waiting for its next attempt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from wfq.checker.evidence import Evidence
from wfq.checker.ledger import Open
from wfq.checker.roster import Roster, grace_ms, running_activities
from wfq.checker.waiting import Error, WaitingTask
from wfq.storage.inspection import Entry
from wfq.storage.link import SyncLink
from wfq.storage.timers import schedule_to_start_member, task_field


class ActivityExplainer:
    """Explains open activities of one instance."""

    def __init__(self, link: SyncLink, evidence: Evidence, workers: Roster) -> None:
        self._link = link
        self._evidence = evidence
        self._workers = workers
        self._full: dict[str, bool] = {}

    def explain(self, task: Open) -> WaitingTask:
        """Where an open activity is."""
        evidence = self._evidence
        queue = evidence.activity_queue(task)
        entries = evidence.entries_of(task)
        held = next((entry for entry in entries if entry.state == "pending"), None)
        if held is not None:
            return self._running(task, held)
        new = next((entry for entry in entries if entry.state == "new"), None)
        if new is not None:
            return self._queued(task, new)
        plain = self._made(task, "undispatched", queue)
        if evidence.is_undispatched(task):
            return plain
        due_ms = evidence.retry_due(task)
        if due_ms is None:
            return replace(plain, state="gone")
        return self._retried(task, queue, due_ms)

    def _made(
        self,
        task: Open,
        state: str,
        queue: str,
        attempt: int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> WaitingTask:
        """What holds of an activity in any state; `extra` is that of its message."""
        policy = (task.action[4] or {}).get("r")
        extra = extra or {}
        error = extra.get("error")
        return WaitingTask(
            task_id=task.task_id,
            kind="activity",
            name=task.action[2],
            state=state,
            since_ms=task.since_ms,
            queue=queue,
            attempt=attempt,
            # -1: no limit.
            of=policy[1] if policy and policy[1] > 0 else None,
            attempt_times=tuple((began, ended) for began, ended in extra.get("past") or ()),
            last_error=None if error is None else Error(str(error[0]), str(error[1])),
        )

    def _running(self, task: Open, entry: Entry) -> WaitingTask:
        alive = entry.consumer in self._workers.ids
        options = task.action[4] or {}
        return replace(
            self._made(task, "running", entry.queue, entry.attempt, self._extra_of(entry)),
            queued_ms=_added_ms(entry),
            worker=entry.consumer,
            worker_alive=alive,
            deliveries=entry.deliveries,
            has_timeout=bool(options.get("t") or options.get("h")),
            lacks=() if alive else self._workers.activity_lacks(task.action[2], entry.queue),
        )

    def _queued(self, task: Open, entry: Entry) -> WaitingTask:
        queue = entry.queue
        start_by_ms = self._schedule_to_start(queue, task)
        lacks = self._workers.activity_lacks(task.action[2], queue)
        busy = None if lacks or not self._is_full(queue) else self._workers.slots(queue)
        if start_by_ms is not None:
            lacks += self._workers.timer_lacks()
        return replace(
            self._made(task, "queued", queue, entry.attempt, self._extra_of(entry)),
            queued_ms=_added_ms(entry),
            start_by_ms=start_by_ms,
            lacks=lacks,
            busy=busy,
        )

    def _schedule_to_start(self, queue: str, task: Open) -> int | None:
        evidence = self._evidence
        own = evidence.state.instance_id
        member = schedule_to_start_member(queue, own, task.task_id, task.nonce, evidence.queue)
        return evidence.look.timers.get(member)

    def _retried(self, task: Open, queue: str, due_ms: int) -> WaitingTask:
        """An attempt that waits for its time."""
        evidence = self._evidence
        name = task_field(evidence.state.instance_id, task.task_id, task.nonce)
        key = evidence.namespace.tasks(evidence.look.partition)
        found = self._link.command("HGET", key, name)
        message = None if found is None else orjson.loads(found)
        attempt, extra = (1, {}) if message is None else (int(message[1]), message[6] or {})
        state = "unknown" if extra.get("unknown") else "retrying"
        lacks = self._workers.activity_lacks(task.action[2], queue) + self._workers.timer_lacks()
        grace = grace_ms(self._workers.activity_workers(queue))
        stalls_ms = None
        if state == "unknown" and grace is not None and not extra.get("told"):
            stalls_ms = max(due_ms, extra["unknown"] + grace)
        made = self._made(task, state, queue, attempt, extra)
        return replace(made, due_ms=due_ms, stalls_ms=stalls_ms, lacks=lacks)

    def _extra_of(self, entry: Entry) -> dict[str, Any]:
        """What the message of a further attempt carries; {} for a first one."""
        if entry.attempt < 2:
            return {}
        evidence = self._evidence
        key = evidence.namespace.activities(evidence.look.partition, entry.queue)
        rows = self._link.command("XRANGE", key, entry.entry_id, entry.entry_id)
        for value in _values(rows, entry.instance_id.encode()):
            message = orjson.loads(value)
            if (message[0], message[5][1]) == (entry.nonce, entry.task_id):
                return dict(message[6] or {})
        return {}

    def _is_full(self, queue: str) -> bool:
        """Whether the workers of a queue hold as much as they may."""
        if queue not in self._full:
            running = running_activities(self._link, self._evidence.namespace, queue)
            self._full[queue] = running >= self._workers.slots(queue) > 0
        return self._full[queue]


def _added_ms(entry: Entry) -> int:
    """When an entry came into its stream."""
    return int(entry.entry_id.partition(b"-")[0])


def _values(rows: Any, field: bytes) -> list[bytes]:
    """The values of a field in the entries of an XRANGE.

    Fields repeat. A client that makes a dict of them keeps the last, which costs an explanation
    some detail, no more.
    """
    found: list[bytes] = []
    for _, flat in rows:
        pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
        found += [value for name, value in pairs if name == field]
    return found
