"""Putting back what is missing, and removing what is left over: ``wfq doctor --repair``.

Every step is safe beside a running system: it changes nothing that exists, and nothing at all
when the instance has moved on since it was looked at. What it adds twice would be harmless too,
since a completion counts once. What the records themselves have wrong (H and A invariants) it
leaves to a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from wfq.checker.crossing import Termination, lost_terminations
from wfq.checker.evidence import ENDED, Evidence
from wfq.checker.ledger import Open
from wfq.checker.namespace import Looker, check_namespace
from wfq.checker.report import Report
from wfq.core import actions as act
from wfq.core import events as ev
from wfq.storage.adoption import child_lineage, failed, outcome
from wfq.storage.inspection import InstanceState
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.outbox import Message
from wfq.storage.reconciling import Mending, reconcile
from wfq.storage.timers import delayed_start_member, timer_member

#: Violations that can be mended.
MENDABLE = frozenset({"W3", "W4", "W5", "W8", "Q1", "Q6", "Q7"})


@dataclass(frozen=True, slots=True)
class Mended:
    """What was put back or removed for one instance."""

    instance_id: str
    what: tuple[str, ...]


def repair_namespace(
    link: SyncLink, namespace: Namespace, *, quiet: bool = False
) -> tuple[list[Mended], Report]:
    """Check, mend what can be mended, and check again: what was done, and what is still wrong.

    `quiet` as in `check_namespace`: it also removes what belongs to nobody.
    """
    report = check_namespace(link, namespace, quiet=quiet)
    subjects = {v.subject: None for v in report.violations if v.invariant in MENDABLE}
    done = []
    for subject in subjects:
        what = repair_instance(link, namespace, subject)
        if what:
            done.append(Mended(subject, tuple(what)))
    return done, check_namespace(link, namespace, quiet=quiet) if subjects else report


def repair_instance(link: SyncLink, namespace: Namespace, instance_id: str) -> list[str]:
    """Mend one instance; returns what was put back or removed, in words."""
    looker = Looker(link, namespace, survey_all=False)
    partition = namespace.partition_of(instance_id)
    looker.learn(partition, instance_id)
    look, ledgers, far = looker.look(partition, [instance_id])
    state = look.instances[instance_id]
    evidence = Evidence(namespace, look, state, ledgers[instance_id], far)
    mending = _mending(evidence, _lost_end(link, namespace, state))
    return link.run(reconcile(namespace, mending)) or []


def _lost_end(link: SyncLink, namespace: Namespace, state: InstanceState) -> Termination | None:
    parent_id = state.fields.get("parent")
    if not parent_id or state.status in ENDED:
        return None
    parents = {state.instance_id: parent_id}
    return lost_terminations(link, namespace, parents).get(state.instance_id)


def _mending(evidence: Evidence, lost_end: Termination | None = None) -> Mending:
    state = evidence.state
    mending = Mending(
        state.instance_id,
        state.fields.get("inc", ""),
        int(state.fields.get("gen", 0)),
        len(state.records),
        evidence.queue,
    )
    alive = bool(state.fields and state.records) and state.status not in ENDED
    if alive and lost_end is not None and lost_end.incarnation == mending.incarnation:
        # Whatever else it may lack, it needs no more.
        mending.add("its end with its parent", "E", lost_end.beginning, lost_end.event)
    elif alive and not evidence.ledger.wrong:
        _restore(mending, evidence)
    if not alive or not evidence.ledger.wrong:
        _clear(mending, evidence, alive=alive)
    if state.fields:
        status = state.status or "RUNNING"
        created = state.fields.get("created", "0")
        mending.add(f"its place in the index of {status}", "I", status, created)
    elif state.indexes:
        mending.add("its place in an index", "I", "", 0)
    return mending


# --- what is missing


def _restore(mending: Mending, evidence: Evidence) -> None:
    """Whatever a live instance waits for; the script adds what is not there."""
    state = evidence.state
    if not evidence.ledger.begun:
        start = orjson.dumps([ev.STARTED, mending.incarnation])
        delayed = delayed_start_member(evidence.queue, state.instance_id, mending.incarnation)
        mending.add("its start", "S", start, delayed)
    for task in evidence.ledger.open.values():
        if task.kind == act.SCHEDULE_TASK:
            _activity(mending, evidence, task)
        elif task.kind == act.START_CHILD:
            _child(mending, evidence, task)
        elif task.due_ms is not None:
            member = timer_member(evidence.queue, state.instance_id, task.task_id, task.nonce)
            beginning = f'["{ev.FIRED}",{task.task_id},"{task.nonce}"'
            mending.add(f"the timer of task {task.task_id}", "T", task.due_ms, member, beginning)


def _activity(mending: Mending, evidence: Evidence, task: Open) -> None:
    if evidence.is_undispatched(task):
        return
    run = f"{mending.incarnation}.{mending.generation}"
    now_ms = evidence.look.now_ms
    message = orjson.dumps([task.nonce, 1, now_ms, evidence.queue, run, task.action, None])
    mending.add(
        f"the entry of activity {task.action[2]} (task {task.task_id})",
        "A", evidence.activity_queue(task), task.task_id, task.nonce, message,
    )  # fmt: skip


def _child(mending: Mending, evidence: Evidence, task: Open) -> None:
    """The child itself, or the outcome of one that has ended without telling."""
    if evidence.is_posted(task):
        return
    child_id = task.action[3]
    child = evidence.child(child_id)
    kin = child is not None and evidence.is_kin(task, child)
    if kin and child is not None and child.status not in ENDED and evidence.is_child(task, child):
        return
    if child is None or not child.exists or kin:
        # What is there already of a time that is lost is adopted where the message arrives.
        _start_child(mending, evidence, task)
        return
    beginning = f'["{ev.COMPLETED}",{task.task_id},"{task.nonce}"'
    if child.fields.get("inc") != task.child_inc:
        what = f"child workflow {child_id!r} was not started: an instance with this id exists"
        event = failed(task.task_id, task.nonce, "InstanceAlreadyExists", what)
    elif child.status in ENDED:
        last = orjson.loads(child.records[-1])
        event = outcome(child_id, last, task.task_id, task.nonce)
    else:
        return
    if event[0] == ev.FAILED:
        beginning = beginning.replace(ev.COMPLETED, ev.FAILED, 1)
    mending.add(f"the outcome of child {child_id}", "E", beginning, orjson.dumps(event))


def _start_child(mending: Mending, evidence: Evidence, task: Open) -> None:
    _, task_id, name, child_id, payload, opts = task.action
    options = opts or {}
    queue = options.get("q", evidence.queue)
    parent = [mending.instance_id, mending.incarnation, task_id, task.nonce]
    extra: dict[str, Any] = {"noinput": True} if options.get("n") else {}
    birth_of_parent = orjson.loads(evidence.state.records[0])
    extra[ev.LINEAGE] = child_lineage(birth_of_parent, mending.generation, task_id)
    far = evidence.namespace.partition_of(child_id) != evidence.look.partition
    if far:
        extra[ev.PARENT_GEN] = mending.generation
    tail = [task.child_inc, 0, name, payload, parent, extra]
    words = f"child {child_id}"
    if not far:
        birth = orjson.dumps([ev.BIRTH, task.since_ms, *tail])
        mending.add(words, "C", child_id, task.child_inc, name, queue, birth, task.since_ms)
        return
    what = f"child workflow {child_id!r} was not started: an instance with this id exists"
    event = failed(task.task_id, task.nonce, "InstanceAlreadyExists", what)
    taken = orjson.dumps(event).decode()
    birth_tail = "," + orjson.dumps(tail)[1:].decode()
    message = Message(
        "C",
        [child_id, task.child_inc, name, queue, birth_tail, mending.instance_id, taken,
         mending.incarnation],
    )  # fmt: skip
    mending.add(words, "O", child_id, task.child_inc, message.encode())


# --- what is left over


def _clear(mending: Mending, evidence: Evidence, *, alive: bool) -> None:
    """Timers, messages and dispatches of an instance or task that is gone."""
    own, ledger = mending.instance_id, evidence.ledger
    if alive and ledger.blocked:
        return  # an event that is held back may have closed a task already
    kept = {f"{t.task_id} {t.nonce}" for t in ledger.open.values()} if alive else set()
    for member in evidence.look.timers:
        kind, _, instance_id, *rest = member.split(" ", 3)
        if instance_id != own or (alive and (kind == "S" or rest[0].startswith('["W"'))):
            continue
        if _task_of(kind, rest[0] if rest else "") not in kept:
            mending.add(f"removed the timer {member!r}", "z", member)
    for field in evidence.look.tasks:
        *prefix, instance_id, task_id, nonce = field.split(" ")
        if instance_id == own and f"{task_id} {nonce}" not in kept:
            mending.add(f"removed {' '.join(prefix) or 'message'} of task {task_id}", "h", field)
    if not alive and evidence.state.cursor:
        mending.add("removed an unfinished dispatch", "u")


def _task_of(kind: str, rest: str) -> str:
    """ "task_id nonce" of a timer's member."""
    if kind == "T":
        _, task_id, nonce = orjson.loads(rest)[:3]
        return f"{task_id} {nonce}"
    return " ".join(rest.split(" ")[:2])
