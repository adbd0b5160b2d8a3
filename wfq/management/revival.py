"""An earlier run's history, cut before one of its events, as the beginning of a new run: pure.

What stays: the turns before the one that the event belongs to, as they were decided, and of
that turn the events before it, which are queued again; the code decides what follows from them
anew. A result counts as it came, so nothing that stays is done twice.

What is open at the cut is done again: activities and child workflows that had no outcome yet
are scheduled, timers and timeouts run their full time from now. Child workflows get new ids,
except where the workflow chose the id; such a child makes way if it has ended.

The new run has an incarnation, and its turns nonces, that no earlier run had: no outcome of an
earlier run, however late, fits a task of this one. `seed` stays, so that `ctx.random` and
`ctx.new_uuid()` repeat what the kept decisions were made from. The parent, if there was one,
is not told of the new run: it had its answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.events import Action, Event, Record
from wfq.management.history import Place
from wfq.storage import outbox, timers
from wfq.storage.reruns import Revival

#: Of a birth record's extra, what the new run takes over.
_INHERITED = ("carried", "ids", "noinput", "tags", "version")


@dataclass(frozen=True, slots=True)
class Source:
    """The run that is repeated: its id, queue and history."""

    instance_id: str
    queue: str
    records: list[Record]

    @property
    def birth(self) -> Record:
        return self.records[0]


@dataclass(frozen=True, slots=True)
class Target:
    """The run to be: its id, new incarnation, and the server's time now."""

    instance_id: str
    incarnation: str
    now_ms: int


def revive(source: Source, place: Place, target: Target, changed: Action | None = None) -> Revival:
    """What `rerun` writes for a run that repeats `source` up to `place`.

    changed: takes the place of the action there; then its whole turn stays as it was decided.
    """
    return _Reviver(source, target).made(place, changed)


class _Reviver:
    def __init__(self, source: Source, target: Target) -> None:
        self._source = source
        self._target = target
        birth = source.birth
        self._run = f"{target.incarnation}.{birth[ev.B_GEN]}"
        self._short = hashlib.sha256(self._run.encode()).hexdigest()[:6]
        #: New nonces by those of the earlier run.
        self._nonces: dict[str, str] = {}
        #: Open tasks: nonce and action, which may still be changed.
        self._open: dict[int, tuple[str, Action]] = {}
        self._suspended = False
        self._custom: Any = None

    def made(self, place: Place, changed: Action | None) -> Revival:
        source, target = self._source, self._target
        last = place.record if changed is not None else place.record - 1
        records = [self._record(source.records[n]) for n in range(1, last + 1)]
        if changed is not None:
            self._replace(records[-1], place.position, changed)
        events = [] if changed is not None else self._queued(place)
        revival = Revival(
            instance_id=target.instance_id,
            incarnation=target.incarnation,
            queue=source.queue,
            birth_tail=self._birth_tail(place),
            begin=not records,
        )
        self._reopen(revival, records)
        if self._suspended:
            name = f"r{target.incarnation}"
            events.append([ev.LIFECYCLE, target.incarnation, name, ev.RESUME, {}])
        if not events and not revival.begin:
            events.append([ev.WAKE_UP, target.incarnation])
        revival.events = [orjson.dumps(event) for event in events]
        revival.records = [orjson.dumps(record) for record in records]
        self._set_fields(revival, records, sum(event[0] == ev.RAISED for event in events))
        return revival

    # --- what stays

    def _birth_tail(self, place: Place) -> bytes:
        birth, target = self._source.birth, self._target
        before = birth[ev.B_EXTRA] or {}
        extra = {name: before[name] for name in _INHERITED if name in before}
        if "carried" in extra:
            carried = extra["carried"]
            if place.record == 0:
                carried = carried[: place.position]
            extra["carried"] = [self._event(event) for event in carried]
        run = f"{self._source.instance_id}:{birth[ev.B_INC]}:{birth[ev.B_GEN]}"
        extra["seed"] = before.get("seed") or run
        extra["rerun_of"] = self._source.instance_id
        tail = [
            target.incarnation,
            birth[ev.B_GEN],
            birth[ev.B_NAME],
            birth[ev.B_INPUT],
            None,
            extra,
        ]
        return b"," + orjson.dumps(tail)[1:]

    def _record(self, record: Record) -> Record:
        """A turn of the earlier run as one of this run; notes what it opened and closed."""
        nonce = f"r{self._target.incarnation}-{len(self._nonces)}"
        self._nonces[record[ev.T_NONCE]] = nonce
        events = [self._event(event) for event in record[ev.T_EVENTS]]
        actions = [list(action) for action in record[ev.T_ACTIONS]]
        for event in events:
            self._note(event)
        for action in actions:
            if action[0] in act.OPENING:
                self._open[action[1]] = (nonce, action)
            elif action[0] == act.SET_CUSTOM_STATUS:
                self._custom = action[1]
        # "pos" speaks of entries of a stream that is gone.
        extra = {name: v for name, v in (record[ev.T_EXTRA] or {}).items() if name != "pos"}
        return [ev.TURN, record[ev.T_NOW], nonce, events, actions, extra or None]

    def _queued(self, place: Place) -> list[Event]:
        """The events that stay of the turn that is decided anew."""
        if place.record == 0:
            return []
        events = self._source.records[place.record][ev.T_EVENTS]
        kept = events if place.is_action else events[: place.position]
        queued = [self._event(event) for event in kept if not _is_over(event)]
        for event in queued:
            self._note(event)
        return queued

    def _event(self, event: Event) -> Event:
        """An event of the earlier run as one of this run."""
        code = event[0]
        if code in (ev.STARTED, ev.RAISED, ev.LIFECYCLE, ev.WAKE_UP):
            return [code, self._target.incarnation, *event[2:]]
        return [code, event[1], self._nonces.get(event[2], event[2]), *event[3:]]

    def _note(self, event: Event) -> None:
        if event[0] in (ev.COMPLETED, ev.FAILED, ev.FIRED):
            self._open.pop(event[1], None)
        elif event[0] == ev.LIFECYCLE and event[3] != ev.ADOPT:
            self._suspended = event[3] == ev.SUSPEND

    def _replace(self, record: Record, position: int, changed: Action) -> None:
        record[ev.T_ACTIONS][position] = changed
        self._open[changed[1]] = (record[ev.T_NONCE], changed)

    # --- what is done again

    def _reopen(self, revival: Revival, records: list[Record]) -> None:
        decided_ms = {record[ev.T_NONCE]: record[ev.T_NOW] for record in records}
        for task_id, (nonce, action) in self._open.items():
            if action[0] == act.SCHEDULE_TASK:
                self._schedule(revival, nonce, action)
            elif action[0] == act.START_CHILD:
                self._start_child(revival, nonce, action)
            else:
                due = 2 if action[0] == act.CREATE_TIMER else 3
                if action[due]:
                    # Changed in the record, too: what it says was promised is what counts.
                    left = max(0, action[due] - decided_ms[nonce])
                    action[due] = self._target.now_ms + left
                    member = timers.timer_member(revival.queue, revival.instance_id, task_id, nonce)
                    revival.timers.append((action[due], member))

    def _schedule(self, revival: Revival, nonce: str, action: Action) -> None:
        task_id, opts, now_ms = action[1], action[4] or {}, self._target.now_ms
        queue = opts.get("q", revival.queue)
        message = orjson.dumps([nonce, 1, now_ms, revival.queue, self._run, action, None])
        watched = ""
        if "s" in opts:
            watched = f"{task_id} {nonce}"
            member = timers.schedule_to_start_member(
                queue, revival.instance_id, task_id, nonce, revival.queue
            )
            revival.timers.append((now_ms + opts["s"], member))
        revival.activities.append((queue, message, watched))

    def _start_child(self, revival: Revival, nonce: str, action: Action) -> None:
        _, task_id, name, child_id, payload, opts = action
        if child_id.startswith(f"{self._source.instance_id}~"):
            child_id = action[3] = f"{revival.instance_id}~{self._short}{task_id}"
        options = opts or {}
        inc = f"{nonce}.{task_id}"
        parent = [revival.instance_id, revival.incarnation, task_id, nonce]
        extra = {"noinput": True} if options.get("n") else None
        tail = b"," + orjson.dumps([inc, 0, name, payload, parent, extra])[1:]
        taken = orjson.dumps([ev.FAILED, task_id, nonce, _taken(child_id)])
        # By way of the outbox even within the partition: the child need not be there at once.
        values = [
            child_id,
            inc,
            name,
            options.get("q", revival.queue),
            tail.decode(),
            revival.instance_id,
            taken.decode(),
            revival.incarnation,
            "1",
        ]
        revival.messages.append(outbox.Message("C", values).encode())

    # --- the instance hash

    def _set_fields(self, revival: Revival, records: list[Record], waiting: int) -> None:
        birth = self._source.birth
        extra = birth[ev.B_EXTRA] or {}
        fields = revival.fields
        fields["name"] = birth[ev.B_NAME]
        if birth[ev.B_GEN]:
            fields["gen"] = str(birth[ev.B_GEN])
        if extra.get("tags"):
            fields["tags"] = orjson.dumps(extra["tags"])
        if waiting:
            fields["inbox"] = str(waiting)
        if self._custom is not None:
            fields["custom"] = orjson.dumps(self._custom)
        version = extra.get("version") or next(
            (r[ev.T_EXTRA]["version"] for r in records if "version" in (r[ev.T_EXTRA] or {})), None
        )
        if version:
            fields["version"] = version


def _is_over(event: Event) -> bool:
    """Whether an event is not queued again: the start is, by itself; an end is not wanted."""
    return event[0] in (ev.STARTED, ev.WAKE_UP) or (
        event[0] == ev.LIFECYCLE and event[3] == ev.TERMINATE
    )


def _taken(child_id: str) -> dict[str, Any]:
    return {
        "type": "InstanceAlreadyExists",
        "message": f"child workflow {child_id!r} was not started: a live instance has this id",
        "stack": "",
        "cause": None,
    }
