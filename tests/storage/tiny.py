"""A tiny engine for the model-based test: owners, workers and carriers that take one step a call.

Real workflows run on the real core, and the scripts do the rest. Unlike the real workers, these
can be stopped between any two calls, lose a reply, send a call twice, and go on as zombies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson

from tests.storage.kit import QUEUE, Store, messages_of
from wfq.core.context import WorkflowContext
from wfq.core.instance import Instance
from wfq.core.retry import RetryPolicy
from wfq.core.tasks import when_all, when_any
from wfq.core.turn import CONTINUED, FINAL
from wfq.registry import Registry
from wfq.storage import activities, instances, outbox, partitions
from wfq.storage.activities import ActivityMessage, Completed, Dead, HandBack, Outcome, Retry
from wfq.storage.partitions import Committed, InstanceCommit, Taken
from wfq.storage.scripts import Call
from wfq_workers.orchestrating.commits import CommitWriter, created_ms

Flow = Any
RETRY = RetryPolicy(first_retry_interval=timedelta(seconds=5), max_number_of_attempts=3)
HOUR = timedelta(hours=1)


def chain(ctx: WorkflowContext) -> Flow:
    """Two activities, the second with every option an activity can have."""
    first = yield ctx.call_activity("work", input=1)
    second = yield ctx.call_activity(
        "work",
        input=first,
        retry_policy=RETRY,
        schedule_to_start_timeout=HOUR,
        heartbeat_timeout=HOUR,
    )
    return [first, second]


def approval(ctx: WorkflowContext) -> Flow:
    """An event against its timeout, then one without."""
    try:
        yield ctx.wait_for_external_event("go", timeout=HOUR)
    except TimeoutError:
        yield ctx.call_activity("work", input="late")
    yield ctx.wait_for_external_event("go")
    return "done"


def fan_out(ctx: WorkflowContext) -> Flow:
    """Three activities and a timer; one more that nobody awaits."""
    ctx.call_activity("work", input="forgotten")
    tasks = [ctx.call_activity("work", input=n, retry_policy=RETRY) for n in range(3)]
    yield when_any([*tasks, ctx.create_timer(HOUR)])
    yield when_all(tasks)
    return len(tasks)


def monitor(ctx: WorkflowContext, left: int = 2) -> Flow:
    """Continues as new twice, carrying its events."""
    task = ctx.call_activity("work", input=left)
    yield when_any([task, ctx.create_timer(HOUR), ctx.wait_for_external_event("go")])
    if left:
        ctx.continue_as_new(left - 1, save_events=left % 2 == 0)
        return None
    return "over"


def parent(ctx: WorkflowContext) -> Flow:
    """A child beside it, one in the other partition, and an event for each."""
    near = ctx.call_child_workflow("chain")
    far = ctx.call_child_workflow("approval", instance_id=f"far-{ctx.instance_id}")
    ctx.send_event(f"far-{ctx.instance_id}", "go", 1)
    try:
        first = yield near
    except Exception as exc:
        first = type(exc).__name__
    try:
        yield far
    except Exception as exc:
        return [first, type(exc).__name__]
    return [first, "far"]


PROGRAMS = ("chain", "approval", "fan_out", "monitor", "parent")


def new_registry() -> Registry:
    registry = Registry()
    for function in (chain, approval, fan_out, monitor, parent):
        registry.register_workflow(function)
    return registry


@dataclass
class Held:
    """The batch an owner has in hand: entries of one read, or what is left of them."""

    entries: list[tuple[bytes, list[tuple[str, Any]]]]
    #: Instances of it whose part was committed alone already.
    settled: set[str] = field(default_factory=set)
    #: Parts of theirs without a record: only the commit that takes the entries out carries them.
    late: list[InstanceCommit] = field(default_factory=list)

    @property
    def last(self) -> bytes:
        return self.entries[-1][0]

    def works(self) -> dict[str, list[tuple[bytes, int, Any]]]:
        """Per instance: (entry id, field number, event), in order."""
        found: dict[str, list[tuple[bytes, int, Any]]] = {}
        for entry_id, pairs in self.entries:
            for index, (instance_id, event) in enumerate(pairs):
                if instance_id not in self.settled:
                    found.setdefault(instance_id, []).append((entry_id, index, event))
        return found


class Owner:
    """An orchestrator lane of one partition, one step a call."""

    def __init__(self, store: Store, partition: int, name: str, registry: Registry) -> None:
        self.store = store
        self.partition = partition
        self.name = name
        self._registry = registry
        self._writer = CommitWriter(store.ns, partition, QUEUE, most_bytes=1 << 22)
        self._tokens = 0
        self._turns = 0
        self._empty = False
        self.token = ""
        self.position = b"0"
        self.removals = ""
        self.held: Held | None = None
        self.cache: dict[str, tuple[Instance, int]] = {}
        self.consumed: dict[str, tuple[tuple[int, int], int]] = {}
        self.sent: Call[Committed] | None = None

    def own(self, *, by_force: bool) -> bool:
        """Take the lease, if it is free or `by_force` has let it expire."""
        if by_force:
            self.store.command("HSET", self.store.ns.lease(self.partition, QUEUE), "expires", 0)
        self._tokens += 1
        token = f"{self.name}{self._tokens}"
        reply = self.store.acquire(
            token, owner=self.name, present=self.token, partition=self.partition,
            # Where a part of a batch was committed, its events would come a second time.
            position=b"" if b"+" in self.position else self.position,
        )  # fmt: skip
        if not isinstance(reply, Taken):
            self.abandon()
            return False
        if not reply.continued:
            self.abandon()
        self.token, self.position, self.removals, self.held = token, b"0", "", None
        for instance_id, cursor in reply.cursors.items():
            self._dispatch(instance_id, cursor)
        return True

    def abandon(self) -> None:
        """Forget everything: after anything odd."""
        self.cache.clear()
        self.consumed.clear()
        self.held = None

    def read(self, count: int) -> bool:
        """Read a batch, unless one is in hand; False when there is none."""
        if self.held is None and self.token:
            try:
                entries = self.store.read_events(self.token, count=count, partition=self.partition)
            except Exception as exc:
                if "NOGROUP" not in str(exc) and "key to exist" not in str(exc):
                    raise
                self.abandon()
                return False
            if entries:
                self.held = Held(entries)
        return self.held is not None

    def draft_all(self) -> Call[Committed] | None:
        """Run every turn of the batch in hand; the commit that finishes it."""
        if self.held is None:
            return None
        held, parts = self.held, list(self.held.late)
        for instance_id, work in held.works().items():
            made = self._turn(instance_id, work, alone=False)
            if made is not None:
                parts.append(made)
        self.held = None
        return self._commit(parts, held.last)

    def draft_one(self) -> Call[Committed] | None:
        """Run the turn of one instance alone; its commit leaves the batch in the stream."""
        for instance_id, work in self.held.works().items() if self.held else ():
            assert self.held is not None
            self.held.settled.add(instance_id)
            made = self._turn(instance_id, work, alone=True)
            if made is not None and self._empty:
                self.held.late.append(made)
                made = None
            return None if made is None else self._commit([made], None)
        return None

    def settle(self, call: Call[Committed]) -> Committed:
        """Send a commit and take its answer."""
        self.sent = call
        reply = self.store.run(call)
        if reply.stale:
            self.abandon()
        else:
            self.removals = reply.removals
            for instance_id in reply.dropped:
                self.cache.pop(instance_id, None)
        return reply

    def _commit(self, parts: list[InstanceCommit], last: bytes | None) -> Call[Committed]:
        position, self.position = self.position, partitions.position_after(self.position, last)
        return partitions.commit(
            self.store.ns, self.partition, QUEUE, token=self.token, position=position,
            last_entry=last, notice="", parts=parts, removals=self.removals,
        )  # fmt: skip

    def _turn(
        self, instance_id: str, work: list[tuple[bytes, int, Any]], *, alone: bool
    ) -> InstanceCommit | None:
        loaded = self._load(instance_id, work)
        if loaded is None:
            return None
        instance, created = loaded
        events = [event for _, _, event in work]
        self._turns += 1
        nonce = f"{self.token}-{self._turns}"
        before = instance.turns
        turn = instance.apply(events, self.store.now(), nonce)
        self._empty = turn.empty
        position = [QUEUE, work[-1][0].decode(), work[-1][1]] if alone and work else None
        draft = self._writer.draft(
            instance, turn, turns_before=before, nonce=nonce, created=created, position=position
        )
        if turn.status in FINAL:
            self.cache.pop(instance_id, None)
        elif turn.status == CONTINUED:
            following = Instance.load(instance_id, [turn.birth], self._registry)  # type: ignore[list-item]
            self.cache[instance_id] = (following, created)
        else:
            self.cache[instance_id] = (instance, created)
        return draft

    def _load(
        self, instance_id: str, work: list[tuple[bytes, int, Any]]
    ) -> tuple[Instance, int] | None:
        cached = self.cache.get(instance_id)
        if cached is None or any(e[0] == "S" and e[1] != cached[0].inc for _, _, e in work):
            call = instances.fetch(self.store.ns, self.partition, [instance_id])
            (stored,) = self.store.run(call)
            if stored is None:
                return None
            records = [orjson.loads(record) for record in stored.records]
            last = records[-1]
            position = ((last[5] if last[0] == "T" else last[7]) or {}).get("pos")
            if position:
                self.consumed[instance_id] = (_number(position[1].encode()), position[2])
            cached = Instance.load(instance_id, records, self._registry), created_ms(records[0])
        done = self.consumed.get(instance_id)
        if done is not None:
            # What a partial commit of an earlier owner has consumed.
            work[:] = [item for item in work if (_number(item[0]), item[1]) > done]
        return cached

    def _dispatch(self, instance_id: str, cursor: str) -> None:
        raise AssertionError("no program of the model schedules so much")


def _number(entry_id: bytes) -> tuple[int, int]:
    ms, _, seq = entry_id.partition(b"-")
    return int(ms), int(seq)


@dataclass
class Attempt:
    """An activity attempt some worker believes to hold."""

    partition: int
    item: ActivityMessage
    nonce: str
    number: int
    home: str
    run: str
    task_id: int
    opts: dict[str, Any]

    @classmethod
    def of(cls, partition: int, item: ActivityMessage) -> Attempt:
        nonce, number, _, home, run, action, _ = orjson.loads(item.value)
        return cls(partition, item, nonce, number, home, run, action[1], action[4] or {})

    @property
    def task(self) -> str:
        return f"{self.task_id} {self.nonce}"

    def outcome(self, kind: str) -> Outcome:
        """What a worker reports: "done", "failed", "dead" or "back"."""
        item = self.item
        if kind == "back":
            return HandBack(item.entry_id, item.instance_id, item.value)
        if kind == "dead":
            failure = self._event("X", {"type": "WorkerLost", "message": "", "stack": ""})
            return Dead(
                item.entry_id, self.home, item.instance_id, failure, "WorkerLost", item.value,
                self.task_id, self.nonce,
            )  # fmt: skip
        policy = self.opts.get("r")
        if kind == "failed" and policy and self.number < policy[1]:
            document = orjson.loads(item.value)
            document[1] += 1
            return Retry(
                item.entry_id, item.instance_id, self.task_id, self.nonce, self.run, 60_000,
                orjson.dumps(document),
            )  # fmt: skip
        if kind == "failed":
            event = self._event("X", {"type": "Boom", "message": "", "stack": ""})
        else:
            event = self._event("C", f"{item.instance_id}:{self.run}:{self.task_id}")
        return Completed(item.entry_id, self.home, item.instance_id, event, self.task)

    def _event(self, code: str, value: Any) -> bytes:
        return orjson.dumps([code, self.task_id, self.nonce, value])


def take(store: Store, partition: int, consumer: str, count: int) -> list[Attempt]:
    items = store.take(consumer, count=count, partition=partition)
    return [Attempt.of(partition, item) for item in items]


def claim(store: Store, partition: int, consumer: str) -> list[Attempt]:
    call = activities.claim_tasks(store.ns, partition, QUEUE, consumer, idle_ms=0, count=100)
    return [Attempt.of(partition, item) for item in messages_of(partition, store.run(call))]


def read_outbox(store: Store, source: int) -> list[tuple[bytes, outbox.Message]]:
    return outbox.parse_messages(store._raw(*outbox.read_command(store.ns, source)))


def by_target(
    store: Store, messages: list[tuple[bytes, outbox.Message]]
) -> Iterator[tuple[int, list[tuple[bytes, outbox.Message]]]]:
    for target in range(store.ns.partitions):
        some = [m for m in messages if store.ns.partition_of(m[1].target) == target]
        if some:
            yield target, some


def make_due(store: Store) -> None:
    """Let time pass: every timer is due."""
    for partition in range(store.ns.partitions):
        for member in store.timers(partition):
            store.command("ZADD", store.ns.timers(partition), 1, member)
