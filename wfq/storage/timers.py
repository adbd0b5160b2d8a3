"""The timers set: its members, and the call of the scheduler that fires what is due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wfq.storage import scripts
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Call

#: Timers fired by one call, so that Redis is never blocked for long.
BATCH = 1000


def timer_member(queue: str, instance_id: str, task_id: int, nonce: str) -> str:
    """The member of a durable timer: what it queues when it is due."""
    return f'T {queue} {instance_id} ["F",{task_id},"{nonce}"]'


def wake_member(queue: str, instance_id: str, incarnation: str) -> str:
    """The member of a wake-up: the instance is looked at again, and nothing else happens."""
    return f'T {queue} {instance_id} ["W","{incarnation}"]'


def delayed_start_member(queue: str, instance_id: str, incarnation: str) -> str:
    """The member of a start that waits for its time."""
    return f"S {queue} {instance_id} {incarnation}"


def retry_member(activity_queue: str, instance_id: str, task_id: int, nonce: str) -> str:
    """The member of an attempt that waits for its time; its message is in the tasks hash."""
    return f"R {activity_queue} {instance_id} {task_id} {nonce}"


def schedule_to_start_member(
    activity_queue: str, instance_id: str, task_id: int, nonce: str, orchestrator_queue: str
) -> str:
    """The member that fails an activity which no worker has taken in time."""
    return f"Q {activity_queue} {instance_id} {task_id} {nonce} {orchestrator_queue}"


def task_field(instance_id: str, task_id: int, nonce: str) -> str:
    """The field of the tasks hash that holds a waiting attempt's message."""
    return f"{instance_id} {task_id} {nonce}"


@dataclass(frozen=True, slots=True)
class Fired:
    """What one `fire` did; `next_due_ms` None means that no timer is left."""

    fired: int
    next_due_ms: int | None
    now_ms: int
    lateness_ms: int


def fire(namespace: Namespace, partition: int, *, limit: int = BATCH) -> Call[Fired]:
    """Fire the due timers of one partition, by the server's clock."""
    keys = [namespace.timers(partition), namespace.tasks(partition), namespace.prefix(partition)]
    return Call(scripts.FIRE, keys, [limit], _parse_fired)


def _parse_fired(reply: list[Any]) -> Fired:
    fired, due, now, lateness = reply
    return Fired(fired, int(float(due)) if due else None, int(now), int(lateness))
