"""What an instance waits for, as values: one for each open task, and what is lacking."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

#: `orchestrator`, `worker`: nobody serves the queue at all. `workflow`, `activity`: those that do
#: have not registered the name.
Lacking = Literal["scheduler", "orchestrator", "workflow", "worker", "activity"]


@dataclass(frozen=True, slots=True)
class Lack:
    """A role or a name that no live worker has; `near` is one that they have."""

    what: Lacking
    queue: str = ""
    name: str = ""
    near: str = ""

    @property
    def todo(self) -> str:
        """What a person has to do, in a line."""
        hint = f"; they have {self.near!r}" if self.near else ""
        match self.what:
            case "scheduler":
                return "no worker with the role scheduler is alive: timers do not fire; start one"
            case "orchestrator":
                own = "" if self.queue == "default" else f" --app-id {self.queue}"
                return (
                    f"no worker of {self.queue!r} is running; {self.name!r} waits for one "
                    f"('wfq worker APP{own}')"
                )
            case "workflow":
                return (
                    f"no live worker of {self.queue!r} has registered workflow {self.name!r}{hint}"
                )
            case "worker":
                return (
                    f"no worker of queue {self.queue!r} is alive: "
                    f"'wfq worker APP --queue {self.queue}'"
                )
            case "activity":
                return (
                    f"no live worker of queue {self.queue!r} has registered activity "
                    f"{self.name!r}{hint}"
                )


@dataclass(frozen=True, slots=True)
class Error:
    """What the last attempt failed with; the message is cut."""

    type: str
    message: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTask:
    """An open task. Times in epoch ms; None where there is no such thing.

    state, of an activity: `running`, `queued`, `retrying` (the next attempt waits for its time),
    `unknown` (no worker that saw it knows it), `undispatched`, `gone` (nothing of it is left); of
    a timer or event: `waiting`, or `come` for an event that code which is missing has yet to take;
    of a child: its status, or `on its way`.

    name: of the activity, the event or the child's workflow. due_ms: when the timer fires, the
    wait for an event times out, or the next attempt is due. start_by_ms: when an activity fails
    unless it was begun. stalls_ms: when its instance is STALLED unless a worker has it.

    attempt: the one that runs or comes next, from 1; of: how many there may be. attempt_times:
    when the last ones before it began and ended. queued_ms: since when it waited for a worker, or
    waits. worker: that runs it. busy: the slots of its queue, where all are taken. raised: other
    events that came.
    """

    task_id: int
    kind: Literal["activity", "timer", "event", "child"]
    name: str
    state: str
    since_ms: int
    due_ms: int | None = None
    start_by_ms: int | None = None
    stalls_ms: int | None = None
    queue: str | None = None
    attempt: int | None = None
    of: int | None = None
    attempt_times: tuple[tuple[int, int], ...] = ()
    last_error: Error | None = None
    queued_ms: int | None = None
    worker: str | None = None
    worker_alive: bool | None = None
    deliveries: int | None = None
    has_timeout: bool | None = None
    busy: int | None = None
    raised: tuple[str, ...] = ()
    child_id: str | None = None
    child_reason: str | None = None
    lacks: tuple[Lack, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready values, without what there is none of."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        found["lacks"] = [lack.todo for lack in self.lacks]
        if self.last_error is not None:
            found["last_error"] = {
                "type": self.last_error.type,
                "message": self.last_error.message,
            }
        return {name: value for name, value in found.items() if value not in (None, (), [], "")}
