"""Why an instance waits, in words that need no knowledge of the engine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from wfq.analysis.spans import Span
from wfq_server.dashboard.source import Worker
from wfq_server.dashboard.wording import ago, epoch_ms

#: Reasons that a page shows.
SHOWN = 8
_ATTEMPT = re.compile(r"attempt (\d+), (pending on worker (\S+)|waits for a worker)")
_NEXT = re.compile(r"next attempt due (\S+)")


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that an instance waits for. `bad`: it will not go on by itself."""

    text: str
    kind: Literal["event", "timer", "activity", "child", "state"] = "state"
    bad: bool = False


def reasons(
    status: str,
    stalled: str | None,
    spans: Sequence[Span],
    explanation: str,
    workers: Sequence[Worker],
    *,
    queue: str,
    now_ms: int,
) -> list[Reason]:
    """Return what a live instance waits for, what needs a person first."""
    found: list[Reason] = []
    if status == "STALLED":
        found.append(Reason(f"Stalled: {stalled or 'it needs code that fits'}.", bad=True))
    elif status == "SUSPENDED":
        found.append(Reason("Suspended: it goes on when somebody resumes it.", bad=True))
    told = {task: part for part in explanation.split("; ") for task in _task_ids(part)}
    waiting = [span for span in spans if span.state == "open"]
    found += [
        _reason(
            span, told.get(-1 if span.task_id is None else span.task_id, ""), workers, queue, now_ms
        )
        for span in waiting
    ]
    found += [
        Reason(part.removeprefix("wrong: ").capitalize() + ".", bad=True)
        for part in explanation.split("; ")
        if part.startswith("wrong: ")
    ]
    if not waiting and status in ("RUNNING", "PENDING"):
        found.append(_unbegun(explanation, workers, queue))
    found.sort(key=lambda reason: not reason.bad)
    return found


def _task_ids(part: str) -> list[int]:
    return [
        int(number)
        for number in re.findall(r"\(task (\d+)\)|timer (\d+)", part)
        for number in number
        if number
    ]


def _reason(span: Span, told: str, workers: Sequence[Worker], queue: str, now_ms: int) -> Reason:
    since = ago(now_ms - span.start_ms)
    match span.kind:
        case "event":
            text = f"Waits for the event {span.name}, for {since} now"
            if span.due_ms is not None:
                text += f"; gives up {_until(span.due_ms, now_ms)}"
            return Reason(f"{text}.", "event")
        case "timer":
            due = _until(span.due_ms or now_ms, now_ms)
            return Reason(f"A timer fires {due}.", "timer")
        case "child":
            return Reason(f"The child workflow {span.name} has been running for {since}.", "child")
        case _:
            return _activity(span, told, workers, queue, now_ms, since)


def _activity(
    span: Span, told: str, workers: Sequence[Worker], queue: str, now_ms: int, since: str
) -> Reason:
    name, served = span.name, span.queue or queue
    policy = span.retry_policy
    of = f" of {policy[1]}" if isinstance(policy, list) and len(policy) > 1 else ""
    retry = _NEXT.search(told)
    if retry:
        due_ms = _parsed_ms(retry[1], now_ms)
        due = _until(due_ms, now_ms)
        limit = f" ({policy[1]} attempts at most)" if of else ""
        return Reason(f"{name} failed; its next attempt is {due}{limit}.", "activity")
    attempt = _ATTEMPT.search(told)
    number = int(attempt[1]) if attempt else 1
    tries = f", attempt {number}{of}" if number > 1 else ""
    if attempt and attempt[3]:
        return Reason(f"{name} runs on {attempt[3]}{tries}, for {since} now.", "activity")
    if told and not _serves(workers, served, name):
        return Reason(
            f"No live worker has the activity {name} (queue {served}). Start one, and it goes on.",
            "activity",
            bad=True,
        )
    if attempt:
        return Reason(f"{name} waits for a free worker{tries}, for {since} now.", "activity")
    return Reason(f"{name} has been under way for {since}.", "activity")


def _serves(workers: Sequence[Worker], queue: str, activity: str) -> bool:
    return any(
        queue in (worker.details.get("queues") or ())
        and activity in (worker.details.get("activities") or ())
        for worker in workers
    )


def _unbegun(explanation: str, workers: Sequence[Worker], queue: str) -> Reason:
    due = re.search(r"delayed start due (\S+)", explanation)
    if due:
        return Reason(f"Its start is planned for {due[1].rstrip(',;')}.", "timer")
    serving = [w for w in workers if "orchestrator" in (w.details.get("roles") or ())]
    if not any(queue == w.details.get("app_id") for w in serving):
        return Reason(
            f"No live worker has its code (application {queue}). Start one, and it goes on.",
            bad=True,
        )
    return Reason("It is about to go on.")


def _until(due_ms: int, now_ms: int) -> str:
    return f"in {ago(due_ms - now_ms)}" if due_ms > now_ms else "now"


def _parsed_ms(text: str, default: int) -> int:
    try:
        return epoch_ms(datetime.fromisoformat(text.rstrip(",;").replace("Z", "+00:00")))
    except ValueError:
        return default


def failure_chain(failure: Any) -> list[dict[str, str]]:
    """Return a stored failure and its causes, outermost first."""
    found: list[dict[str, str]] = []
    while isinstance(failure, dict) and len(found) < 20:
        found.append({key: str(failure.get(key) or "") for key in ("type", "message", "stack")})
        failure = failure.get("cause")
    return found
