"""Options of a scheduling call, checked and in the form in which they travel."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from wfq.core.retry import RetryPolicy, ms_of
from wfq.core.tasks import short
from wfq.errors import InvalidIdentifier, WorkflowMisuse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The last millisecond of year 9999, the end of Python's calendar.
MAX_MS = 253_402_300_799_999

#: What a user may choose as an instance id; `~` is the engine's, for children.
_USER_ID = re.compile(r"[A-Za-z0-9._:@-]{1,200}\Z")
_ANY_ID = re.compile(r"[A-Za-z0-9._:@~-]{1,1000}\Z")
_QUEUE = re.compile(r"[A-Za-z0-9._:@-]{1,200}\Z")
#: Characters of an event, activity, workflow or patch name.
MAX_NAME = 500


def activity_opts(
    retry_policy: RetryPolicy | None,
    timeout: timedelta | None,
    schedule_to_start_timeout: timedelta | None,
    heartbeat_timeout: timedelta | None,
    queue: str | None,
) -> dict[str, Any]:
    """Return the `opts` of a ScheduleTask action. Raises: WorkflowMisuse, InvalidIdentifier."""
    opts: dict[str, Any] = {}
    if queue is not None:
        opts["q"] = checked_queue(queue)
    if retry_policy is not None:
        opts["r"] = checked_retry(retry_policy)
    if timeout is not None:
        opts["t"] = _positive_ms(timeout, "timeout")
    if schedule_to_start_timeout is not None:
        opts["s"] = _positive_ms(schedule_to_start_timeout, "schedule_to_start_timeout")
    if heartbeat_timeout is not None:
        opts["h"] = _positive_ms(heartbeat_timeout, "heartbeat_timeout")
    return opts


def checked_retry(policy: RetryPolicy) -> list[Any]:
    """Return a retry policy as it travels."""
    if not isinstance(policy, RetryPolicy):
        raise WorkflowMisuse(f"retry_policy must be a RetryPolicy, not {short(policy)}")
    return policy.to_opts()


def due_ms(when: datetime | timedelta, now_ms: int, what: str) -> int:
    """Return a time (naive = UTC), or a while from `now_ms`, as epoch ms, rounded up.

    What lies beyond year 9999 is due then; what lies before 1970 is due at 0.
    """
    if isinstance(when, timedelta):
        due = now_ms + ms_of(when)
    elif isinstance(when, datetime):
        aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        due = ms_of(aware - _EPOCH)
    else:
        raise WorkflowMisuse(f"{what} must be a datetime or a timedelta, not {short(when)}")
    return max(0, min(due, MAX_MS))


def checked_name(name: object, what: str) -> str:
    """Return a name that can be stored. Raises: WorkflowMisuse."""
    if not isinstance(name, str) or not name:
        raise WorkflowMisuse(f"{what} must be a non-empty string, not {short(name)}")
    if len(name) > MAX_NAME:
        raise WorkflowMisuse(f"{what} is longer than {MAX_NAME} characters: {short(name)}")
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise WorkflowMisuse(f"{what} is not valid Unicode: {short(name)}") from None
    return name


def checked_child_id(instance_id: object) -> str:
    """Return an id that a user chose for a child. Raises: InvalidIdentifier."""
    if not isinstance(instance_id, str) or not _USER_ID.match(instance_id):
        raise InvalidIdentifier(
            f"instance id {short(instance_id)} is not 1 to 200 of the characters "
            "A-Z a-z 0-9 . _ : @ -"
        )
    return instance_id


def checked_target_id(instance_id: object) -> str:
    """Return the id of an instance to talk to, a child's included. Raises: InvalidIdentifier."""
    if not isinstance(instance_id, str) or not _ANY_ID.match(instance_id):
        raise InvalidIdentifier(f"{short(instance_id)} is not an instance id")
    return instance_id


def checked_queue(queue: object) -> str:
    """Return the name of a queue. Raises: InvalidIdentifier."""
    if not isinstance(queue, str) or not _QUEUE.match(queue):
        raise InvalidIdentifier(
            f"queue or app_id {short(queue)} is not 1 to 200 of the characters "
            "A-Z a-z 0-9 . _ : @ -"
        )
    return queue


def _positive_ms(value: timedelta, what: str) -> int:
    if not isinstance(value, timedelta):
        raise WorkflowMisuse(f"{what} must be a timedelta, not {short(value)}")
    ms = ms_of(value)
    if ms <= 0:
        raise WorkflowMisuse(f"{what} must be positive, not {value}")
    return min(ms, MAX_MS)
