"""Judging one instance from one look: which invariants fail, and what will wake it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import orjson

from wfq.checker.evidence import ENDED, Evidence, at_text
from wfq.checker.ledger import STATUS_OF, Ledger, read_records
from wfq.checker.report import Trace
from wfq.core import actions as act
from wfq.core import events as ev
from wfq.storage.inspection import InstanceState, LeaseState, Look
from wfq.storage.instances import INDEXED
from wfq.storage.keys import Namespace
from wfq.storage.timers import delayed_start_member


@dataclass(slots=True)
class Verdict:
    """What is wrong with an instance, as (invariant, text), and what will wake it."""

    wrong: list[tuple[str, str]] = field(default_factory=list)
    explanation: str = ""
    open_kinds: list[str] = field(default_factory=list)
    trace: Trace | None = None


def ledger_of(state: InstanceState) -> Ledger:
    """The ledger of an instance's records; an unreadable one is a violation of H1."""
    try:
        return read_records([orjson.loads(record) for record in state.records])
    except (ValueError, KeyError, IndexError, TypeError) as exc:
        return Ledger(wrong=[("H1", f"the records cannot be read: {exc!r}")])


def judge(
    namespace: Namespace,
    look: Look,
    state: InstanceState,
    ledger: Ledger,
    far: dict[int, Look],
    before: Trace | None = None,
) -> Verdict:
    """Judge one instance that exists; `far` are looks at the partitions of its children."""
    verdict = Verdict(list(ledger.wrong))
    wrong = verdict.wrong
    if not state.fields or not state.records:
        left = "history" if state.records else "hash"
        wrong.append(("Q8", f"only its {left} is left"))
        return verdict
    wrong += _identity(state)
    wrong += _status(state, ledger)
    wrong += _index(state)
    if state.expires:
        wrong.append(("Q8", "a key of it expires"))
    verdict.trace = _trace(state)
    wrong += _changes(verdict.trace, before)
    evidence = Evidence(namespace, look, state, ledger, far)
    if state.status in ENDED:
        wrong += _tidy(evidence)
        return verdict
    if any(invariant in ("H1", "H2", "H3") for invariant, _ in wrong):
        verdict.explanation = "its history is not in order"
        return verdict
    parts = list(_wakes(evidence, wrong, verdict.open_kinds))
    verdict.explanation = "; ".join(parts)
    wrong += _inbox(evidence)
    return verdict


def _identity(state: InstanceState) -> Iterator[tuple[str, str]]:
    birth, fields = orjson.loads(state.records[0]), state.fields
    extra = birth[ev.B_EXTRA] or {}
    told = {
        "inc": birth[ev.B_INC],
        "gen": str(birth[ev.B_GEN]),
        "name": birth[ev.B_NAME],
        "created": str(extra.get("created", birth[ev.B_CREATED])),
        "parent": birth[ev.B_PARENT][0] if birth[ev.B_PARENT] else "",
    }
    for name, value in told.items():
        stored = fields.get(name, "0" if name == "gen" else "")
        if stored != value:
            yield "H1", f"its {name} is {stored!r}, its birth record says {value!r}"
    if not fields.get("queue"):
        yield "H1", "it has no queue"


def _status(state: InstanceState, ledger: Ledger) -> Iterator[tuple[str, str]]:
    status = state.status
    expected = STATUS_OF[ledger.end[0]] if ledger.end else None
    if expected != (status if status in ENDED else None):
        said = f"say {expected}" if expected else "do not end"
        yield "H1", f"its status is {status or 'RUNNING'}, its records {said}"
    if status in ENDED:
        return
    if ledger.suspended != (status == "SUSPENDED"):
        said = "suspended" if ledger.suspended else "not suspended"
        yield "H8", f"its status is {status or 'RUNNING'}, its records leave it {said}"
    if status == "STALLED" and not state.fields.get("stalled"):
        yield "H8", "it is STALLED without a reason"


def _index(state: InstanceState) -> Iterator[tuple[str, str]]:
    expected = state.status or "RUNNING"
    if expected not in INDEXED:
        yield "Q7", f"its status {expected!r} is unknown"
    elif list(state.indexes) != [expected]:
        yield "Q7", f"it is {expected}, and in the indexes of {', '.join(state.indexes) or 'none'}"
    elif str(state.indexes[expected]) != state.fields.get("created"):
        yield "Q7", "its index has another creation time"


def _trace(state: InstanceState) -> Trace:
    digests = tuple(blake2b(record, digest_size=8).digest() for record in state.records)
    fields = state.fields
    return Trace(fields.get("inc", ""), int(fields.get("gen", 0)), state.status, digests)


def _changes(now: Trace, before: Trace | None) -> Iterator[tuple[str, str]]:
    if before is None or before.inc != now.inc:
        return
    if before.status in ENDED and (now.status, now.digests) != (before.status, before.digests):
        yield "A4", f"it had {before.status} and has changed since"
    if now.gen < before.gen:
        yield "A4", "its generation went back"
    if now.gen == before.gen and now.digests[: len(before.digests)] != before.digests:
        yield "A4", "records that were there are gone or changed"


def _tidy(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """An ended instance leaves nothing that would still happen."""
    own = evidence.state.instance_id
    for member in evidence.look.timers:
        kind, _, instance_id, *rest = member.split(" ", 3)
        # Retries and start deadlines that have become void, and wake-ups, do nothing when due.
        if instance_id == own and kind == "T" and not rest[0].startswith('["W"'):
            yield "Q6", f"it has ended, and the timer {member!r} is left"
    if evidence.state.cursor:
        yield "Q6", "it has ended, and a dispatch of it is unfinished"


def _wakes(evidence: Evidence, wrong: list[tuple[str, str]], kinds: list[str]) -> Iterator[str]:
    """What will wake a live instance, in words; what is missing goes to `wrong`."""
    state, ledger = evidence.state, evidence.ledger
    waiting = _waiting(evidence)
    if state.status == "SUSPENDED":
        yield "suspended, until it is resumed"
    elif state.status == "STALLED":
        yield f"stalled: {state.fields.get('stalled')}"
    elif state.fields.get("stalled"):
        yield f"waits for code: {state.fields['stalled']}"
    if waiting:
        yield waiting
    if not ledger.begun:
        begins = _begins(evidence)
        if begins:
            yield begins
        elif not evidence.look.truncated:
            wrong.append(("W8", "it has not begun, and its start is nowhere"))
    for task in ledger.open.values():
        kinds.append(task.kind)
        wake = evidence.wake(task)
        if wake.missing and not evidence.look.truncated:
            wrong.append((wake.missing, wake.text))
        else:
            yield wake.text
    if ledger.begun and not (ledger.open or waiting or ledger.blocked):
        wrong.append(("W2", "it waits for nothing: stuck"))


def _begins(evidence: Evidence) -> str:
    """How an instance that has not begun will begin; "" when it will not."""
    state = evidence.state
    if any(event.code == ev.STARTED for event in evidence.events):
        return "its start waits in the stream"
    inc = state.fields.get("inc", "")
    due = evidence.look.timers.get(delayed_start_member(evidence.queue, state.instance_id, inc))
    return "" if due is None else f"delayed start due {at_text(due)}"


def _waiting(evidence: Evidence) -> str:
    if not evidence.events:
        return ""
    count = len(evidence.events)
    queue = evidence.events[0].queue
    lease = evidence.look.leases.get(queue)
    owner = (
        _owner(lease, evidence.look.now_ms) or f"nobody owns partition {evidence.look.partition}"
    )
    events = "1 event waits" if count == 1 else f"{count} events wait"
    return f"{events} in the stream of queue {queue} ({owner})"


def _owner(lease: LeaseState | None, now_ms: int) -> str:
    if lease is None or not lease.token or lease.expires_ms <= now_ms:
        return ""
    return f"owner {lease.owner}"


def _inbox(evidence: Evidence) -> Iterator[tuple[str, str]]:
    ledger, state = evidence.ledger, evidence.state
    if evidence.look.truncated:
        return
    raised = sum(1 for event in evidence.events if event.code == ev.RAISED)
    counted = int(state.fields.get("inbox", 0))
    if counted != raised + ledger.untaken:
        told = f"{raised} in the stream and {ledger.untaken} untaken"
        yield "W9", f"its inbox counts {counted} events, there are {told}"


def children_of(ledger: Ledger) -> list[str]:
    """Ids of the open children."""
    return [t.action[3] for t in ledger.open.values() if t.kind == act.START_CHILD]
