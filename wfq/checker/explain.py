"""Why an instance is where it is: in words, what it waits for, what comes next, what to do.

Joined from its open tasks, the timers, the entries that wait or run, the leases, and what the
live workers have registered. One look at one instance; nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import orjson

from wfq.checker.evidence import ENDED, Evidence, at_text
from wfq.checker.judge import judge
from wfq.checker.ledger import Open
from wfq.checker.namespace import Looker
from wfq.checker.roster import Roster, grace_ms, running_activities
from wfq.core import actions as act
from wfq.core import events as ev
from wfq.storage.inspection import Entry
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.timers import (
    delayed_start_member,
    schedule_to_start_member,
    task_field,
    wake_member,
)

#: Open tasks that are told one by one.
MOST = 20
#: Milliseconds of lateness that are normal on a busy machine.
LATE_MS = 2_000
#: How the reason begins where nobody has its code.
_NO_WORKFLOW = "no worker has the workflow"
#: What to do about a STALLED instance, by what its reason begins with or contains.
_STALLED = (
    (_NO_WORKFLOW, "start workers with that code: 'wfq worker APP'"),
    ("knows activity", "start a worker that registers that name"),
    ("no longer fits the history", "deploy code that fits, or guard the change; see versioning"),
    ("did not come back in time", "mend the code: it ran too long without a yield"),
    ("ended their worker process", "mend the code, then 'wfq resume {id}'"),
    ("limits.turn_bytes", "await some tasks before scheduling more, or raise the limit"),
    ("cannot be loaded", "deploy code that can read its history and input"),
    ("failed inside wfq", "a bug of wfq: the worker's log has the traceback"),
)


@dataclass(slots=True)
class Explanation:
    """What is known of an instance now.

    waits: what it waits for, a line each. next: what will happen by itself, and when. todo: what
    a person must do; nothing where it goes on alone. wrong: invariants that do not hold.
    """

    instance_id: str
    status: str
    waits: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, wait: str, *, then: str = "", todo: str = "") -> None:
        """Add a line, and what follows from it; what was said is not said again."""
        for line, lines in ((wait, self.waits), (then, self.next), (todo, self.todo)):
            if line and line not in lines:
                lines.append(line)

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        parts = ["; ".join(self.waits)]
        if self.next:
            parts.append("next: " + "; ".join(self.next))
        if self.todo:
            parts.append("to do: " + "; ".join(self.todo))
        return " - ".join(part for part in parts if part)

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {
            "instance_id": self.instance_id,
            "runtime_status": self.status,
            "explanation": self.sentence,
            "waits": self.waits,
            "next": self.next,
            "todo": self.todo,
            "violations": self.wrong,
        }


def explain_instance(
    link: SyncLink, namespace: Namespace, instance_id: str, status: str = ""
) -> Explanation | None:
    """Explain one instance; None for an unknown one. Raises: StorageError.

    `status` is the one that the caller has read, where it is to be told as such.
    """
    looker = Looker(link, namespace, survey_all=False)
    partition = namespace.partition_of(instance_id)
    looker.learn(partition, instance_id)
    look, ledgers, far = looker.look(partition, [instance_id])
    state, ledger = look.instances[instance_id], ledgers[instance_id]
    if not state.exists:
        return None
    told = Explanation(instance_id, status or state.status or "RUNNING")
    verdict = judge(namespace, look, state, ledger, far)
    if verdict.wrong:
        # Keys that came up meanwhile may have hidden something: what is wrong is seen twice.
        look, ledgers, far = looker.look(partition, [instance_id])
        state, ledger = look.instances[instance_id], ledgers[instance_id]
        verdict = judge(namespace, look, state, ledger, far)
    told.wrong = [f"{name} {text}" for name, text in verdict.wrong]
    workers = Roster.read(link, namespace)
    evidence = Evidence(namespace, look, state, ledger, far)
    _Explainer(link, evidence, workers, told).run()
    if verdict.wrong:
        told.add("", todo="something it needs is missing: 'wfq doctor --repair' puts it back")
    return told


class _Explainer:
    def __init__(
        self, link: SyncLink, evidence: Evidence, workers: Roster, told: Explanation
    ) -> None:
        self._link = link
        self._evidence = evidence
        self._workers = workers
        self._told = told
        self._queue = evidence.queue
        self._now_ms = evidence.look.now_ms

    def run(self) -> None:
        evidence, told = self._evidence, self._told
        state, ledger = evidence.state, evidence.ledger
        if state.status in ENDED:
            self._ended()
            return
        if state.status == "SUSPENDED":
            told.add("suspended", todo=f"'wfq resume {state.instance_id}' lets it go on")
        elif state.status == "STALLED":
            self._stalled("stalled", state.fields.get("stalled", ""))
        elif state.fields.get("stalled"):
            self._stalled("waits for code", state.fields["stalled"])
            self._grace()
        if evidence.events:
            self._events()
        if not ledger.begun:
            self._begins()
        tasks = list(ledger.open.values())
        for task in tasks[:MOST]:
            self._task(task)
        if len(tasks) > MOST:
            told.add(f"and {len(tasks) - MOST} further tasks")
        # Everything that is decided next is decided by an orchestrator.
        if not (evidence.events or not ledger.begun) and not self._workers.orchestrators(
            self._queue
        ):
            told.add("", todo=self._lack_of_orchestrators())

    # --- ends

    def _ended(self) -> None:
        state, end = self._evidence.state, self._evidence.ledger.end
        text = f"it has ended: {state.status}"
        if state.status == "FAILED" and end is not None:
            failure = end[1] or {}
            text += f" with {failure.get('type')}: {str(failure.get('message', ''))[:300]}"
            self._told.add("", todo=f"'wfq rerun {state.instance_id}' runs it again, if it should")
        self._told.add(text)

    def _stalled(self, how: str, reason: str) -> None:
        todo = next((what for part, what in _STALLED if part in reason), "see its reason")
        self._told.add(f"{how}: {reason}", todo=todo.format(id=self._evidence.state.instance_id))
        if _NO_WORKFLOW in reason:
            self._told.add("", todo=self._unregistered())

    def _grace(self) -> None:
        """Tell when an instance without code is looked at again, and when it is STALLED."""
        state, workers = self._evidence.state, self._workers.orchestrators(self._queue)
        if not workers:
            return  # nobody looks
        member = wake_member(self._queue, state.instance_id, state.fields.get("inc", ""))
        wake = self._evidence.look.timers.get(member)
        if wake is not None:
            self._told.add("", then=f"a worker looks for its code again at {at_text(wake)}")
        since, grace = self._codeless_since(), grace_ms(workers)
        if since is not None and grace is not None:
            end = at_text(since + grace)
            self._told.add("", then=f"STALLED at {end}, unless a worker has its code by then")

    def _codeless_since(self) -> int | None:
        """When the time began in which no turn had code; None where the last one had."""
        since = None
        for raw in reversed(self._evidence.state.records[1:]):
            record = orjson.loads(raw)
            if not (record[ev.T_EXTRA] or {}).get("grace"):
                break
            since = int(record[ev.T_NOW])
        return since

    # --- turns

    def _lack_of_orchestrators(self) -> str:
        name = self._evidence.state.fields.get("name", "")
        own = "" if self._queue == "default" else f" --app-id {self._queue}"
        return (
            f"no worker of {self._queue!r} is running; {name!r} waits for one "
            f"('wfq worker APP{own}')"
        )

    def _unregistered(self) -> str:
        """What is to be done where live workers do not have its workflow; "" where they do."""
        live = self._workers.orchestrators(self._queue)
        if not live:
            return self._lack_of_orchestrators()
        name = self._evidence.state.fields.get("name", "")
        names = {workflow for worker in live for workflow in worker["workflows"]}
        if name in names:
            return ""
        near = get_close_matches(name, names, 1)
        hint = f"; they have {near[0]!r}" if near else ""
        return f"no live worker of {self._queue!r} has registered workflow {name!r}{hint}"

    def _events(self) -> None:
        evidence = self._evidence
        count = len(evidence.events)
        waits = "1 event waits for a turn" if count == 1 else f"{count} events wait for a turn"
        lacking = self._unregistered()
        if lacking:
            self._told.add(waits, todo=lacking)
            return
        lease = evidence.look.leases.get(self._queue)
        if lease is not None and lease.token and lease.expires_ms > self._now_ms:
            self._told.add(waits, then=f"worker {lease.owner} takes it now")
        else:
            self._told.add(
                waits, then=f"partition {evidence.look.partition} gets an owner within seconds"
            )

    def _begins(self) -> None:
        state, evidence = self._evidence.state, self._evidence
        if any(event.code == ev.STARTED for event in evidence.events):
            self._told.add("its first turn is to come")
            return
        member = delayed_start_member(self._queue, state.instance_id, state.fields.get("inc", ""))
        due = evidence.look.timers.get(member)
        if due is not None:
            self._timed("its start is delayed", due, "it starts")
            lacking = self._unregistered()
            if lacking:
                self._told.add("", todo=lacking)

    # --- tasks

    def _task(self, task: Open) -> None:
        evidence = self._evidence
        if evidence.resolution(task, ev.COMPLETED + ev.FAILED + ev.FIRED):
            return  # told among the events
        match task.kind:
            case act.SCHEDULE_TASK:
                self._activity(task)
            case act.CREATE_TIMER:
                due = task.due_ms or 0
                self._timed(f"timer (task {task.task_id})", due, "the timer fires")
            case act.WAIT_FOR_EVENT:
                self._event(task)
            case _:
                self._child(task)

    def _timed(self, what: str, due_ms: int, then: str) -> None:
        if self._now_ms - due_ms < LATE_MS or self._workers.schedulers():
            self._told.add(f"{what}, due {at_text(due_ms)}", then=f"{then} at {at_text(due_ms)}")
        if not self._workers.schedulers():
            late = "overdue since" if due_ms < self._now_ms else "due"
            self._told.add(
                f"{what}, {late} {at_text(due_ms)}",
                todo="no worker with the role scheduler is alive: timers do not fire; start one",
            )

    def _event(self, task: Open) -> None:
        name, own = task.action[2], self._evidence.state.instance_id
        text = f"event {name!r} since {at_text(task.since_ms)}"
        others = sorted(self._raised() - {name.casefold()})
        if others:
            text += f"; raised so far: {', '.join(others)}"
        if task.due_ms is not None:
            self._timed(text, task.due_ms, "the wait times out")
        self._told.add(
            "" if task.due_ms is not None else text, todo=f"'wfq raise {own} {name}' answers it"
        )

    def _raised(self) -> set[str]:
        """Names of the external events of this generation, in lower case."""
        records = [orjson.loads(record) for record in self._evidence.state.records[1:]]
        return {
            str(event[3]).casefold()
            for record in records
            for event in record[ev.T_EVENTS]
            if event[0] == ev.RAISED
        }

    def _child(self, task: Open) -> None:
        child_id = task.action[3]
        child = self._evidence.child(child_id)
        status = (child.status or "RUNNING") if child is not None and child.exists else "on its way"
        reason = child.fields.get("stalled") if child is not None else None
        text = f"child {child_id}, {status}{f': {reason}' if reason else ''}"
        self._told.add(text, todo=f"'wfq explain {child_id}' tells on")

    # --- activities

    def _activity(self, task: Open) -> None:
        evidence = self._evidence
        entries = [
            e for e in evidence.entries if e.nonce == task.nonce and e.task_id == task.task_id
        ]
        name = f"activity {task.action[2]!r} (task {task.task_id})"
        queue = evidence.activity_queue(task)
        held = next((entry for entry in entries if entry.state == "pending"), None)
        if held is not None:
            self._running(name, held, task)
        elif any(entry.state == "new" for entry in entries):
            self._waiting(name, queue, task)
        elif evidence.is_undispatched(task):
            self._told.add(f"{name} is not handed out yet", then="that goes on with an owner")
        elif not self._retried(name, queue, task):
            self._told.add(f"{name}: nothing of it is left")

    def _running(self, name: str, entry: Entry, task: Open) -> None:
        times = f", delivered {entry.deliveries} times" if entry.deliveries > 1 else ""
        text = f"{name}, attempt {entry.attempt}, runs on {entry.consumer}{times}"
        options = task.action[4] or {}
        if entry.consumer not in self._workers.ids:
            self._told.add(
                f"{text}, which is not alive",
                then="another worker takes it over when its lease runs out",
                todo=self._lack_of_workers(task.action[2], entry.queue),
            )
        elif not (options.get("t") or options.get("h")):
            self._told.add(text, then="its result; it has no timeout, so it may run for ever")
        else:
            self._told.add(text, then="its result, or its timeout")

    def _waiting(self, name: str, queue: str, task: Open) -> None:
        due = self._schedule_to_start(queue, task)
        lacking = self._lack_of_workers(task.action[2], queue)
        if lacking:
            self._told.add(f"{name} waits in queue {queue!r}", todo=lacking)
        elif self._is_full(queue):
            slots = self._workers.slots(queue)
            self._told.add(
                f"{name} waits in queue {queue!r}, whose {slots} slots are all busy",
                then="a slot that is free takes it",
                todo="more workers, or a higher concurrency, if that takes too long",
            )
        else:
            self._told.add(f"{name} waits in queue {queue!r}", then="a worker takes it now")
        if due:
            self._timed(f"{name} may wait for a worker", due, "it fails unless one has it")

    def _schedule_to_start(self, queue: str, task: Open) -> int | None:
        own = self._evidence.state.instance_id
        member = schedule_to_start_member(queue, own, task.task_id, task.nonce, self._queue)
        return self._evidence.look.timers.get(member)

    def _retried(self, name: str, queue: str, task: Open) -> bool:
        """Tell of an attempt that waits for its time; False if there is none."""
        evidence = self._evidence
        due = evidence.retry_due(task)
        if due is None:
            return False
        own = evidence.state.instance_id
        attempt, extra = self._message(task_field(own, task.task_id, task.nonce))
        if extra.get("unknown"):
            self._told.add(
                f"{name} is known to no worker of queue {queue!r} that has seen it",
                then=f"it is offered again at {at_text(due)}",
                todo=self._lack_of_workers(task.action[2], queue),
            )
            grace = grace_ms(self._workers.activity_workers(queue))
            if grace is not None and not extra.get("told"):
                end = at_text(max(due, extra["unknown"] + grace))
                self._told.add("", then=f"STALLED at {end}, unless a worker has it by then")
            return True
        policy = (task.action[4] or {}).get("r")
        most = f" of {policy[1]}" if policy else ""
        self._timed(
            f"{name} has failed {max(attempt - 1, 1)} times; the worker's log has the errors",
            due,
            f"attempt {attempt}{most} is due",
        )
        lacking = self._lack_of_workers(task.action[2], queue)
        if lacking:
            self._told.add("", todo=lacking)
        return True

    def _message(self, name: str) -> tuple[int, dict[str, Any]]:
        """Return attempt and extra of a waiting attempt's message."""
        look = self._evidence.look
        found = self._link.command("HGET", self._evidence.namespace.tasks(look.partition), name)
        if found is None:
            return 1, {}
        message = orjson.loads(found)
        return int(message[1]), message[6] or {}

    def _lack_of_workers(self, activity: str, queue: str) -> str:
        live = self._workers.activity_workers(queue)
        if not live:
            return f"no worker of queue {queue!r} is alive: 'wfq worker APP --queue {queue}'"
        names = {name for worker in live for name in worker["activities"]}
        if activity in names:
            return ""
        near = get_close_matches(activity, names, 1)
        hint = f"; they have {near[0]!r}" if near else ""
        return f"no live worker of queue {queue!r} has registered activity {activity!r}{hint}"

    def _is_full(self, queue: str) -> bool:
        """Whether the workers of a queue hold as much as they may."""
        running = running_activities(self._link, self._evidence.namespace, queue)
        return running >= self._workers.slots(queue) > 0


def told_in_full(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """Yield the lines of an explanation with what each one is, for people."""
    for line in explanation.waits:
        yield "why", line
    for line in explanation.next:
        yield "next", line
    for line in explanation.todo:
        yield "to do", line
    for line in explanation.wrong:
        yield "wrong", line
