"""Retries of child workflows: the only retries that run inside turns."""

from __future__ import annotations

from random import Random
from typing import Any

from wfq.core.events import Failure, Payload
from wfq.core.retry import RetryOpts, is_retryable, next_delay_ms
from wfq.core.tasks import SingleTask


class ChildRetry:
    """What it takes to start a failed child again."""

    __slots__ = ("attempt", "input", "name", "opts", "seed", "started_ms", "task", "user_id")

    def __init__(
        self,
        *,
        name: str,
        payload: Payload,
        opts: dict[str, Any],
        user_id: str | None,
        task: SingleTask[Any] | None,
        started_ms: int,
        seed: str,
    ) -> None:
        self.name = name
        self.input = payload
        self.opts = opts
        self.user_id = user_id
        self.task = task
        self.started_ms = started_ms
        self.seed = seed
        self.attempt = 1

    def delay_ms(self, failure: Failure, now_ms: int) -> int | None:
        """Return the wait before the next attempt, or None when this failure is final.

        The jitter depends on nothing but the task and the attempt, so replay finds the same.
        """
        policy: RetryOpts = self.opts["r"]
        if not is_retryable(policy, failure):
            return None
        rand = Random(f"{self.seed}:{self.attempt}").random
        return next_delay_ms(policy, self.attempt, now_ms - self.started_ms, rand)
