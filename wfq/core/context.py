"""The object that workflow functions receive as `ctx`."""

from __future__ import annotations

import logging
import random
import string
import uuid
from collections.abc import Callable, Coroutine, Generator, MutableMapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from wfq.core.options import activity_opts
from wfq.core.ports import NO_INPUT
from wfq.core.retry import RetryPolicy
from wfq.core.tasks import Task

if TYPE_CHECKING:
    from wfq.core.decisions import Decisions

R = TypeVar("R")

#: Naive, as the times that Dapr's contexts give.
_EPOCH = datetime(1970, 1, 1)


class Dice(random.Random):
    """A random generator that may be called for itself: Dapr's contexts have a method."""

    def __call__(self) -> Dice:
        return self


class WorkflowContext:
    """What a workflow may ask for; everything here is deterministic and safe in replay.

    The methods only schedule: nothing happens before the turn is committed. Each returns a
    `Task` to ``yield`` (generators) or ``await`` (``async def``). One that is not awaited still
    runs.
    """

    __slots__ = ("_logger", "_random", "_run")

    def __init__(self, run: Decisions) -> None:
        self._run = run
        self._logger: _ReplayLogger | None = None
        self._random: Dice | None = None

    @property
    def instance_id(self) -> str:
        """The id of this instance."""
        return self._run.id

    @property
    def workflow_name(self) -> str:
        """The name that the instance was started under."""
        return self._run.name

    @property
    def parent_instance_id(self) -> str | None:
        """The id of the parent instance; None when a client started this one."""
        parent = self._run.parent
        return None if parent is None else parent[0]

    @property
    def version(self) -> str | None:
        """The version of the workflow that the instance runs on; None if it has none."""
        return self._run.version

    @property
    def continued_as_new_count(self) -> int:
        """How often this instance has continued as new."""
        return self._run.gen

    @property
    def current_utc_datetime(self) -> datetime:
        """The time of the current turn, naive UTC; the same in every replay."""
        return _EPOCH + timedelta(milliseconds=self._run.now_ms)

    @property
    def is_replaying(self) -> bool:
        """Whether the code is being run again over decisions made earlier."""
        return self._run.replaying

    @property
    def is_suspended(self) -> bool:
        """Whether the instance is suspended; code does not run then, so False in workflows."""
        return self._run.suspended

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that is silent in replay, so that each line is written once."""
        if self._logger is None:
            self._logger = _ReplayLogger(self._run)
        return self._logger

    @property
    def random(self) -> Dice:
        """A random generator that gives the same numbers in every replay."""
        if self._random is None:
            self._random = Dice(f"{self._run.seed}:random")
        return self._random

    def new_uuid(self) -> str:
        """Return a new UUID that is the same in every replay."""
        return str(self._next_uuid())

    # Dapr's names of the same.

    def now(self) -> datetime:
        """The time of the current turn; see `current_utc_datetime`."""
        return self.current_utc_datetime

    def uuid4(self) -> uuid.UUID:
        """Return a new UUID that is the same in every replay, though of version 5."""
        return self._next_uuid()

    def new_guid(self) -> uuid.UUID:
        """Return a new UUID that is the same in every replay; see `uuid4`."""
        return self._next_uuid()

    def _next_uuid(self) -> uuid.UUID:
        return uuid.uuid5(_NAMESPACE, f"{self._run.seed}:{self._run.next_uuid()}")

    def random_string(self, length: int, *, alphabet: str | None = None) -> str:
        """Return `length` random characters (ASCII letters and digits unless given)."""
        chars = string.ascii_letters + string.digits if alphabet is None else alphabet
        if length < 0 or not chars:
            raise ValueError("a random string needs a length of at least 0, and an alphabet")
        draw = self.random.choice
        return "".join(draw(chars) for _ in range(length))

    @overload
    def call_activity(
        self,
        activity: Callable[..., Coroutine[Any, Any, R]],
        *,
        input: Any = ...,
        retry_policy: RetryPolicy | None = None,
        timeout: timedelta | None = None,
        schedule_to_start_timeout: timedelta | None = None,
        heartbeat_timeout: timedelta | None = None,
        queue: str | None = None,
        app_id: str | None = None,
    ) -> Task[R]: ...
    @overload
    def call_activity(
        self,
        activity: Callable[..., R],
        *,
        input: Any = ...,
        retry_policy: RetryPolicy | None = None,
        timeout: timedelta | None = None,
        schedule_to_start_timeout: timedelta | None = None,
        heartbeat_timeout: timedelta | None = None,
        queue: str | None = None,
        app_id: str | None = None,
    ) -> Task[R]: ...
    @overload
    def call_activity(
        self,
        activity: str,
        *,
        input: Any = ...,
        retry_policy: RetryPolicy | None = None,
        timeout: timedelta | None = None,
        schedule_to_start_timeout: timedelta | None = None,
        heartbeat_timeout: timedelta | None = None,
        queue: str | None = None,
        app_id: str | None = None,
    ) -> Task[Any]: ...
    def call_activity(
        self,
        activity: Any,
        *,
        input: Any = NO_INPUT,  # noqa: A002 - the name is Dapr's
        retry_policy: RetryPolicy | None = None,
        timeout: timedelta | None = None,
        schedule_to_start_timeout: timedelta | None = None,
        heartbeat_timeout: timedelta | None = None,
        queue: str | None = None,
        app_id: str | None = None,
    ) -> Task[Any]:
        """Schedule an activity and return its task.

        activity: the function, or the name it is registered under.
        input: one JSON-encodable value; it is encoded now, later changes do not show.
        retry_policy: None = one attempt.
        timeout: longest run of one attempt. schedule_to_start_timeout: longest wait for a free
        worker. heartbeat_timeout: longest silence between heartbeats.
        queue: the activity queue whose workers may run it. app_id: the same, in Dapr's word.

        Raises: PayloadError when the input cannot be encoded; WorkflowMisuse.
        """
        opts = None
        if (
            retry_policy is not None
            or timeout is not None
            or schedule_to_start_timeout is not None
            or heartbeat_timeout is not None
            or queue is not None
            or app_id is not None
        ):
            opts = activity_opts(
                retry_policy,
                timeout,
                schedule_to_start_timeout,
                heartbeat_timeout,
                app_id if queue is None else queue,
            )
        return self._run.call_activity(activity, input, opts)

    @overload
    def call_child_workflow(
        self,
        workflow: Callable[..., Generator[Any, Any, R]],
        *,
        input: Any = ...,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        app_id: str | None = None,
    ) -> Task[R]: ...
    @overload
    def call_child_workflow(
        self,
        workflow: Callable[..., Coroutine[Any, Any, R]],
        *,
        input: Any = ...,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        app_id: str | None = None,
    ) -> Task[R]: ...
    @overload
    def call_child_workflow(
        self,
        workflow: Callable[..., R],
        *,
        input: Any = ...,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        app_id: str | None = None,
    ) -> Task[R]: ...
    @overload
    def call_child_workflow(
        self,
        workflow: str,
        *,
        input: Any = ...,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        app_id: str | None = None,
    ) -> Task[Any]: ...
    def call_child_workflow(
        self,
        workflow: Any,
        *,
        input: Any = NO_INPUT,  # noqa: A002 - the name is Dapr's
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        app_id: str | None = None,
    ) -> Task[Any]:
        """Start another workflow as a child and return the task of its outcome.

        instance_id: None = an id is made from the parent's. An id that is taken by a live
        instance fails the task. app_id: the application that has the child's code; None = the
        parent's. With a retry policy a failed child is started anew.

        Raises: PayloadError; InvalidIdentifier for the id; WorkflowMisuse.
        """
        return self._run.call_child(workflow, input, instance_id, retry_policy, app_id)

    def schedule_new_workflow(
        self,
        workflow: Callable[..., Any] | str,
        *,
        input: Any = NO_INPUT,  # noqa: A002 - the name is Dapr's
        instance_id: str | None = None,
        app_id: str | None = None,
    ) -> str:
        """Start a workflow that is no child of this one, when this turn is committed.

        Returns its id: nothing is awaited, and neither its outcome nor a terminate passes between
        the two. instance_id: None = an id is made; one that is taken starts nothing, and nobody
        is told. app_id: the application that has its code; None = this one's.
        Raises: PayloadError; InvalidIdentifier for the id; WorkflowMisuse.
        """
        return self._run.start_detached(workflow, input, instance_id, app_id)

    def create_timer(self, fire_at: datetime | timedelta) -> Task[None]:
        """Return a task that completes at a time (naive = UTC), or after a while from now.

        A time in the past completes as soon as possible. Resolution: a millisecond, rounded up.
        """
        return self._run.create_timer(fire_at)

    def wait_for_external_event(
        self, name: str, *, timeout: timedelta | datetime | None = None
    ) -> Task[Any]:
        """Return a task whose result is the data of the next external event of that name.

        Names match case-insensitively. An event that came earlier and was not taken is taken at
        once; several waiters of one name are served first in, first out.
        timeout: afterwards awaiting raises TimeoutError; zero, or a time in the past = take an
        event that is already there or time out at once; None or a negative timedelta = wait for
        ever, as in Dapr.
        """
        return self._run.wait_for_event(name, timeout)

    def continue_as_new(self, new_input: Any, *, save_events: bool = False) -> None:
        """When the function ends, start it anew with `new_input` and an empty history.

        It does not raise: the function goes on to its end; its result is ignored, the last call
        counts. If the function raises afterwards, the instance fails. save_events: events that
        no waiter has taken are kept for the next generation; otherwise they are dropped, except
        those that this generation never saw.
        """
        self._run.continue_as_new(new_input, save_events)

    def set_custom_status(self, custom_status: Any) -> None:
        """Set the status value that clients read beside the runtime status; JSON-encodable."""
        self._run.set_custom_status(custom_status)

    def send_event(self, instance_id: str, name: str, data: Any = None) -> None:
        """Raise an external event for another instance when this turn is committed.

        An instance that does not exist, or has ended, does not get it; nobody is told. A full
        inbox (limits.inbox_events) is no obstacle here.
        """
        self._run.send_event(instance_id, name, data)

    def is_patched(self, patch_name: str) -> bool:
        """Whether this instance takes the new branch of a change named `patch_name`.

        True for instances that had not passed this point when the change was deployed, False
        for those that had; it stays what it was first, for the rest of the generation.
        """
        return self._run.is_patched(patch_name)


#: Name space of the UUIDs that workflows make.
_NAMESPACE = uuid.UUID("7d1ee7f5-5a4f-5b0a-9f65-2f3f0a3a6c11")


class _ReplayLogger(logging.LoggerAdapter[logging.Logger]):
    """Says nothing while its instance replays or has been discarded."""

    def __init__(self, run: Decisions) -> None:
        super().__init__(logging.getLogger("wfq.workflow"), {})
        self._instance = run

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's own name
        return not self._instance.replaying and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        extra = dict(kwargs.get("extra") or {})
        extra.setdefault("instance_id", self._instance.id)
        extra.setdefault("workflow", self._instance.name)
        kwargs["extra"] = extra
        return msg, kwargs
