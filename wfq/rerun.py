"""Running an instance again, from its beginning or from any event of its history."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

import orjson

from wfq.core.events import B_EXTRA, B_INPUT, B_NAME
from wfq.errors import ConfigurationError, InstanceAlreadyExists
from wfq.ids import InstanceId, output_type_of
from wfq.operations import read
from wfq.scope import Scope
from wfq.steps import Operation, run
from wfq.storage import instances
from wfq.storage.instances import NewInstance, Snapshot
from wfq.storage.keys import check_new_instance_id
from wfq.waiting import not_found


class _SameInput:
    """The type of SAME_INPUT."""

    def __repr__(self) -> str:
        return "SAME_INPUT"


#: The input that the earlier run had.
SAME_INPUT: Any = _SameInput()


def rerun(
    scope: Scope,
    instance_id: str,
    *,
    from_event: int | None,
    new_instance_id: str | None,
    value: Any,
) -> Operation[InstanceId[Any]]:
    """Run an instance again. Raises: InstanceNotFound, InstanceRunning, InstanceAlreadyExists."""
    snapshot = yield from read(scope, instance_id, payloads=True)
    if snapshot is None:
        raise not_found(instance_id)
    target = uuid.uuid4().hex if new_instance_id is None else check_new_instance_id(new_instance_id)
    if from_event is not None and from_event != 0:
        raise ConfigurationError("not yet")
    item = _from_the_beginning(scope, snapshot, target, value)
    partition = scope.namespace.partition_of(target)
    reply = (yield from run(instances.start(scope.namespace, partition, [item])))[0]
    if reply.outcome == "exists":
        raise InstanceAlreadyExists(
            f"workflow instance {target!r} exists already; use another id", target
        )
    return InstanceId.of(target, output_type_of(instance_id))


def _from_the_beginning(scope: Scope, snapshot: Snapshot, target: str, value: Any) -> NewInstance:
    assert snapshot.birth is not None
    birth = snapshot.birth
    given: bytes | None = None
    if value is SAME_INPUT:
        if not (birth[B_EXTRA] or {}).get("noinput"):
            given = orjson.dumps(birth[B_INPUT])
    elif value is not None:
        given = orjson.dumps(scope.codec.encode(value, "input of workflow", birth[B_NAME]))
    tags = (birth[B_EXTRA] or {}).get("tags")
    return NewInstance(
        instance_id=target,
        incarnation=secrets.token_hex(8),
        queue=snapshot.fields["queue"],
        name=birth[B_NAME],
        input=given,
        extra={"tags": tags} if tags else None,
        policy="replace",
    )
