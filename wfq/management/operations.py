"""What clients do to instances that exist: read, command, raise events, purge."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

import orjson

from wfq.core import actions as act
from wfq.core.events import B_EXTRA, B_GEN, B_PARENT, LINEAGE, T_ACTIONS, Record
from wfq.core.options import MAX_NAME
from wfq.core.steps import unfold
from wfq.errors import (
    InboxFull,
    InstanceError,
    InstanceFinished,
    InstanceNotFound,
    InstanceRunning,
    InvalidIdentifier,
    WaitTimeout,
)
from wfq.management.history import HistoryEvent, expand
from wfq.management.ids import output_type_of
from wfq.management.scope import Scope
from wfq.management.state import WorkflowState
from wfq.management.steps import Operation, run, server_now_ms, wait
from wfq.management.waiting import Wish, not_found
from wfq.storage import instances
from wfq.storage.adoption import child_lineage
from wfq.storage.instances import TERMINAL, AppendReply, Snapshot, Stored
from wfq.storage.keys import check_instance_id
from wfq.storage.scripts import Call

#: Generations of children that a recursive purge follows.
MAX_DEPTH = 100
#: Seconds that pause and resume wait for their effect to show, as it does at once in Dapr.
SETTLE_S = 1.0


def ping(_: Scope) -> Operation[None]:
    """Ask for a sign of life."""
    yield from server_now_ms()


def state_of(
    scope: Scope, snapshot: Snapshot, *, payloads: bool = True, instance_id: str = ""
) -> WorkflowState[Any]:
    """What a client shows of an instance; `instance_id` may remember the result's type."""
    output_type = output_type_of(instance_id)
    return WorkflowState(snapshot, scope.codec, payloads=payloads, output_type=output_type)


def read(scope: Scope, instance_id: str, *, payloads: bool) -> Operation[Snapshot | None]:
    """Read one instance; None for an unknown one."""
    check_instance_id(instance_id)
    partition = scope.namespace.partition_of(instance_id)
    call = instances.read(scope.namespace, partition, [instance_id], payloads=payloads)
    return (yield from run(call))[0]


def read_call(scope: Scope, wish: Wish) -> Call[list[Snapshot | None]]:
    """The call that reads what a wait is for, of one instance."""
    partition = scope.namespace.partition_of(wish.instance_id)
    return instances.read(scope.namespace, partition, [wish.instance_id], payloads=wish.payloads)


def wait_for(scope: Scope, wish: Wish) -> Operation[WorkflowState[Any]]:
    """Wait until a wish is met. Raises: WaitTimeout, InstanceNotFound."""
    check_instance_id(wish.instance_id)
    snapshot = yield from wait(wish)
    return state_of(scope, snapshot, payloads=wish.payloads, instance_id=wish.instance_id)


def get_state(
    scope: Scope, instance_id: str, *, payloads: bool
) -> Operation[WorkflowState[Any] | None]:
    """The state of one instance; None for an unknown one."""
    snapshot = yield from read(scope, instance_id, payloads=payloads)
    if snapshot is None:
        return None
    return state_of(scope, snapshot, payloads=payloads, instance_id=instance_id)


def fetch_records(scope: Scope, instance_id: str) -> Operation[tuple[Stored, list[Record]]]:
    """The stored history of one instance, a step a record. Raises: InstanceNotFound."""
    check_instance_id(instance_id)
    partition = scope.namespace.partition_of(instance_id)
    stored = (yield from run(instances.fetch(scope.namespace, partition, [instance_id])))[0]
    if stored is None:
        raise not_found(instance_id)
    return stored, unfold(orjson.loads(record) for record in stored.records)


def get_history(scope: Scope, instance_id: str) -> Operation[list[HistoryEvent]]:
    """The flat history of one instance. Raises: InstanceNotFound."""
    _, records = yield from fetch_records(scope, instance_id)
    return expand(records, scope.codec)


def raise_event(
    scope: Scope, instance_id: str, event_name: str, data: Any, event_id: str | None
) -> Operation[None]:
    """Queue an external event. Raises: InstanceNotFound, InstanceFinished, InboxFull."""
    _check_text(event_name, "event name")
    if event_id is not None:
        _check_text(event_id, "event id")
    payload = orjson.dumps(scope.codec.encode(data, "data of event", event_name))
    tail = instances.external_event(event_id or uuid.uuid4().hex, event_name, payload)
    yield from _append(scope, instance_id, "E", tail)


def terminate(scope: Scope, instance_id: str, output: Any, *, recursive: bool) -> Operation[None]:
    """Ask an instance to end. Raises: InstanceNotFound, InstanceFinished."""
    data: dict[str, Any] = {"recursive": bool(recursive)}
    if output is not None:
        data["output"] = scope.codec.encode(output, "output of", "terminate")
    yield from _command(scope, instance_id, "terminate", data)


def pause(scope: Scope, instance_id: str, reason: str | None, settle_s: float) -> Operation[None]:
    """Ask an instance to stop running code. Raises: InstanceNotFound, InstanceFinished."""
    yield from _command(scope, instance_id, "suspend", {"reason": reason} if reason else {})
    yield from _settle(Wish(instance_id, "suspended", False, settle_s))


def resume(scope: Scope, instance_id: str, settle_s: float) -> Operation[None]:
    """Ask a paused instance to go on. Raises: InstanceNotFound, InstanceFinished."""
    yield from _command(scope, instance_id, "resume", {})
    yield from _settle(Wish(instance_id, "resumed", False, settle_s))


def _settle(wish: Wish) -> Operation[None]:
    """Wait a moment, so that who reads the state next sees what was asked for.

    Not an error when it takes longer: a busy worker, or one that is yet to be started, does it.
    """
    if wish.timeout_s:
        with suppress(WaitTimeout, InstanceNotFound):
            yield from wait(wish)


def _command(scope: Scope, instance_id: str, verb: str, data: dict[str, Any]) -> Operation[None]:
    tail = instances.lifecycle_command(uuid.uuid4().hex, verb, data)
    yield from _append(scope, instance_id, "L", tail)


def _append(scope: Scope, instance_id: str, kind: str, tail: bytes) -> Operation[None]:
    check_instance_id(instance_id)
    partition = scope.namespace.partition_of(instance_id)
    item = (instance_id, "", kind, tail)
    call = instances.append(scope.namespace, partition, [item], scope.inbox_events)
    reply = (yield from run(call))[0]
    if reply.outcome != "queued":
        raise _refusal(instance_id, reply)


def _refusal(instance_id: str, reply: AppendReply) -> InstanceError:
    if reply.outcome == "finished":
        return InstanceFinished(
            f"workflow instance {instance_id!r} has ended and is {reply.detail}; "
            "rerun it or start another",
            instance_id,
        )
    if reply.outcome == "full":
        return InboxFull(
            f"workflow instance {instance_id!r} holds {reply.detail} events that nobody has "
            "taken; let it take some, or raise the limit inbox_events",
            instance_id,
        )
    return not_found(instance_id)


def _check_text(text: object, what: str) -> None:
    if not isinstance(text, str) or not text or len(text) > MAX_NAME:
        raise InvalidIdentifier(f"{what} {text!r:.100} must be 1 to {MAX_NAME} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidIdentifier(f"{what} {text!r:.100} is not valid Unicode") from None


# --- purge


def purge(scope: Scope, instance_id: str, *, recursive: bool) -> Operation[None]:
    """Remove an ended instance, and its children. Raises: InstanceNotFound, InstanceRunning."""
    check_instance_id(instance_id)
    doomed = (yield from _family(scope, instance_id)) if recursive else [instance_id]
    # Children first: what an error leaves over is found again from the top.
    for member in reversed(doomed):
        outcome = yield from run(instances.purge(scope.namespace, member))
        if outcome == "running":
            raise _running(member, instance_id)
        if outcome == "unknown" and member == instance_id:
            raise not_found(instance_id)


def _family(scope: Scope, instance_id: str) -> Operation[list[str]]:
    """An ended instance and its children, and theirs, parents first.

    Raises: InstanceNotFound; InstanceRunning when one of them has not ended.
    """
    stored, records = yield from fetch_records(scope, instance_id)
    if stored.status not in TERMINAL:
        raise _running(instance_id, instance_id)
    found = [instance_id]
    level = [(instance_id, stored.incarnation, records)]
    for _ in range(MAX_DEPTH):
        below = []
        for parent_id, parent_inc, parent_records in level:
            for child_id, lineage in _children(parent_records):
                child = yield from _child_of(scope, child_id, [parent_id, parent_inc], lineage)
                if child is None or child_id in found:
                    continue
                if child[0].status not in TERMINAL:
                    raise _running(child_id, instance_id)
                found.append(child_id)
                below.append((child_id, child[0].incarnation, child[1]))
        level = below
    return found


def _children(records: list[Record]) -> list[tuple[str, str]]:
    """Id and lineage of the children of this generation."""
    birth = records[0]
    return [
        (action[3], child_lineage(birth, birth[B_GEN], action[1]))
        for record in records[1:]
        for action in record[T_ACTIONS]
        if action[0] == act.START_CHILD
    ]


def _child_of(
    scope: Scope, child_id: str, whose: list[str], lineage: str
) -> Operation[tuple[Stored, list[Record]] | None]:
    """What is stored of a child; None if it is gone, or its id belongs to another by now."""
    partition = scope.namespace.partition_of(child_id)
    stored = (yield from run(instances.fetch(scope.namespace, partition, [child_id])))[0]
    if stored is None:
        return None
    records = [orjson.loads(record) for record in stored.records]
    parent = records[0][B_PARENT]
    if parent is None or parent[0] != whose[0]:
        return None
    # One that was adopted may tell an incarnation of its parent that was lost.
    if parent[1] != whose[1] and (records[0][B_EXTRA] or {}).get(LINEAGE) != lineage:
        return None
    return stored, records


def _running(instance_id: str, purged_id: str) -> InstanceRunning:
    whose = "" if instance_id == purged_id else f", a child of {purged_id!r},"
    return InstanceRunning(
        f"workflow instance {instance_id!r}{whose} has not ended; terminate it before its purge",
        instance_id,
    )
