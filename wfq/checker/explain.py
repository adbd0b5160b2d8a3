"""Why an instance is where it is: in words, what it waits for, what comes next, what to do.

Joined from its open tasks, the timers, the entries that wait or run, the leases, and what the
live workers have registered. One look at one instance; nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import takewhile

import orjson

from wfq.checker.evidence import ENDED, Evidence, at_text
from wfq.checker.explain_activities import ActivityExplainer
from wfq.checker.explanation import Explanation, tell_task, tell_time
from wfq.checker.judge import judge
from wfq.checker.ledger import Open
from wfq.checker.namespace import Looker
from wfq.checker.roster import Roster, grace_ms, near
from wfq.checker.waiting import Lack, WaitingTask
from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.events import Record
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.timers import delayed_start_member, wake_member

#: Open tasks that are told one by one, in lines and as values.
MOST = 20
MOST_VALUES = 200
_RESOLVING = frozenset((ev.COMPLETED, ev.FAILED, ev.FIRED))
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
    told = Explanation(instance_id, status or state.status or "RUNNING", now_ms=look.now_ms)
    verdict = judge(namespace, look, state, ledger, far)
    if verdict.wrong:
        # Keys that came up meanwhile may have hidden something: what is wrong is seen twice.
        looker.learn(partition, instance_id)
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
        self._evidence = evidence
        self._workers = workers
        self._told = told
        self._queue = evidence.queue
        self._now_ms = evidence.look.now_ms
        self._activities = ActivityExplainer(link, evidence, workers)

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
        told.turns = max(0, len(state.records) - 1)
        told.generation = int(state.fields.get("gen") or 0)
        told.events = len(evidence.events)
        if evidence.events:
            self._events()
        told.begun = ledger.begun
        if not ledger.begun:
            self._begins()
        # What resolves a task is told among the events.
        resolved = {(e.task_id, e.nonce) for e in evidence.events if e.code in _RESOLVING}
        tasks = [t for t in ledger.open.values() if (t.task_id, t.nonce) not in resolved]
        for number, task in enumerate(tasks[:MOST_VALUES]):
            found = self._task(task)
            told.tasks.append(found)
            if number < MOST:
                tell_task(told, found)
        told.further = max(0, len(tasks) - MOST_VALUES)
        if len(tasks) > MOST:
            told.add(f"and {len(tasks) - MOST} further tasks")
        # Everything that is decided next is decided by an orchestrator.
        if not (evidence.events or not ledger.begun):
            told.lack(self._lack_of_orchestrators())

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
        self._told.stalled = reason
        todo = next((what for part, what in _STALLED if part in reason), "see its reason")
        self._told.add(f"{how}: {reason}", todo=todo.format(id=self._evidence.state.instance_id))
        if _NO_WORKFLOW in reason:
            self._told.lack(self._unregistered())

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
            self._told.stalls_ms = since + grace
            end = at_text(since + grace)
            self._told.add("", then=f"STALLED at {end}, unless a worker has its code by then")

    def _codeless_since(self) -> int | None:
        """When the time began in which no turn had code; None where the last one had."""
        since = None
        for record in reversed(self._records):
            if not (record[ev.T_EXTRA] or {}).get("grace"):
                break
            since = int(record[ev.T_NOW])
        return since

    # --- turns

    def _lack_of_orchestrators(self) -> Lack | None:
        if self._workers.orchestrators(self._queue):
            return None
        return Lack("orchestrator", self._queue, self._evidence.state.fields.get("name", ""))

    def _unregistered(self) -> Lack | None:
        """What lacks where live workers do not have its workflow; None where they do."""
        live = self._workers.orchestrators(self._queue)
        if not live:
            return self._lack_of_orchestrators()
        name = self._evidence.state.fields.get("name", "")
        names = {workflow for worker in live for workflow in worker["workflows"]}
        if name in names:
            return None
        return Lack("workflow", self._queue, name, near(name, names))

    def _events(self) -> None:
        evidence = self._evidence
        count = len(evidence.events)
        waits = "1 event waits for a turn" if count == 1 else f"{count} events wait for a turn"
        lacking = self._unregistered()
        if lacking:
            self._told.add(waits)
            self._told.lack(lacking)
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
        due_ms = evidence.look.timers.get(member)
        if due_ms is not None:
            self._told.start_due_ms = due_ms
            lacks = self._workers.timer_lacks()
            tell_time(self._told, "its start is delayed", due_ms, "it starts", lacks)
            for lack in lacks:
                self._told.lack(lack)
            self._told.lack(self._unregistered())

    # --- tasks

    def _task(self, task: Open) -> WaitingTask:
        match task.kind:
            case act.SCHEDULE_TASK:
                return self._activities.explain(task)
            case act.CREATE_TIMER:
                return WaitingTask(
                    task_id=task.task_id, kind="timer", name="", state="waiting",
                    since_ms=task.since_ms, due_ms=task.due_ms or 0,
                    lacks=self._workers.timer_lacks(),
                )  # fmt: skip
            case act.WAIT_FOR_EVENT:
                name = task.action[2]
                return WaitingTask(
                    task_id=task.task_id, kind="event", name=name,
                    state="come" if name.casefold() in self._untaken else "waiting",
                    since_ms=task.since_ms, due_ms=task.due_ms,
                    raised=tuple(sorted(self._raised - {name.casefold()})),
                    lacks=() if task.due_ms is None else self._workers.timer_lacks(),
                )  # fmt: skip
            case _:
                return self._child(task)

    @cached_property
    def _records(self) -> list[Record]:
        return [orjson.loads(record) for record in self._evidence.state.records[1:]]

    @cached_property
    def _raised(self) -> set[str]:
        """Names of the external events of this generation, in lower case."""
        return _events_in(self._records)

    @cached_property
    def _untaken(self) -> set[str]:
        """Names of those that came since there is no code for them."""
        records = reversed(self._records)
        return _events_in(takewhile(lambda r: (r[ev.T_EXTRA] or {}).get("deferred"), records))

    def _child(self, task: Open) -> WaitingTask:
        child_id = task.action[3]
        child = self._evidence.child(child_id)
        exists = child is not None and child.exists
        status = (child.status or "RUNNING") if child is not None and exists else "on its way"
        return WaitingTask(
            task_id=task.task_id, kind="child", name=task.action[2], state=status,
            since_ms=task.since_ms, child_id=child_id,
            child_reason=child.fields.get("stalled") if child is not None else None,
        )  # fmt: skip


def _events_in(records: Iterable[Record]) -> set[str]:
    """Return the names of the external events that turns took in, in lower case."""
    return {
        str(event[3]).casefold()
        for record in records
        for event in record[ev.T_EVENTS]
        if event[0] == ev.RAISED
    }
