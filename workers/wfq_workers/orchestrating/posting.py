"""What a turn has for other instances: children, events, terminations, and its parent's news.

What lives in the same partition is part of the commit; all else goes by way of the outbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from wfq.core.events import LINEAGE, PARENT_GEN, Action
from wfq.core.instance import Instance
from wfq.core.turn import Turn
from wfq.storage import instances, outbox
from wfq.storage.adoption import child_lineage
from wfq.storage.keys import Namespace
from wfq.storage.partitions import InstanceCommit


class Posting:
    """Addresses what the instances of one partition and queue send."""

    __slots__ = ("_namespace", "_note_queue", "_partition", "_queue")

    def __init__(
        self, namespace: Namespace, partition: int, queue: str, note_queue: Callable[[str], None]
    ) -> None:
        self._namespace = namespace
        self._partition = partition
        self._queue = queue
        self._note_queue = note_queue

    def _target(self, options: dict[str, Any]) -> str:
        """The queue that the options of an action name, or else its own."""
        queue: str = options.get("q", self._queue)
        if queue != self._queue:
            self._note_queue(queue)
        return queue

    def _child(
        self,
        part: InstanceCommit,
        instance: Instance,
        action: Action,
        turn: Turn,
        trace: dict[str, str] | None,
    ) -> None:
        nonce, now_ms = turn.nonce, turn.now_ms
        _, task_id, name, child_id, payload, opts = action
        options = opts or {}
        inc = f"{nonce}.{task_id}"
        parent = [instance.id, instance.inc, task_id, nonce]
        extra: dict[str, Any] = {**(trace or {}), **({"noinput": True} if options.get("n") else {})}
        extra[LINEAGE] = child_lineage(instance.birth, instance.gen, task_id)
        tail = [inc, 0, name, payload, parent, extra]
        queue = self._target(options)
        taken = orjson.dumps(["X", task_id, nonce, _taken(child_id)])
        if self._namespace.partition_of(child_id) == self._partition:
            birth = orjson.dumps(["B", now_ms, *tail])
            letter = "R" if options.get("x") else "C"
            part.add(letter, child_id, inc, name, queue, birth, now_ms, taken)
        else:
            extra[PARENT_GEN] = instance.gen
            birth_tail = "," + orjson.dumps(tail)[1:].decode()
            values = [
                child_id,
                inc,
                name,
                queue,
                birth_tail,
                instance.id,
                taken.decode(),
                instance.inc,
            ]
            if options.get("x"):
                values.append("1")
            part.add("O", outbox.Message("C", values).encode())

    def _detached(self, part: InstanceCommit, action: Action, inc: str) -> None:
        """A workflow of its own. By way of the outbox even within the partition: it is rare."""
        _, instance_id, name, payload, opts = action
        options = opts or {}
        extra = {"noinput": True} if options.get("n") else None
        birth_tail = "," + orjson.dumps([inc, 0, name, payload, None, extra])[1:].decode()
        queue = self._target(options)
        message = outbox.detached_start(instance_id, inc, name, queue, birth_tail)
        part.add("O", message.encode())

    def _send_event(self, part: InstanceCommit, action: Action, event_id: str) -> None:
        _, target, name, data = action
        tail = instances.external_event(event_id, name, orjson.dumps(data))
        if self._namespace.partition_of(target) == self._partition:
            part.add("M", target, tail)
        else:
            message = outbox.Message("E", [target, "", "E", tail.decode()])
            part.add("O", message.encode())

    def _terminate_child(
        self, part: InstanceCommit, child_id: str, child_inc: str, nonce: str
    ) -> None:
        command = instances.lifecycle_command(nonce, "terminate", {"recursive": True})
        if self._namespace.partition_of(child_id) == self._partition:
            event = b'["L",' + orjson.dumps(child_inc) + command
            part.add("P", child_id, child_inc, event)
        else:
            values = [child_id, child_inc, "L", command.decode()]
            part.add("O", outbox.Message("E", values).encode())

    def _tell_parent(self, part: InstanceCommit, instance: Instance, turn: Turn) -> None:
        if instance.parent is None or turn.parent_event is None:
            return
        parent_id, parent_inc = instance.parent[:2]
        event = orjson.dumps(turn.parent_event)
        if self._namespace.partition_of(parent_id) == self._partition:
            part.add("P", parent_id, parent_inc, event)
        else:
            part.add("o", *outbox.outcome_pieces(instance.parent, event))


def _taken(child_id: str) -> dict[str, Any]:
    return _failure(
        "InstanceAlreadyExists",
        f"child workflow {child_id!r} was not started: an instance with this id exists",
    )


def _failure(kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "message": message, "stack": "", "cause": None}
