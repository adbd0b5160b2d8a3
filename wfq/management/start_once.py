"""Starts that strangers repeat: HTTP requests and messages.

A caller that lost the answer sends the same start again, as a new request: the run id that makes
the library's own repetitions safe is not there. The id, the name and the input decide instead.
The birth record carries a digest of them, which outlives continue-as-new, where the input of the
first generation is gone.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import orjson

from wfq.core.events import B_EXTRA, B_GEN, B_INPUT
from wfq.errors import InstanceAlreadyExists, StorageUnavailable
from wfq.management.ids import chosen_instance_id, new_incarnation
from wfq.management.operations import read
from wfq.management.scope import Scope
from wfq.management.starting import when_due
from wfq.management.steps import Operation, begin
from wfq.naming import workflow_ref
from wfq.storage.instances import NewInstance, Snapshot
from wfq.storage.keys import check_queue
from wfq.tracing import with_trace

#: Where a birth record keeps the digest.
REQUEST = "request"
#: Attempts where the instance that was in the way has gone when it is looked at.
_ATTEMPTS = 3


def start_once(
    scope: Scope,
    workflow: str,
    value: Any,
    instance_id: str | None,
    *,
    start_at: datetime | timedelta | None = None,
    app_id: str | None = None,
) -> Operation[str]:
    """Start an instance of plain JSON input and return its id; a repetition starts nothing.

    An instance of that id that has ended is in the way as well: it may be the one that the first
    request started. Raises: InstanceAlreadyExists when the id has another name or input.
    """
    name, _ = workflow_ref(workflow)
    given = chosen_instance_id(scope.namespace, instance_id)
    queue = scope.app_id if app_id is None else check_queue(app_id)
    digest = _digest(name, queue, value)
    item = NewInstance(
        instance_id=given,
        incarnation=new_incarnation(),
        queue=queue,
        name=name,
        input=None if value is None else _encoded(scope, value, "input of workflow", name),
        # Without an id of the caller's there is nothing to repeat. The digest is a payload:
        # where payloads are encrypted, nobody learns from it which inputs are equal.
        extra=with_trace(None if instance_id is None else {REQUEST: _payload(scope, digest, name)}),
        due_ms=(yield from when_due(start_at)),
        policy="error",
    )
    for _ in range(_ATTEMPTS):
        reply = yield from begin(item)
        if reply.outcome == "started":
            return given
        found = yield from read(scope, given, payloads=True)
        if found is not None:
            return _same_or_refused(scope, found, item, digest, value)
    raise StorageUnavailable(f"workflow instance {given!r} comes and goes; try again")


def _same_or_refused(
    scope: Scope, found: Snapshot, item: NewInstance, digest: str, value: Any
) -> str:
    if not _is_same(scope, found, item, digest, value):
        raise InstanceAlreadyExists(
            f"workflow instance {item.instance_id!r} exists already and is {found.status}, "
            "with another workflow or input; use another id",
            item.instance_id,
        )
    return item.instance_id


def _is_same(scope: Scope, found: Snapshot, item: NewInstance, digest: str, value: Any) -> bool:
    if found.birth is None:
        return False
    extra = found.birth[B_EXTRA] or {}
    if REQUEST in extra:
        return bool(scope.codec.plain(extra[REQUEST]) == digest)
    # Started through another door. Only the first generation still has the input of the start.
    fields = found.fields
    same = fields.get("name") == item.name and fields.get("queue") == item.queue
    if not same or found.birth[B_GEN] != 0:
        return False
    present = None if extra.get("noinput") else scope.codec.plain(found.birth[B_INPUT])
    return _canonical(present) == _canonical(value)


def _digest(name: str, queue: str, value: Any) -> str:
    text = b"\0".join((name.encode(), queue.encode(), _canonical(value)))
    return sha256(text).hexdigest()[:32]


def _canonical(value: Any) -> bytes:
    """JSON text that is equal for equal values; the order of keys does not count."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)


def _payload(scope: Scope, value: Any, name: str) -> Any:
    return scope.codec.encode(value, "request of workflow", name)


def _encoded(scope: Scope, value: Any, what: str, name: str) -> bytes:
    return orjson.dumps(scope.codec.encode(value, what, name))
