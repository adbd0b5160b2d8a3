"""Starting instances: ids, inputs, delays, and ids that are used again."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypedDict

import orjson

from wfq.codec import Codec
from wfq.core.options import due_ms
from wfq.errors import ConfigurationError, InstanceAlreadyExists, InstanceNotFound
from wfq.management.ids import (
    InstanceId,
    chosen_instance_id,
    new_incarnation,
    new_instance_ids,
)
from wfq.management.scope import Scope
from wfq.management.steps import Command, Operation, begin, run, run_many, server_now_ms, wait
from wfq.management.waiting import Wish
from wfq.naming import workflow_ref
from wfq.storage import instances
from wfq.storage.instances import NewInstance, ReusePolicy, StartReply
from wfq.storage.keys import check_new_instance_id, check_queue
from wfq.tracing import with_trace

Workflow = Callable[..., Any] | str

#: Starts that are made and sent in one round trip: workers begin with the first while the next are
#: made, which takes the client as long as it takes them to run short ones.
STARTS_AT_ONCE = 2_000
#: Seconds that `terminate_and_replace` waits for the old instance to end.
REPLACE_TIMEOUT_S = 60.0
MAX_TAGS = 32
_TAG = re.compile(r"[A-Za-z0-9._:/@-]{1,100}\Z")
_MAX_TAG_VALUE = 500


class ReuseIdPolicy(Enum):
    """What a start means where an instance with its id exists. The default is REPLACE_FINISHED."""

    #: Any instance of the id, ended or not, is an error.
    ERROR = "error"
    #: The instance that exists is taken for the one that was to be started.
    RETURN_EXISTING = "return_existing"
    #: An instance that has ended makes way; a live one is an error.
    REPLACE_FINISHED = "replace_finished"
    #: A live instance is terminated, with its children, and makes way.
    TERMINATE_AND_REPLACE = "terminate_and_replace"

    @classmethod
    def parse(cls, policy: ReuseIdPolicy | str | None) -> ReuseIdPolicy:
        """The policy of that name. Raises: ConfigurationError."""
        if policy is None:
            return cls.REPLACE_FINISHED
        if isinstance(policy, cls):
            return policy
        try:
            return cls(str(policy).lower().replace(" ", "_").replace("-", "_"))
        except ValueError:
            known = ", ".join(member.value for member in cls)
            raise ConfigurationError(
                f"no reuse policy {policy!r:.100}; there are {known}"
            ) from None


_STORED: dict[ReuseIdPolicy, ReusePolicy] = {
    ReuseIdPolicy.ERROR: "error",
    ReuseIdPolicy.RETURN_EXISTING: "existing",
    ReuseIdPolicy.REPLACE_FINISHED: "replace",
    ReuseIdPolicy.TERMINATE_AND_REPLACE: "replace",
}


class StartKeywords(TypedDict, total=False):
    """The keywords of `StartOptions`."""

    start_at: datetime | timedelta | None
    reuse_id_policy: ReuseIdPolicy | str | None
    tags: Mapping[str, str] | None
    app_id: str | None


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How instances are started.

    start_at: not before then (naive = UTC), or after a while; None or past = at once.
    reuse_id_policy: what an existing instance of the id means; None = one that has ended is
    replaced. tags: for lists. app_id: the application that has the code; None = the client's.
    """

    start_at: datetime | timedelta | None = None
    reuse_id_policy: ReuseIdPolicy | str | None = None
    tags: Mapping[str, str] | None = None
    app_id: str | None = None


def start(
    scope: Scope,
    workflow: Workflow,
    value: Any,
    instance_id: str | None,
    options: StartOptions,
) -> Operation[InstanceId[Any]]:
    """Start one instance and return its id."""
    made = yield from _prepare(scope, workflow, options)
    given = chosen_instance_id(scope.namespace, instance_id)
    item = made.item(made.payload(value), given)
    reply = yield from begin(item)
    if made.policy is ReuseIdPolicy.TERMINATE_AND_REPLACE and reply.outcome == "exists":
        yield from _end(scope, item.instance_id)
        reply = yield from begin(item)
    made.check(item, reply)
    return InstanceId.of(item.instance_id, made.output_type)


def start_many(
    scope: Scope,
    workflow: Workflow,
    values: Iterable[Any],
    instance_ids: Iterable[str] | None,
    options: StartOptions,
) -> Operation[list[InstanceId[Any]]]:
    """Start one instance per value, in few round trips; ids in the order of the values."""
    made = yield from _prepare(scope, workflow, options)
    if made.policy is ReuseIdPolicy.TERMINATE_AND_REPLACE:
        raise ConfigurationError("starting many cannot terminate_and_replace; start one by one")
    # All are checked before the first is sent.
    payloads = [made.payload(value) for value in values]
    given = _ids(scope, len(payloads), instance_ids)
    ids: list[InstanceId[Any]] = []
    refused: InstanceAlreadyExists | None = None
    for at in range(0, len(payloads), STARTS_AT_ONCE):
        there = slice(at, at + STARTS_AT_ONCE)
        part = list(map(made.item, payloads[there], given[there]))
        replies = yield from _start_batch(scope, part)
        for item, reply in zip(part, replies, strict=True):
            try:
                made.check(item, reply)
            except InstanceAlreadyExists as exc:
                refused = refused or exc
            ids.append(InstanceId.of(item.instance_id, made.output_type))
    if refused is not None:
        raise refused
    return ids


def _ids(scope: Scope, count: int, instance_ids: Iterable[str] | None) -> list[str]:
    """The given ids, checked, or new ones. Raises: InvalidIdentifier, ConfigurationError."""
    if instance_ids is None:
        return new_instance_ids(scope.namespace, count)
    ids = [check_new_instance_id(one) for one in instance_ids]
    if count != len(ids):
        raise ConfigurationError(
            f"{count} inputs and {len(ids)} instance ids; each input needs its id"
        )
    return ids


def _start_batch(scope: Scope, items: Sequence[NewInstance]) -> Operation[list[StartReply]]:
    """Start instances in one round trip; replies in the order of the items."""
    by_partition: dict[int, list[int]] = {}
    for number, item in enumerate(items):
        partition = scope.namespace.partition_of(item.instance_id)
        by_partition.setdefault(partition, []).append(number)
    batches = [
        (partition, numbers[at : at + instances.BATCH])
        for partition, numbers in by_partition.items()
        for at in range(0, len(numbers), instances.BATCH)
    ]
    answers = yield from run_many(
        [
            instances.start(scope.namespace, partition, [items[n] for n in numbers])
            for partition, numbers in batches
        ]
    )
    replies: dict[int, StartReply] = {}
    for (_, numbers), answer in zip(batches, answers, strict=True):
        replies.update(zip(numbers, answer, strict=True))
    return [replies[n] for n in range(len(items))]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What all instances of one start call share."""

    name: str
    output_type: Any
    queue: str
    codec: Codec
    policy: ReuseIdPolicy
    extra: dict[str, Any] | None
    due_ms: int | None

    def payload(self, value: Any) -> bytes | None:
        """An input as it is stored; None for none. Raises: PayloadError."""
        if value is None:
            return None
        return orjson.dumps(self.codec.encode(value, "input of workflow", self.name))

    def item(self, payload: bytes | None, instance_id: str) -> NewInstance:
        """One new instance."""
        return NewInstance(
            instance_id=instance_id,
            incarnation=new_incarnation(),
            queue=self.queue,
            name=self.name,
            input=payload,
            extra=self.extra,
            due_ms=self.due_ms,
            policy=_STORED[self.policy],
        )

    def check(self, item: NewInstance, reply: StartReply) -> None:
        """Raises: InstanceAlreadyExists where the policy does not allow what was found."""
        if reply.outcome == "started" or self.policy is ReuseIdPolicy.RETURN_EXISTING:
            return
        status = reply.status or "RUNNING"
        ended = status in instances.TERMINAL
        hint = "another id, or reuse_id_policy='replace_finished'" if ended else "another id"
        raise InstanceAlreadyExists(
            f"workflow instance {item.instance_id!r} exists already and is {status}; use {hint}",
            item.instance_id,
        )


def _prepare(scope: Scope, workflow: Workflow, options: StartOptions) -> Operation[_Prepared]:
    name, output_type = workflow_ref(workflow)
    policy = ReuseIdPolicy.parse(options.reuse_id_policy)
    tags = checked_tags(options.tags)
    queue = scope.app_id if options.app_id is None else check_queue(options.app_id)
    if queue not in scope.told_queues:
        # So that whoever looks after queues that nobody serves knows of it.
        yield Command(("SADD", scope.namespace.queues, queue))
        scope.told_queues.add(queue)
    due = yield from when_due(options.start_at)
    extra = with_trace({"tags": tags} if tags else None)
    return _Prepared(name, output_type, queue, scope.codec, policy, extra, due)


def when_due(start_at: datetime | timedelta | None) -> Operation[int | None]:
    """When the first turn is due, in epoch ms; None for at once."""
    if start_at is None:
        return None
    now_ms = int(time.time() * 1000)
    if isinstance(start_at, timedelta):
        # Delays count from the server's clock, which also decides when they are over.
        now_ms = yield from server_now_ms()
    due = due_ms(start_at, now_ms, "start_at")
    return due if due > now_ms else None


def checked_tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    """Return tags that can be stored and looked for. Raises: ConfigurationError."""
    found = dict(tags or {})
    if len(found) > MAX_TAGS:
        raise ConfigurationError(f"{len(found)} tags are over the limit of {MAX_TAGS}")
    for key, value in found.items():
        if not isinstance(key, str) or not _TAG.match(key):
            raise ConfigurationError(
                f"tag {key!r:.100} is not allowed; "
                "use 1 to 100 of the characters A-Z a-z 0-9 . _ : / @ -"
            )
        if not isinstance(value, str) or len(value) > _MAX_TAG_VALUE:
            raise ConfigurationError(
                f"the value of tag {key!r} must be a text of at most {_MAX_TAG_VALUE} characters"
            )
    return found


def _end(scope: Scope, instance_id: str) -> Operation[None]:
    """Terminate an instance and wait until it has ended."""
    partition = scope.namespace.partition_of(instance_id)
    tail = instances.lifecycle_command(uuid.uuid4().hex, "terminate", {"recursive": True})
    item = (instance_id, "", "L", tail)
    yield from run(instances.append(scope.namespace, partition, [item], scope.inbox_events))
    try:
        yield from wait(Wish(instance_id, payloads=False, timeout_s=REPLACE_TIMEOUT_S))
    except InstanceNotFound:
        pass  # it was purged meanwhile: the id is free
