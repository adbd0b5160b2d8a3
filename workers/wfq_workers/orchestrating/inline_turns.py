"""The turns of one batch in a program with inline activities.

What an inline activity returns is there before the turn that scheduled it is committed. It is
consumed in that very turn, as a further *step* of it (`wfq.core.steps`): one record, one part of
the commit, and next to nothing besides what the code itself does. Three things begin a turn of
its own instead, in the same commit:

* the time: a turn has one, so what comes back in a later millisecond is for a later turn, whose
  timers count from then;
* the size: earlier steps together are small, so that the limits of a turn are those of its last;
* the length of the history, which is looked at before every turn.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import orjson

from wfq import failpoints
from wfq.core.actions import SCHEDULE_TASK
from wfq.core.events import COMPLETED, Action, Event
from wfq.core.instance import Instance
from wfq.core.turn import Turn
from wfq.storage import timers
from wfq.storage.activities import Retry
from wfq.storage.partitions import DISPATCH_BATCH, InstanceCommit
from wfq_workers.orchestrating.inline import (
    MOST_STEPS,
    InlineActivities,
    InlineFacts,
    failed_attempt,
)
from wfq_workers.orchestrating.partition import OwnedPartition

#: Bytes of what the earlier steps of one turn consumed and decided, at most; and of `turn_bytes`.
STEPS_BYTES, STEPS_PART = 64 * 1024, 4
#: Payloads of a few bytes.
_FLAT = frozenset((int, float, bool, type(None)))


class InlineTurns:
    """Brings to turns the results of what they decide; begins further ones where it must.

    A batch hands it to every turn that it runs, with `instance` set. Where that has run
    anything, which `used` tells, it then calls `go_on` and, with the last turn's part, `finish`.
    here: the tasks of the last turn that were run in it. nonce, turns_before: of that turn.
    now_ms: the server's time, which goes on meanwhile.
    """

    __slots__ = (
        "_activities",
        "_base_ms",
        "_begun",
        "_calls",
        "_left",
        "_most_bytes",
        "_most_events",
        "_next_at",
        "_operations",
        "_partition",
        "_size",
        "_steps_left",
        "_token",
        "_watch",
        "here",
        "instance",
        "names",
        "nonce",
        "now_ms",
        "turns_before",
        "used",
    )
    instance: Instance

    def __init__(
        self, activities: InlineActivities, partition: OwnedPartition, token: str, now_ms: int
    ) -> None:
        limits = partition.engine.host.limits
        self._partition = partition
        self._token = token
        self._activities = activities
        self._calls = self.names = activities.calls
        self._watch = partition.engine.watch
        self._most_bytes = min(STEPS_BYTES, limits.turn_bytes // STEPS_PART)
        self._most_events = limits.history_events
        # The server's clock is read once a batch, and carried on by ours.
        self.now_ms = self._base_ms = now_ms
        self._begun = monotonic()
        #: When that clock gets to the next millisecond.
        self._next_at = self._begun + 0.001
        self.used = False
        self.nonce = ""
        self.turns_before: int | None = None
        self.here: set[int] = set()
        self._operations: list[tuple[str, int | str, bytes | str]] = []
        #: Results that the turn left to the next one.
        self._left: list[Event] = []
        self._size = 0
        self._steps_left = MOST_STEPS

    def bring(self, turn: Turn, actions: list[Action], asked: int) -> list[Event] | None:
        """Run the inline activities that a step has decided. Raises: TurnAborted.

        None of a turn that decided so much that it is dispatched piece by piece.
        """
        if not self._steps_left or len(actions) > DISPATCH_BATCH:
            return None
        if not self.used:
            self.used = True
            self.here, self._operations = set(), []
        self._steps_left -= 1
        instance, nonce, here = self.instance, turn.nonce, self.here
        calls, watch = self._calls, self._watch
        events: list[Event] = []
        for action in actions[asked:] if asked else actions:
            call = calls.get(action[2]) if action[0] == SCHEDULE_TASK else None
            if call is None:
                self._size += len(orjson.dumps(action))
                continue
            task_id, payload = action[1], action[3]
            if type(payload) not in _FLAT:
                self._size += len(orjson.dumps(payload))
            event: Event | None
            if action[4] is not None or failpoints.ACTIVE:
                event = self._with_options(turn, action)
            else:
                facts = watch.attempt = InlineFacts(instance, action)
                try:
                    event = [COMPLETED, task_id, nonce, call(facts, payload)]
                except BaseException as exc:
                    event = self._failed(exc, turn, action)
                watch.attempt = None
            if event is not None:
                here.add(task_id)
                if event:
                    events.append(event)
                    if type(event[3]) not in _FLAT:
                        self._size += len(orjson.dumps(event[3]))
        if failpoints.ACTIVE:
            failpoints.hit("orch.after_inline")
        if monotonic() >= self._next_at:
            self._look()
        if (
            self.now_ms > turn.now_ms
            or self._size > self._most_bytes
            or instance.length + len(turn.events) >= self._most_events
        ):
            self._left = events
            return None
        return events

    def _look(self) -> int:
        """The server's time now."""
        now_ms = self.now_ms = self._base_ms + int((monotonic() - self._begun) * 1000)
        self._next_at = self._begun + (now_ms + 1 - self._base_ms) / 1000
        return now_ms

    def _with_options(self, turn: Turn, action: Action) -> Event | None:
        """As `_settled`, of an activity that may have timeouts, retries or a queue."""
        options, queue = action[4] or {}, self._partition.engine.queue
        if options.get("q", queue) != queue:
            return None
        message = self._partition.writer.message(self.instance, action, turn)
        attempt = self._activities.attempt
        return self._settled(attempt(message, self.instance.id, self._look, self._watch))

    def _failed(self, exc: BaseException, turn: Turn, action: Action) -> Event | None:
        message = self._partition.writer.message(self.instance, action, turn)
        attempt = failed_attempt(message, self.instance.id)
        return self._settled(self._activities.failed(exc, attempt, self._look()))

    def _settled(self, outcome: Event | Retry | None) -> Event | None:
        """The event of an activity, empty where it comes later; None leaves it to a worker."""
        if isinstance(outcome, Retry):
            self._retry(outcome, self._look())
            return []
        return outcome

    def _retry(self, retry: Retry, now_ms: int) -> None:
        task = (self.instance.id, retry.task_id, retry.nonce)
        member = timers.retry_member(self._partition.engine.queue, *task)
        self._operations.append(("w", timers.task_field(*task), retry.message))
        self._operations.append(("T", now_ms + retry.delay_ms, member))

    def go_on(
        self,
        turn: Turn,
        created_ms: int,
        turns_before: int | None,
        position: list[Any] | None,
        parts: list[InstanceCommit],
    ) -> Turn:
        """Run the turns that follow from results that `turn` has left, until there are none.

        Adds the parts of all but the last, which is returned. Raises: TurnAborted, TurnTooLarge.
        """
        partition, instance, nonce = self._partition, self.instance, turn.nonce
        while self._left:
            events, self._left, self._size = self._left, [], 0
            draft = partition.writer.draft(
                instance, turn, turns_before=turns_before, nonce=nonce,
                created=created_ms, position=position, inline=self.here,
            )  # fmt: skip
            assert draft is not None
            self._add_operations(draft, turn)
            parts.append(draft)
            # What this commit itself has added is not to be looked for.
            turns_before, nonce = None, partition.engine.nonce(self._token)
            self.here, self._operations = set(), []
            self._watch.turn(instance)
            turn = instance.apply(events, self.now_ms, nonce, self)
        self.nonce, self.turns_before = nonce, turns_before
        return turn

    def finish(self, part: InstanceCommit, turn: Turn) -> None:
        """Add to the part of the last turn what goes on elsewhere; make ready for the next."""
        if self._operations:
            self._add_operations(part, turn)
        self.used = False
        self._size, self._steps_left = 0, MOST_STEPS

    def _add_operations(self, part: InstanceCommit, turn: Turn) -> None:
        if not turn.ended:  # as with timers, nobody would wait for them
            for letter, first, second in self._operations:
                part.add(letter, first, second)
