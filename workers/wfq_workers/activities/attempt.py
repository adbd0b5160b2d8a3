"""One delivered attempt of an activity: what its message says, and what is known of its run."""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import TYPE_CHECKING, Any

import orjson

from wfq.activity_context import ActivityContext
from wfq.core.events import Payload

if TYPE_CHECKING:
    from wfq_workers.activities.execution import Handler
    from wfq_workers.activities.packs import Pack


class Stream:
    """The activities of one queue in one partition."""

    __slots__ = ("key", "partition", "queue")

    def __init__(self, partition: int, queue: str, key: str) -> None:
        self.partition = partition
        self.queue = queue
        self.key = key

    def __repr__(self) -> str:
        return f"<Stream {self.key}>"


_SAME: Any = object()

#: Stream, entry id, instance id, message, and how often it was handed out, this time included.
Delivery = tuple[Stream, bytes, str, bytes, int]
#: The same of what was not delivered: with a message that need not be read.
Local = tuple[Stream, bytes, str, list[Any], int]


class MalformedMessage(Exception):
    """An entry of an activities stream that wfq did not write."""


class Attempt:
    """An activity attempt that this worker holds; compared by identity."""

    __slots__ = (
        "after",
        "beat_at",
        "context",
        "deliveries",
        "details",
        "details_sent",
        "entry_id",
        "extra",
        "final",
        "handler",
        "heartbeat_details",
        "home",
        "instance_id",
        "interrupted",
        "kept_at",
        "name",
        "nonce",
        "number",
        "options",
        "payload",
        "result",
        "run",
        "scheduled_ms",
        "started_at",
        "stop",
        "stream",
        "task_id",
        "took_s",
        "unwanted",
    )

    def __init__(self, delivery: Delivery | Local, now: float) -> None:
        """`now` is monotonic seconds. Raises: MalformedMessage."""
        self.stream, self.entry_id, self.instance_id, value, self.deliveries = delivery
        try:
            (
                self.nonce,
                self.number,
                self.scheduled_ms,
                self.home,
                self.run,
                (_, self.task_id, self.name, self.payload, self.options),
                self.extra,
            ) = value if type(value) is list else orjson.loads(value)  # type: ignore[arg-type]
        except (ValueError, TypeError) as exc:
            raise MalformedMessage(f"not an activity message: {exc}") from exc
        if not (
            type(self.name) is str
            and type(self.number) is type(self.task_id) is int
            and isinstance(self.options, (dict, NoneType))
            and isinstance(self.extra, (dict, NoneType))
        ):
            raise MalformedMessage("not an activity message: values of the wrong type")
        if self.extra is not None:
            self.deliveries += self.extra.get("deliveries", 0)
        self.handler: Handler | None = None
        self.context: ActivityContext | None = None
        #: What an earlier attempt of the task reported last, decoded for the function.
        self.heartbeat_details: Any = None
        #: Monotonic seconds of the read or of the last renewal of the lease.
        self.kept_at: float = now
        #: Monotonic seconds at which the function was entered, or its process asked for; 0 before.
        self.started_at: float = 0.0
        #: Monotonic seconds of the last heartbeat.
        self.beat_at: float = 0.0
        #: Encoded details of the last heartbeat, and whether Redis has them.
        self.details: bytes | None = None
        self.details_sent: bool = True
        #: Stops the run from outside, True at once and False gently; set by what runs it.
        self.stop: Callable[[bool], None] | None = None
        #: Whether no further attempt follows; known once it has ended.
        self.final: bool = False
        #: Whether it was stopped from outside.
        self.interrupted: bool = False
        #: What became of it, in a word for the metrics, and how long its function ran.
        self.result: str = ""
        self.took_s: float = 0.0
        #: The pack whose entry it keeps since that was split; what is reported of the pack goes
        #: first, in a call of its own.
        self.after: Pack | None = None
        #: Why the result is not wanted: "lost", "cancelled", or "stopping" (the worker stops).
        self.unwanted: str | None = None

    @property
    def given(self) -> bool:
        """Whether the caller gave an input (None is one)."""
        return self.options is None or not self.options.get("n")

    @property
    def start_to_close_ms(self) -> int | None:
        return None if self.options is None else self.options.get("t")

    @property
    def heartbeat_ms(self) -> int | None:
        return None if self.options is None else self.options.get("h")

    @property
    def retry(self) -> list[Any] | None:
        """The retry policy as the action carries it."""
        return None if self.options is None else self.options.get("r")

    def cancel(self, *, at_once: bool = False) -> None:
        """Let the function know that its result is not wanted, and stop it where possible.

        `at_once` also ends what would not stop by itself: a process.
        """
        context, stop = self.context, self.stop
        if context is not None:
            context.cancel()
        if stop is not None:
            self.interrupted = True
            stop(at_once)

    @property
    def told(self) -> bool:
        """Whether the function may have ended because it was told to."""
        return self.interrupted or (self.context is not None and self.context.was_told)

    def message(
        self, *, number: int | None = None, payload: Payload = _SAME, **extra: Any
    ) -> bytes:
        """Return the message of a further delivery; None drops an entry of `extra`.

        Heartbeat details go along, so the next attempt finds them wherever it runs.
        """
        merged = {**(self.extra or {}), **extra}
        if self.details is not None:
            merged["hb"] = orjson.Fragment(self.details)
        merged = {name: value for name, value in merged.items() if value is not None}
        shown = self.payload if payload is _SAME else payload
        action = ["A", self.task_id, self.name, shown, self.options]
        return orjson.dumps(
            [
                self.nonce,
                self.number if number is None else number,
                self.scheduled_ms,
                self.home,
                self.run,
                action,
                merged or None,
            ]
        )

    def __repr__(self) -> str:
        return (
            f"<Attempt {self.number} of {self.name} {self.instance_id}:{self.run}:{self.task_id}>"
        )
