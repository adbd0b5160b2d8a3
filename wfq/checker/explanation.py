"""An explanation: what is known of one instance, and the words for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wfq.checker.evidence import at_text
from wfq.checker.waiting import Lack, WaitingTask
from wfq.durations import told_duration

#: Milliseconds of lateness that are normal on a busy machine.
LATE_MS = 2_000


@dataclass(slots=True)
class Explanation:
    """What is known of an instance now.

    waits: what it waits for, a line each. next: what will happen by itself, and when. todo: what
    a person must do; nothing where it goes on alone. wrong: invariants that do not hold.

    The same as values: tasks (the first open ones; `further` is the number of the others), stalled
    (why it has no code to go on with), lacks (what no live worker has, of what its turns need),
    start_due_ms (of a delayed start), stalls_ms (when it is STALLED unless a worker has its code),
    events (that wait for a turn), begun. now_ms: the server's time of the look; turns: how many
    its history had then, in which generation.
    """

    instance_id: str
    status: str
    waits: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    tasks: list[WaitingTask] = field(default_factory=list)
    further: int = 0
    stalled: str = ""
    lacks: list[Lack] = field(default_factory=list)
    start_due_ms: int | None = None
    stalls_ms: int | None = None
    events: int = 0
    begun: bool = True
    now_ms: int = 0
    turns: int = 0
    generation: int = 0

    def add(self, wait: str, *, then: str = "", todo: str = "") -> None:
        """Add a line, and what follows from it; what was said is not said again."""
        for line, lines in ((wait, self.waits), (then, self.next), (todo, self.todo)):
            if line and line not in lines:
                lines.append(line)

    def lack(self, lack: Lack | None) -> None:
        """Add something that its turns need and nobody has."""
        if lack is not None and lack not in self.lacks:
            self.lacks.append(lack)
            self.add("", todo=lack.todo)

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
            "tasks": [task.document() for task in self.tasks],
        }


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


# --- the lines of a task


def tell_task(told: Explanation, task: WaitingTask) -> None:
    """Add the lines of an open task."""
    match task.kind:
        case "activity":
            _ACTIVITY[task.state](told, task, f"activity {task.name!r} (task {task.task_id})")
        case "timer":
            due_ms = task.due_ms or 0
            tell_time(told, f"timer (task {task.task_id})", due_ms, "the timer fires", task.lacks)
        case "event":
            _tell_event(told, task)
        case "child":
            reason = f": {task.child_reason}" if task.child_reason else ""
            child_id = task.child_id
            told.add(
                f"child {child_id}, {task.state}{reason}", todo=f"'wfq explain {child_id}' tells on"
            )


def tell_time(
    told: Explanation, what: str, due_ms: int, then: str, lacks: tuple[Lack, ...], comma: str = ","
) -> None:
    """Add what happens at a time, and when; late and early alike."""
    unserved = next((lack for lack in lacks if lack.what == "scheduler"), None)
    at = at_text(due_ms)
    if told.now_ms - due_ms < LATE_MS or unserved is None:
        left_ms = due_ms - told.now_ms
        when = f"in {told_duration(left_ms)}, at {at}" if left_ms > 0 else f"at {at}"
        told.add(f"{what}{comma} due {at}", then=f"{then} {when}")
    if unserved is not None:
        late = "overdue since" if due_ms < told.now_ms else "due"
        told.add(f"{what}{comma} {late} {at}", todo=unserved.todo)


def _tell_event(told: Explanation, task: WaitingTask) -> None:
    since = told_duration(told.now_ms - task.since_ms)
    text = f"event {task.name!r} since {since} ({at_text(task.since_ms)})"
    if task.raised:
        text += f"; raised so far: {', '.join(task.raised)}"
    if task.state == "come":
        told.add(f"{text}; it has come", then="the event is taken once there is code for it")
        return
    if task.due_ms is not None:
        tell_time(told, text, task.due_ms, "the wait times out", task.lacks)
        text = ""
    told.add(text, todo=f"'wfq raise {told.instance_id} {task.name}' answers it")


def _tell_running(told: Explanation, task: WaitingTask, name: str) -> None:
    times = f", delivered {task.deliveries} times" if (task.deliveries or 1) > 1 else ""
    alive = "" if task.worker_alive else ", which is not alive"
    error = f"; last error: {task.last_error}" if task.last_error is not None else ""
    if alive:
        then = "another worker takes it over when its lease runs out"
    elif task.has_timeout:
        then = "its result, or its timeout"
    else:
        then = "its result; it has no timeout, so it may run for ever"
    text = f"{name}, {attempt_text(task)}, runs on {task.worker}{times}{alive}{error}"
    told.add(text, then=then)
    _tell_lacks(told, task)


def _tell_queued(told: Explanation, task: WaitingTask, name: str) -> None:
    waits = f"{name} waits in queue {task.queue!r}"
    if _tell_lacks(told, task):
        told.add(waits)
    elif task.busy:
        slots = "its one slot is" if task.busy == 1 else f"all {task.busy} slots are"
        told.add(
            f"{waits}; {slots} busy",
            then="a slot that is free takes it",
            todo="more workers, or a higher concurrency, if that takes too long",
        )
    else:
        told.add(waits, then="a worker takes it now")
    if task.start_by_ms is not None:
        what = f"{name} may wait for a worker"
        tell_time(told, what, task.start_by_ms, "it fails unless one has it", task.lacks)


def _tell_retrying(told: Explanation, task: WaitingTask, name: str) -> None:
    error = task.last_error or "the worker's log has the errors"
    following = attempt_text(task)
    text = f"{name} has failed {times_text((task.attempt or 2) - 1)} ({error}), {following}"
    tell_time(told, text, task.due_ms or 0, following, task.lacks, comma="")
    _tell_lacks(told, task)


def _tell_unknown(told: Explanation, task: WaitingTask, name: str) -> None:
    told.add(
        f"{name} is known to no worker of queue {task.queue!r} that has seen it",
        then=f"it is offered again at {at_text(task.due_ms or 0)}",
    )
    if task.stalls_ms is not None:
        at = at_text(task.stalls_ms)
        told.add("", then=f"STALLED at {at}, unless a worker has it by then")
    _tell_lacks(told, task)


def _tell_lacks(told: Explanation, task: WaitingTask) -> bool:
    """Add what no live worker has; True if there is such a thing."""
    lacks = [lack for lack in task.lacks if lack.what != "scheduler"]
    for lack in lacks:
        told.add("", todo=lack.todo)
    return bool(lacks)


def _tell_undispatched(told: Explanation, _: WaitingTask, name: str) -> None:
    told.add(f"{name} is not handed out yet", then="that goes on with an owner")


def _tell_gone(told: Explanation, _: WaitingTask, name: str) -> None:
    told.add(f"{name}: nothing of it is left")


_ACTIVITY = {
    "running": _tell_running,
    "queued": _tell_queued,
    "retrying": _tell_retrying,
    "unknown": _tell_unknown,
    "undispatched": _tell_undispatched,
    "gone": _tell_gone,
}


def attempt_text(task: WaitingTask) -> str:
    """Return ``attempt 3 of 5``, or ``attempt 3`` where there is no limit."""
    return f"attempt {task.attempt}" + (f" of {task.of}" if task.of else "")


def times_text(count: int) -> str:
    """Return ``once`` or ``3 times``."""
    return "once" if count == 1 else f"{count} times"
