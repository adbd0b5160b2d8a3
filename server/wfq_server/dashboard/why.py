"""Why an instance waits, in words that need no knowledge of the engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from wfq.checker.explanation import Explanation, attempt_text, times_text
from wfq.checker.waiting import Lack, WaitingTask
from wfq_server.dashboard.wording import ago, moment

#: Children within children whose reasons are told.
DEPTH = 4


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that an instance waits for.

    kind: "state", or that of the task. bad: it will not go on by itself. child: an instance where
    there is more to see. event: one that somebody could raise. detail: in small letters below.
    """

    text: str
    kind: str = "state"
    bad: bool = False
    child: str = ""
    event: str = ""
    detail: str = ""


#: Explanations by instance id: those of an instance and, as far as they are known, its children.
Told = Mapping[str, Explanation]


def reasons(told: Explanation, all_told: Told, *, depth: int = 0) -> list[Reason]:
    """Return what a live instance waits for, what needs a person first."""
    found = [*_of_state(told), *(_of_task(task, told, all_told, depth) for task in told.tasks)]
    if told.further:
        found.append(Reason(f"And {told.further:,} further tasks."))
    found += [
        Reason(f"Something it needs is missing: {wrong}.", bad=True,
               detail="wfq doctor --repair puts it back")
        for wrong in told.wrong
    ]  # fmt: skip
    if not found:
        found.append(Reason("It is about to go on."))
    # What holds of many tasks alike is said once.
    counted = [
        reason
        if count == 1
        else replace(reason, text=f"{reason.text} That holds for {count:,} tasks.")
        for reason, count in Counter(found).items()
    ]
    return sorted(counted, key=lambda reason: not reason.bad)


def _of_state(told: Explanation) -> Iterator[Reason]:
    if told.status == "STALLED":
        # What is to be done is the first that an explanation says of it.
        todo = told.todo[0] if told.todo else ""
        yield Reason(
            f"Stalled: {told.stalled or 'it needs code that fits'}.", bad=True, detail=todo
        )
    elif told.status == "SUSPENDED":
        yield Reason("Suspended: it goes on when somebody resumes it.", bad=True)
    if told.status != "STALLED":
        detail = _stalls(told.stalls_ms, told.now_ms)
        yield from (Reason(lacking(lack), bad=True, detail=detail) for lack in told.lacks)
    if told.start_due_ms is not None:
        when = _until(told.start_due_ms, told.now_ms)
        yield Reason(f"It starts {when}, at {moment(told.start_due_ms)}.", "timer")
    elif not told.begun and not told.lacks:
        yield Reason("It is about to begin.")


def lacking(lack: Lack) -> str:
    """What no live worker has, and what to do."""
    hint = f" They have {lack.near}." if lack.near else ""
    match lack.what:
        case "scheduler":
            return "No live worker fires timers (role scheduler). Start one, and it goes on."
        case "orchestrator":
            return (
                f"No live worker has its code (application {lack.queue}). "
                "Start one, and it goes on."
            )
        case "workflow":
            return (
                f"No live worker of application {lack.queue} has the workflow {lack.name}.{hint} "
                "Start one that has, and it goes on."
            )
        case _:
            return (
                f"No live worker has the activity {lack.name} (queue {lack.queue}).{hint} "
                "Start one, and it goes on."
            )


# --- tasks


def _of_task(task: WaitingTask, told: Explanation, all_told: Told, depth: int) -> Reason:
    now_ms = told.now_ms
    unserved = [lacking(lack) for lack in task.lacks]
    match task.kind:
        case "event":
            text = f"Waits for the event {task.name}, for {ago(now_ms - task.since_ms)} now"
            if task.due_ms is not None:
                text += f"; gives up {_until(task.due_ms, now_ms)}"
            detail = f"events that came so far: {', '.join(task.raised)}" if task.raised else ""
            return _with(Reason(f"{text}.", "event", event=task.name, detail=detail), unserved)
        case "timer":
            due = _until(task.due_ms or now_ms, now_ms)
            return _with(Reason(f"A timer fires {due}.", "timer"), unserved)
        case "child":
            return _child(task, all_told, now_ms, depth)
        case _:
            error = f"last error: {task.last_error}" if task.last_error is not None else ""
            detail = error or _stalls(task.stalls_ms, now_ms)
            text = _ACTIVITY[task.state](task, now_ms)
            reason = Reason(text, "activity", bad=task.state == "gone", detail=detail)
            # With a live worker at it, nothing is lacking yet.
            return reason if task.state == "running" else _with(reason, unserved)


def _with(reason: Reason, unserved: list[str]) -> Reason:
    """The reason, with what keeps it from coming about."""
    if not unserved:
        return reason
    text = unserved[0] if reason.kind == "activity" else f"{reason.text} {unserved[0]}"
    return replace(reason, text=text, bad=True)


def _child(task: WaitingTask, all_told: Told, now_ms: int, depth: int) -> Reason:
    since = ago(now_ms - task.since_ms)
    child_id = task.child_id or ""
    name = f"The child workflow {task.name}"

    def because(word: str, why: str) -> Reason:
        return Reason(f"{name} {word}: {why}", "child", bad=True, child=child_id)

    if task.state == "STALLED":
        return because("is stalled", f"{task.child_reason or 'it needs code that fits'}.")
    if task.state == "SUSPENDED":
        return because("is suspended", "it goes on when somebody resumes it.")
    told = all_told.get(child_id)
    if told is not None and depth < DEPTH:
        first = reasons(told, all_told, depth=depth + 1)[0]
        if first.bad:
            return because("is stuck", _lowered(first.text))
        return Reason(
            f"{name} has been running for {since}.", "child", child=child_id, detail=first.text
        )
    if task.state == "on its way":
        return Reason(f"{name} is about to begin.", "child", child=child_id)
    if task.child_reason:
        return because("waits for code", f"{task.child_reason}.")
    return Reason(f"{name} has been running for {since}.", "child", child=child_id)


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _running(task: WaitingTask, now_ms: int) -> str:
    number = f", {attempt_text(task)}" if (task.attempt or 1) > 1 else ""
    if not task.worker_alive:
        return (
            f"{task.name}{number} was with {task.worker}, which is not alive any more; another "
            "worker takes it over within seconds."
        )
    return f"{task.name} runs on {task.worker}{number}, for {ago(now_ms - task.since_ms)} now."


def _queued(task: WaitingTask, now_ms: int) -> str:
    number = f", {attempt_text(task)}" if (task.attempt or 1) > 1 else ""
    busy = ""
    if task.busy:
        slots = "its one slot is" if task.busy == 1 else f"all {task.busy} slots are"
        busy = f" (queue {task.queue}: {slots} busy)"
    since = ago(now_ms - task.since_ms)
    return f"{task.name} waits for a free worker{number}, for {since} now{busy}."


def _retrying(task: WaitingTask, now_ms: int) -> str:
    failed = times_text((task.attempt or 2) - 1)
    due = _until(task.due_ms or now_ms, now_ms)
    return f"{task.name} has failed {failed}: {attempt_text(task)} {due}."


def _unknown(task: WaitingTask, now_ms: int) -> str:
    due = _until(task.due_ms or now_ms, now_ms)
    return f"{task.name} was not known to the worker that had it; it is offered again {due}."


def _stalls(stalls_ms: int | None, now_ms: int) -> str:
    if stalls_ms is None or stalls_ms <= now_ms:
        return ""
    return f"the instance stalls {_until(stalls_ms, now_ms)}, unless a worker has it by then"


_ACTIVITY: dict[str, Callable[[WaitingTask, int], str]] = {
    "running": _running,
    "queued": _queued,
    "retrying": _retrying,
    "unknown": _unknown,
    "undispatched": lambda task, _: f"{task.name} is about to be handed out.",
    "gone": lambda task, _: f"{task.name}: nothing of it is left.",
}


def _until(due_ms: int, now_ms: int) -> str:
    return f"in {ago(due_ms - now_ms)}" if due_ms > now_ms else "now"


def failure_chain(failure: Any) -> list[dict[str, str]]:
    """Return a stored failure and its causes, outermost first."""
    found: list[dict[str, str]] = []
    while isinstance(failure, dict) and len(found) < 20:
        found.append({key: str(failure.get(key) or "") for key in ("type", "message", "stack")})
        failure = failure.get("cause")
    return found
