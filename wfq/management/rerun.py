"""Running an instance again, from its beginning or from any event of its history."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from wfq.codec import Codec
from wfq.core import actions as act
from wfq.core.events import B_EXTRA, B_INPUT, B_NAME, T_ACTIONS, Action, Record
from wfq.core.history import expand_history
from wfq.errors import ConfigurationError, InstanceAlreadyExists, InstanceRunning
from wfq.management.history import Place, place_of
from wfq.management.ids import InstanceId, new_incarnation, new_instance_id, output_type_of
from wfq.management.operations import fetch_records
from wfq.management.revival import Source, Target, revive
from wfq.management.scope import Scope
from wfq.management.steps import Operation, run, server_now_ms
from wfq.storage import reruns
from wfq.storage.instances import TERMINAL
from wfq.storage.keys import check_new_instance_id
from wfq.storage.reruns import Revival

#: The input that the earlier run had.
SAME_INPUT: Any = ...
#: Dapr's word for it.
UNSET = SAME_INPUT


def rerun(
    scope: Scope,
    instance_id: str,
    *,
    from_event: int | None,
    target_id: str | None,
    value: Any,
) -> Operation[InstanceId[Any]]:
    """Run an instance again. Raises: InstanceNotFound, InstanceRunning, InstanceAlreadyExists."""
    stored, records = yield from fetch_records(scope, instance_id)
    target = Target(_target_id(scope, instance_id, target_id), new_incarnation(), 0)
    if from_event:
        now_ms = yield from server_now_ms()
        place = _place(records, from_event, instance_id)
        changed = None if value is SAME_INPUT else _changed(scope.codec, records, place, value)
        source = Source(instance_id, stored.queue, records)
        revival = revive(source, place, replace(target, now_ms=now_ms), changed)
    else:
        revival = _anew(scope.codec, stored.queue, records[0], target, value)
    if target.instance_id == instance_id:
        if stored.status not in TERMINAL:
            raise InstanceRunning(
                f"workflow instance {instance_id!r} has not ended; terminate it, or let the "
                "rerun have another id",
                instance_id,
            )
        revival.replaces = stored.incarnation
    reply = yield from run(reruns.rerun(scope.namespace, revival))
    if reply.outcome == "exists":
        raise InstanceAlreadyExists(
            f"workflow instance {target.instance_id!r} exists already; use another id",
            target.instance_id,
        )
    return InstanceId.of(target.instance_id, output_type_of(instance_id))


def _target_id(scope: Scope, instance_id: str, given: str | None) -> str:
    if given is None:
        return new_instance_id(scope.namespace)
    # The id itself may be that of a child, which a user could not choose.
    return instance_id if given == instance_id else check_new_instance_id(given)


def _anew(codec: Codec, queue: str, birth: Record, target: Target, value: Any) -> Revival:
    """A run without any history."""
    before = birth[B_EXTRA] or {}
    payload, given = birth[B_INPUT], not before.get("noinput")
    if value is not SAME_INPUT:
        payload, given = codec.encode(value, "input of workflow", birth[B_NAME]), value is not None
    extra: dict[str, Any] = {} if given else {"noinput": True}
    fields: dict[str, str | bytes] = {"name": birth[B_NAME]}
    if before.get("tags"):
        extra["tags"] = before["tags"]
        fields["tags"] = orjson.dumps(before["tags"])
    tail = [target.incarnation, 0, birth[B_NAME], payload, None, extra or None]
    return Revival(
        instance_id=target.instance_id,
        incarnation=target.incarnation,
        queue=queue,
        birth_tail=b"," + orjson.dumps(tail)[1:],
        begin=True,
        fields=fields,
    )


def _place(records: list[Record], index: int, instance_id: str) -> Place:
    place = place_of(records, index)
    if place is None:
        last = len(expand_history(records)) - 1
        raise ConfigurationError(
            f"workflow instance {instance_id!r} has no event {index}; its history has 0 to {last}"
        )
    return place


def _changed(codec: Codec, records: list[Record], place: Place, value: Any) -> Action:
    """The action at a place, with another input. Raises: ConfigurationError, PayloadError."""
    actions = records[place.record][T_ACTIONS] if place.is_action else []
    action: Action = list(actions[place.position]) if actions else [""]
    if action[0] not in (act.SCHEDULE_TASK, act.START_CHILD):
        raise ConfigurationError(
            "only an event that schedules an activity or a child workflow can get another input; "
            "leave input away, or rerun from such an event"
        )
    if actions[-1][0] in act.TERMINAL:
        raise ConfigurationError(
            "what is scheduled in the turn that ended the instance cannot get another input; "
            "rerun from an earlier event"
        )
    at = 3 if action[0] == act.SCHEDULE_TASK else 4
    what = "input of activity" if action[0] == act.SCHEDULE_TASK else "input of child workflow"
    action[at] = codec.encode(value, what, action[2])
    opts = {name: option for name, option in (action[at + 1] or {}).items() if name != "n"}
    if value is None:
        opts["n"] = True
    action[at + 1] = opts or None
    return action
