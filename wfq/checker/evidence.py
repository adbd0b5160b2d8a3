"""Finding what will resolve an open task, and saying it in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from wfq.checker.ledger import Ledger, Open
from wfq.core import actions as act
from wfq.core import events as ev
from wfq.storage.adoption import child_lineage, is_of_task
from wfq.storage.inspection import Entry, InstanceState, Look, WaitingEvent
from wfq.storage.keys import Namespace
from wfq.storage.timers import retry_member, task_field, timer_member

ENDED = frozenset({"COMPLETED", "FAILED", "TERMINATED"})


@dataclass(frozen=True, slots=True)
class Wake:
    """What will resolve a task; `missing` names the invariant that fails when nothing will."""

    text: str
    missing: str = ""


class Evidence:
    """All that one look shows for one instance.

    `far` are looks at other partitions, for the children that live there.
    """

    def __init__(
        self,
        namespace: Namespace,
        look: Look,
        state: InstanceState,
        ledger: Ledger,
        far: Mapping[int, Look],
    ) -> None:
        self.namespace = namespace
        self.look = look
        self.state = state
        self.ledger = ledger
        self.far = far
        self.queue = state.fields.get("queue", "")
        own = state.instance_id
        #: Events of this incarnation (those without one are told by their nonces) that no
        #: partial commit has consumed.
        self.events = [
            e
            for e in look.events
            if e.instance_id == own
            and e.inc in ("", state.fields.get("inc", ""))
            and not _is_consumed(e, ledger)
        ]
        self._entries: dict[tuple[int, str], list[Entry]] = {}
        for entry in look.entries:
            if entry.instance_id == own:
                self._entries.setdefault((entry.task_id, entry.nonce), []).append(entry)
        self._resolutions: dict[tuple[int | None, str], list[WaitingEvent]] = {}
        for event in self.events:
            self._resolutions.setdefault((event.task_id, event.nonce), []).append(event)

    def wake(self, task: Open) -> Wake:
        """What will resolve an open task."""
        match task.kind:
            case act.SCHEDULE_TASK:
                return self._activity(task)
            case act.CREATE_TIMER:
                return self._timer(task, f"timer {task.task_id}")
            case act.WAIT_FOR_EVENT:
                name = (
                    f"event {task.action[2]!r} (task {task.task_id}) since {at_text(task.since_ms)}"
                )
                return self._timer(task, name) if task.due_ms is not None else Wake(name)
            case _:
                return self._child(task)

    def resolution(self, task: Open, codes: str) -> WaitingEvent | None:
        """The event in a stream that resolves a task."""
        for event in self._resolutions.get((task.task_id, task.nonce), ()):
            if event.code in codes:
                return event
        return None

    def entries_of(self, task: Open) -> list[Entry]:
        """The entries of an activity task in its stream."""
        return self._entries.get((task.task_id, task.nonce), [])

    # --- activities

    def _activity(self, task: Open) -> Wake:
        name = f"activity {task.action[2]} (task {task.task_id})"
        if self.resolution(task, ev.COMPLETED + ev.FAILED):
            return Wake(f"{name}: its outcome waits in the stream")
        entries = self.entries_of(task)
        for entry in entries:
            if entry.state == "pending":
                return Wake(f"{name}, attempt {entry.attempt}, pending on worker {_held(entry)}")
        for entry in entries:
            if entry.state == "new":
                return Wake(
                    f"{name}, attempt {entry.attempt}, waits for a worker of queue {entry.queue}"
                )
        due = self.look.timers.get(self._retry(task))
        if due is not None and task_field(*self._task(task)) in self.look.tasks:
            return Wake(f"{name}: next attempt due {at_text(due)}")
        if self.is_undispatched(task):
            return Wake(f"{name}: its dispatch goes on when the partition has an owner")
        if due is not None:
            return Wake(f"{name}: its retry has no message", "W3")
        if entries:
            return Wake(f"{name}: its entry was delivered, but nobody holds it", "W3")
        return Wake(f"{name}: there is no entry, retry or outcome", "W3")

    def _task(self, task: Open) -> tuple[str, int, str]:
        return self.state.instance_id, task.task_id, task.nonce

    def activity_queue(self, task: Open) -> str:
        """The activity queue of an activity task."""
        return str((task.action[4] or {}).get("q", self.queue))

    def retry_due(self, task: Open) -> int | None:
        """When the next attempt of an activity task is due; None without one."""
        return self.look.timers.get(self._retry(task))

    def _retry(self, task: Open) -> str:
        return retry_member(self.activity_queue(task), *self._task(task))

    def is_undispatched(self, task: Open) -> bool:
        nonce, _, offset = self.state.cursor.partition(" ")
        if nonce != task.nonce:
            return False
        # The cursor counts the activities of its turn.
        return self.ledger.activities[nonce].index(task.task_id) >= int(offset or 0)

    # --- timers

    def _timer(self, task: Open, name: str) -> Wake:
        if self.resolution(task, ev.FIRED):
            return Wake(f"{name}: its firing waits in the stream")
        due = self.look.timers.get(timer_member(self.queue, *self._task(task)))
        if due is not None:
            word = "times out" if task.kind == act.WAIT_FOR_EVENT else "due"
            return Wake(f"{name}, {word} {at_text(due)}")
        return Wake(f"{name}: it is not among the timers", "W4")

    # --- children

    def child(self, child_id: str) -> InstanceState | None:
        """What a look shows of a child; None when there is no look at its partition."""
        home = self.namespace.partition_of(child_id)
        look = self.look if home == self.look.partition else self.far.get(home)
        return None if look is None else look.instances.get(child_id)

    def is_child(self, task: Open, child: InstanceState) -> bool:
        """Whether an instance is the child of a task, and its outcome will be for it."""
        return task.child_inc in (child.fields.get("inc"), child.fields.get("adopted"))

    def is_kin(self, task: Open, child: InstanceState) -> bool:
        """Whether it was started for this task in a time that this shard has lost."""
        generation = int(self.state.fields.get("gen", 0))
        if not (child.fields and child.records) or child.fields.get("inc") == task.child_inc:
            return False
        lineage = child_lineage(orjson.loads(self.state.records[0]), generation, task.task_id)
        birth = orjson.loads(child.records[0])
        return is_of_task(birth, self._parent(task), generation, lineage)

    def _parent(self, task: Open) -> list[str | int]:
        inc = self.state.fields.get("inc", "")
        return [self.state.instance_id, inc, task.task_id, task.nonce]

    def is_posted(self, task: Open) -> bool:
        """Whether a child's start or outcome is in an outbox, or its outcome in the stream."""
        child_id = task.action[3]
        if self.resolution(task, ev.COMPLETED + ev.FAILED):
            return True
        look = self.far.get(self.namespace.partition_of(child_id), self.look)
        own = self.state.instance_id
        return _is_posted_start(self.look, child_id, task.child_inc) or _is_posted_outcome(
            look, own, task
        )

    def _child(self, task: Open) -> Wake:
        child_id = task.action[3]
        name = f"child {child_id} (task {task.task_id})"
        if self.is_posted(task):
            return Wake(f"{name}: its start or its outcome is on the way")
        child = self.child(child_id)
        if child is None or not self.is_child(task, child):
            if child is not None and self.is_kin(task, child):
                return Wake(f"{name}: it was started for a task that is lost", "W5")
            return Wake(f"{name}: it was never started, and no message about it is left", "W5")
        if child.status in ENDED:
            return Wake(f"{name}: it has {child.status}, and nobody was told", "W5")
        reason = child.fields.get("stalled")
        return Wake(f"{name}, {child.status or 'RUNNING'}{f': {reason}' if reason else ''}")


def _is_consumed(event: WaitingEvent, ledger: Ledger) -> bool:
    if ledger.position is None or ledger.position[0] != event.queue:
        return False
    ms, _, seq = event.entry_id.partition(b"-")
    return ((int(ms), int(seq)), event.index) <= ledger.position[1:]


def _is_posted_start(look: Look, child_id: str, inc: str) -> bool:
    return any(
        m.kind == "C" and m.values[0] == child_id and m.values[1] == inc for _, m in look.outbox
    )


def _is_posted_outcome(look: Look, parent_id: str, task: Open) -> bool:
    beginnings = tuple(f'["{code}",{task.task_id},"{task.nonce}"' for code in "CX")
    return any(
        m.kind == "E" and m.values[0] == parent_id and m.values[3].startswith(beginnings)
        for _, m in look.outbox
    )


def _held(entry: Entry) -> str:
    times = f", delivered {entry.deliveries} times" if entry.deliveries > 1 else ""
    return f"{entry.consumer} (silent for {entry.idle_ms / 1000:.1f} s{times})"


def at_text(ms: int) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
