"""From what a turn decided to what a commit writes: pure, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import orjson

from wfq.core.actions import (
    CREATE_TIMER,
    SCHEDULE_TASK,
    SEND_EVENT,
    START_CHILD,
    START_DETACHED,
    TERMINAL,
    WAIT_FOR_EVENT,
)
from wfq.core.decisions import UNSET
from wfq.core.events import (
    B_CREATED,
    B_EXTRA,
    STEPS,
    T_ACTIONS,
    T_EXTRA,
    T_NONCE,
    T_NOW,
    TURN,
    Action,
    Record,
)
from wfq.core.instance import Instance
from wfq.core.turn import CONTINUED, FINAL, Turn
from wfq.errors import TurnTooLarge
from wfq.storage import timers
from wfq.storage.keys import Namespace
from wfq.storage.partitions import DISPATCH_BATCH, SHORT, DispatchMessage, InstanceCommit
from wfq.storage.scripts import Argument
from wfq.tracing import TRACE
from wfq_workers.orchestrating.posting import Posting
from wfq_workers.tracing import Tracer, given_to

#: The activities of one turn, in the order of its tasks.
Messages = Sequence[DispatchMessage]


class Draft(InstanceCommit):
    """One instance's part of a commit, and what is to be dispatched after it."""

    __slots__ = ("cursor", "ended", "rest")

    def __init__(
        self,
        instance_id: str,
        incarnation: str,
        turns_before: int | None,
        record: bytes,
        letters: str,
        operations: list[Argument],
    ) -> None:
        # Spelled out instead of super().__init__(): one is made for every turn.
        self.instance_id = instance_id
        self.incarnation = incarnation
        self.turns_before = turns_before
        self.record = record
        self.letters = letters
        self.operations = operations
        #: Whether the instance has ended.
        self.ended = False
        #: Activities beyond the first `DISPATCH_BATCH`, and the cursor that the commit leaves.
        self.rest: Messages = ()
        self.cursor = ""


def created_ms(birth: Record) -> int:
    """When the instance was first started, over all its generations."""
    extra: dict[str, Any] | None = birth[B_EXTRA]
    return int((extra and extra.get("created")) or birth[B_CREATED])


class CommitWriter(Posting):
    """Writes the parts of one partition's commits."""

    __slots__ = ("_is_short", "_most_bytes", "_tracer")

    def __init__(
        self,
        namespace: Namespace,
        partition: int,
        queue: str,
        *,
        most_bytes: int,
        is_short: Callable[[str, str], bool] = lambda _queue, _name: False,
        note_queue: Callable[[str], None] = lambda _queue: None,
        tracer: Tracer | None = None,
    ) -> None:
        super().__init__(namespace, partition, queue, note_queue)
        self._tracer = tracer
        self._is_short = is_short
        #: What one turn may decide, in bytes.
        self._most_bytes = most_bytes

    def draft(
        self,
        instance: Instance,
        turn: Turn,
        *,
        turns_before: int | None,
        nonce: str,
        created: int,
        position: list[Any] | None = None,
        inline: Collection[int] = (),
    ) -> Draft | None:
        """The part of one turn; None when it leaves nothing to write.

        `position` is given where the batch's entries stay in the stream: queue, entry id and
        field of the last event consumed, for the next owner to skip. `inline` are those tasks of
        the turn that were run here, and have no entry. Raises: TurnTooLarge.
        """
        if position is None:
            if turn.plain:
                return self.plain(instance, turn, turns_before, inline)
            if turn.is_plain_end:
                return self._plain_end(instance, turn, turns_before, created, inline)
        record = b""
        if not turn.empty and turn.status != CONTINUED:
            document = turn.record()
            if position is not None:
                document[T_EXTRA] = {**(document[T_EXTRA] or {}), "pos": position}
            record = orjson.dumps(document)
            if len(record) > self._most_bytes:
                self._measure(instance, turn)
        elif len(turn.actions) > 1:
            self._measure(instance, turn)
        if turn.birth is not None:
            # As in a turn record; one of an earlier generation means nothing any more.
            extra = {k: v for k, v in (turn.birth[B_EXTRA] or {}).items() if k != "pos"}
            turn.birth[B_EXTRA] = {**extra, "pos": position} if position else extra
        part = Draft(instance.id, instance.inc, turns_before, record, "", [])
        part.ended = turn.status in FINAL
        if turn.actions:
            self._actions(part, instance, turn, inline)
        if turn.cancel_timers:
            for task_id, task_nonce in turn.cancel_timers:
                part.add("z", timers.timer_member(self._queue, instance.id, task_id, task_nonce))
        if turn.drop_tasks:
            self._forget_tasks(part, instance, turn)
        if turn.delivered:
            part.add("B", turn.delivered)
        if turn.version is not None:
            part.add("S", "version", turn.version)
        if turn.custom is not UNSET:
            part.add("S", "custom", orjson.dumps(turn.custom))
        if turn.status != turn.status_before:
            self._status(part, instance, turn, created)
        elif turn.status == "STALLED" and turn.stalled is not None:
            part.add("S", "stalled", turn.stalled)
        if turn.lacks_code is not None:
            self._wait_for_code(part, instance, turn)
        elif turn.status_before != "STALLED" and (
            turn.has_code_again or (turn.ended and instance.lacks_code)
        ):
            part.add("D", "stalled")
        for child_id, child_inc in turn.children_to_terminate:
            self._terminate_child(part, child_id, child_inc, nonce)
        if not record and not part.letters:
            return None
        return part

    def plain(
        self,
        instance: Instance,
        turn: Turn,
        turns_before: int | None,
        inline: Collection[int] = (),
    ) -> Draft | None:
        """What `draft` returns for a turn that is plain, where no entry stays.

        Nearly every turn is plain, and nearly every one of these schedules one activity without
        options: that is spelled out here, since what a turn costs is how much code it runs.
        Raises: TurnTooLarge.
        """
        events, actions, nonce = turn.events, turn.actions, turn.nonce
        if not events and not actions:
            return None
        extra = None if turn.steps is None else {STEPS: turn.steps}
        record = orjson.dumps([TURN, turn.now_ms, nonce, events, actions, extra])
        if len(record) > self._most_bytes:
            self._measure(instance, turn)
        instance_id, inc = instance.id, instance.inc
        if len(actions) == len(inline):
            return Draft(instance_id, inc, turns_before, record, "", [])  # all were run here
        if len(actions) != 1 or actions[0][0] != SCHEDULE_TASK or actions[0][4] is not None:
            draft = Draft(instance_id, inc, turns_before, record, "", [])
            self._actions(draft, instance, turn, inline)
            return draft
        action, queue = actions[0], self._queue
        if self._tracer is None and not instance.birth[B_EXTRA]:
            run = f"{inc}.{instance.gen}"
            message = orjson.dumps([nonce, 1, turn.now_ms, queue, run, action, None])
        else:
            message = orjson.dumps(self.message(instance, action, turn))
        if self._is_short(queue, action[2]):
            return Draft(instance_id, inc, turns_before, record, "a", [message])
        return Draft(instance_id, inc, turns_before, record, "A", [queue, message])

    def _plain_end(
        self,
        instance: Instance,
        turn: Turn,
        turns_before: int | None,
        created: int,
        inline: Collection[int],
    ) -> Draft:
        """What `draft` returns for a turn that `is_plain_end`: so nearly every instance ends."""
        actions, now_ms = turn.actions, turn.now_ms
        extra = None if turn.steps is None else {STEPS: turn.steps}
        record = orjson.dumps([TURN, now_ms, turn.nonce, turn.events, actions, extra])
        if len(record) > self._most_bytes:
            self._measure(instance, turn)
        if len(actions) == len(inline) + 1:
            draft = Draft(instance.id, instance.inc, turns_before, record, "f", [created, now_ms])
        else:
            draft = Draft(instance.id, instance.inc, turns_before, record, "", [])
            self._actions(draft, instance, turn, inline)
            draft.add("f", created, now_ms)
        draft.ended = True
        return draft

    def _measure(self, instance: Instance, turn: Turn) -> None:
        """Refuse what no server may be asked to take. Raises: TurnTooLarge."""
        # A step may decide as much as a turn; those before the last are small, see inline.py.
        last = turn.actions[turn.steps[-1] :] if turn.steps is not None else turn.actions
        size, most = len(orjson.dumps(last)), self._most_bytes
        if size > most:
            raise TurnTooLarge(
                f"one turn of {instance.name!r} decided {len(turn.actions)} actions of {size} "
                f"bytes together, over limits.turn_bytes ({most}): await some tasks before "
                "scheduling more, pass references instead of data, or raise the limit and restart "
                "the workers"
            )

    def message(self, instance: Instance, action: Action, turn: Turn) -> list[Any]:
        """The message of an activity that a turn has scheduled."""
        traced = self._tracer is not None or instance.birth[B_EXTRA]
        extra = self._trace(instance) if traced else None
        run = f"{instance.inc}.{instance.gen}"
        return [turn.nonce, 1, turn.now_ms, self._queue, run, action, extra]

    def _actions(
        self, part: Draft, instance: Instance, turn: Turn, inline: Collection[int]
    ) -> None:
        nonce, now_ms = turn.nonce, turn.now_ms
        # An ended run sets no timers; what it scheduled without waiting still runs.
        waits = not turn.ended
        dispatched: list[DispatchMessage] = []
        extra = self._trace(instance)
        skipped = 0
        for index, action in enumerate(turn.actions):
            code = action[0]
            if code == SCHEDULE_TASK:
                if action[1] in inline:
                    skipped += 1
                    continue
                dispatched.append(self._activity(instance, action, nonce, now_ms, waits, extra))
                opts = action[4]
                if opts is not None and "s" in opts and waits:
                    part.add(
                        "T",
                        now_ms + opts["s"],
                        timers.schedule_to_start_member(
                            opts.get("q", self._queue),
                            instance.id,
                            action[1],
                            nonce,
                            self._queue,
                        ),
                    )
            elif code == CREATE_TIMER and waits:
                member = timers.timer_member(self._queue, instance.id, action[1], nonce)
                part.add("T", action[2], member)
            elif code == WAIT_FOR_EVENT:
                if action[3] and waits:
                    member = timers.timer_member(self._queue, instance.id, action[1], nonce)
                    part.add("T", action[3], member)
            elif code == START_CHILD:
                self._child(part, instance, action, turn, extra)
            elif code == SEND_EVENT:
                self._send_event(part, action, f"{nonce}.{index}")
            elif code == START_DETACHED:
                self._detached(part, action, f"{nonce}.d{index}")
        # The next generation's history does not tell what was left to dispatch.
        most = len(dispatched) if turn.status == CONTINUED else DISPATCH_BATCH
        for queue, message, watched in dispatched[:most]:
            if watched == SHORT:
                if queue == self._queue:
                    part.add("a", message)
                else:
                    part.add("q", queue, message)
            elif watched:
                part.add("Y", queue, message, watched)
            else:
                part.add("A", queue, message)
        if len(dispatched) > most:
            part.rest = dispatched[most:]
            # Counted in the record, of which those that were run here are the first.
            part.cursor = f"{nonce} {most + skipped}"
            part.add("U", part.cursor)

    def _trace(self, instance: Instance) -> dict[str, str] | None:
        """What goes along with the activities and children of an instance: its trace."""
        if self._tracer is not None:
            found = self._tracer.workflow_context(instance.id, instance.inc, instance.birth)
            return {TRACE: found}
        given = given_to(instance.birth)
        return {TRACE: given} if given else None

    def _activity(
        self,
        instance: Instance,
        action: Action,
        nonce: str,
        now_ms: int,
        waits: bool,
        extra: dict[str, str] | None,
    ) -> DispatchMessage:
        opts = action[4]
        queue, watched = self._queue, ""
        if opts is not None:
            queue = self._target(opts)
            if waits and "s" in opts:
                watched = f"{action[1]} {nonce}"
        if not watched and self._is_short(queue, action[2]):
            watched = SHORT
        run = f"{instance.inc}.{instance.gen}"
        message = orjson.dumps([nonce, 1, now_ms, self._queue, run, action, extra])
        return queue, message, watched

    def rest_of(self, instance: Instance, record: Record, offset: int) -> Messages:
        """The activities of a recorded turn from `offset` on, as its commit would add them."""
        tasks = [action for action in record[T_ACTIONS] if action[0] == SCHEDULE_TASK]
        nonce, now_ms = record[T_NONCE], record[T_NOW]
        waits = record[T_ACTIONS][-1][0] not in TERMINAL
        extra = self._trace(instance)
        return [
            self._activity(instance, task, nonce, now_ms, waits, extra) for task in tasks[offset:]
        ]

    def _forget_tasks(self, part: InstanceCommit, instance: Instance, turn: Turn) -> None:
        """What waits for open activities of an ended run goes: retries, timeouts, heartbeats."""
        for task_id, nonce, action in turn.drop_tasks:
            opts = action[4]
            if opts is None:
                continue
            queue = opts.get("q", self._queue)
            if "r" in opts:
                part.add("h", timers.task_field(instance.id, task_id, nonce))
                part.add("z", timers.retry_member(queue, instance.id, task_id, nonce))
            if "s" in opts:
                member = timers.schedule_to_start_member(
                    queue, instance.id, task_id, nonce, self._queue
                )
                part.add("z", member)
                part.add("h", f"s {instance.id} {task_id} {nonce}")

    def _status(self, part: InstanceCommit, instance: Instance, turn: Turn, created: int) -> None:
        before, after = turn.status_before, turn.status
        if after == CONTINUED:
            birth = orjson.dumps(turn.birth)
            part.add("N", birth)
            start = b'["S",%b,%b]' % (orjson.dumps(instance.inc), birth)
            part.add("E", self._queue, instance.id, start)
            after = "RUNNING"
            if before != after:
                part.add("D", "status")
        elif after in FINAL:
            if before == "RUNNING" and after == "COMPLETED":
                part.add("f", created, turn.now_ms)
            else:
                part.add("F", before, after, created, turn.now_ms)
            self._tell_parent(part, instance, turn)
        elif after == "RUNNING" and before == "SUSPENDED" and not instance.begun:
            due = timers.delayed_start_member(self._queue, instance.id, instance.inc)
            part.add("W", due, created)
            return
        elif after == "RUNNING":
            part.add("D", "status")
        else:
            part.add("S", "status", after)
        if not instance.begun and before == "RUNNING":
            # It waits for its delayed start, in the index of PENDING; or is just due.
            part.add("I", "PENDING", after, created)
        if not instance.begun and after in FINAL:
            part.add("z", timers.delayed_start_member(self._queue, instance.id, instance.inc))
        if after == "STALLED":
            part.add("S", "stalled", turn.stalled or "")
        elif before == "STALLED":
            part.add("D", "stalled")
        if before != after and after not in FINAL:
            part.add("I", before, after, created)

    def _wait_for_code(self, part: InstanceCommit, instance: Instance, turn: Turn) -> None:
        """Say why it does not go on, and wake it to look again."""
        if not turn.empty:
            part.add("S", "stalled", turn.lacks_code or "")
        part.add(
            "T", turn.look_again_ms, timers.wake_member(self._queue, instance.id, instance.inc)
        )
