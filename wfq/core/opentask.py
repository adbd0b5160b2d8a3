"""The ledger entry of a task that was scheduled and has not ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wfq.core.events import Action
from wfq.core.tasks import SingleTask

if TYPE_CHECKING:
    from wfq.core.childretry import ChildRetry


class OpenTask:
    """One open task.

    kind: the code of the action that opened it: A activity, T timer, E event wait, W child.
    nonce: of the turn that scheduled it; only a completion that carries it counts.
    action: as decided, or as recorded in history. scheduled_ms: time of that turn.
    task: what user code awaits; None in an instance without code and for backoff timers.
    """

    __slots__ = ("action", "kind", "nonce", "retry", "scheduled_ms", "task")

    def __init__(
        self,
        kind: str,
        nonce: str,
        action: Action,
        scheduled_ms: int,
        task: SingleTask[Any] | None,
        retry: ChildRetry | None = None,
    ) -> None:
        self.kind = kind
        self.nonce = nonce
        self.action = action
        self.scheduled_ms = scheduled_ms
        self.task = task
        self.retry = retry
