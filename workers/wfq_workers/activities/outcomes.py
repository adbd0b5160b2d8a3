"""What becomes of an attempt: the values that are reported to Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from wfq.core.events import Failure, Payload
from wfq.core.failures import make_failure
from wfq.core.retry import is_retryable, next_delay_ms
from wfq.storage.activities import Completed, Dead, HandBack, Note, Outcome, Retry
from wfq_workers.activities.attempt import Attempt

#: Longest wait in ms between two looks for a worker that knows an activity's name.
UNKNOWN_LONGEST_MS = 10_000
UNKNOWN_SHORTEST_MS = 250
#: Attempts whose times are kept, the last ones, and characters of the last error that are.
TIMES_KEPT = 20
ERROR_KEPT = 500


def succeeded(attempt: Attempt, result: Payload, ended_ms: int | None = None) -> Completed:
    """The function returned `result`, already encoded; `ended_ms`: when, for a further attempt."""
    event = ["C", attempt.task_id, attempt.nonce, result]
    if attempt.number > 1:
        event += _attempts(attempt, ended_ms)
    return _final(attempt, orjson.dumps(event))


def failed(
    attempt: Attempt,
    failure: Failure,
    names: Iterable[str],
    *,
    now_ms: int,
    rand: Callable[[], float],
) -> Completed | Retry:
    """The attempt failed: the next one if the policy grants it, else the final failure.

    `names` are those of the error's class and its bases, for the policy's `non_retryable`. What
    failed and when goes along with the message: nothing else of an attempt is kept.
    """
    delay_ms = None
    policy = attempt.retry
    if policy is not None and is_retryable(policy, failure, names):
        delay_ms = next_delay_ms(policy, attempt.number, now_ms - attempt.scheduled_ms, rand)
    if delay_ms is None:
        return _final(attempt, _failure_event(attempt, failure, now_ms))
    message = attempt.message(
        number=attempt.number + 1,
        deliveries=None,
        unknown=None,
        past=_times(attempt, now_ms),
        error=[str(failure["type"])[:ERROR_KEPT], str(failure["message"])[:ERROR_KEPT]],
    )
    return _later(attempt, delay_ms, message)


def _final(attempt: Attempt, event: bytes) -> Completed:
    watched = attempt.options is not None and "s" in attempt.options
    leaves = watched or attempt.details is not None or attempt.deliveries > 1
    task = f"{attempt.task_id} {attempt.nonce}" if leaves else ""
    return Completed(attempt.entry_id, attempt.home, attempt.instance_id, event, task)


def worker_lost(attempt: Attempt) -> Dead:
    """The attempt was handed out too often without a result: it kills its workers."""
    failure = make_failure(
        "WorkerLost",
        f"activity {attempt.name!r} was delivered {attempt.deliveries - 1} times and no worker "
        "lived to report a result; it is in the dead letters",
        non_retryable=True,
    )
    return Dead(
        attempt.entry_id,
        attempt.home,
        attempt.instance_id,
        _failure_event(attempt, failure),
        "WorkerLost",
        attempt.message(),
        attempt.task_id,
        attempt.nonce,
    )


def unknown(attempt: Attempt, *, now_ms: int, grace_ms: int, why: str = "") -> list[Outcome]:
    """This program cannot run the activity: look again later, here or elsewhere.

    It has no such activity, unless `why` says otherwise. It counts as no attempt. Once
    `grace_ms` are over the instance is told, one time. A schedule-to-start timeout ends the
    task: only here is it known that the delivery was no start.
    """
    left_ms = _left_to_start(attempt, now_ms)
    if left_ms is not None and left_ms <= 0:
        return [_final(attempt, _failure_event(attempt, _not_started(attempt)))]
    extra = attempt.extra or {}
    since_ms: int = extra.get("unknown", now_ms)
    waited_ms = max(0, now_ms - since_ms)
    # Growing with the time already waited needs no counter: 0.25, 0.25, 0.5, 1, 2 ... 10 s.
    delay_ms = min(max(UNKNOWN_SHORTEST_MS, waited_ms), UNKNOWN_LONGEST_MS)
    if left_ms is not None:
        delay_ms = min(delay_ms, left_ms)
    tell = waited_ms >= grace_ms and not extra.get("told")
    told = True if tell or extra.get("told") else None
    message = attempt.message(unknown=since_ms, told=told, deliveries=None)
    outcomes: list[Outcome] = [_later(attempt, delay_ms, message)]
    if tell:
        outcomes.insert(0, _unknown_note(attempt, why))
    return outcomes


def _left_to_start(attempt: Attempt, now_ms: int) -> int | None:
    """Milliseconds until the schedule-to-start timeout, which is that of the first attempt."""
    options = attempt.options or {}
    if "s" not in options or attempt.number > 1:
        return None
    return int(attempt.scheduled_ms + options["s"] - now_ms)


def _not_started(attempt: Attempt) -> Failure:
    return make_failure(
        "ActivityTimeout",
        f"no worker of queue {attempt.stream.queue!r} that knows activity {attempt.name!r} took it "
        "within its schedule-to-start timeout",
    )


def hand_back(attempt: Attempt, *, started: bool) -> HandBack:
    """The worker stops: another takes the attempt at once.

    An attempt that was `started` keeps its count of deliveries, so that an activity which
    ends its workers is still found out.
    """
    deliveries = attempt.deliveries if started else attempt.deliveries - 1
    message = attempt.message(deliveries=deliveries or None)
    return HandBack(attempt.entry_id, attempt.instance_id, message)


def no_longer_wanted(attempt: Attempt) -> Retry:
    """The instance has ended or gone on: acknowledge only.

    A retry of a run that has ended is dropped by the script; should the run live after all,
    nothing is lost.
    """
    return _later(attempt, 0, attempt.message())


def timed_out(attempt: Attempt, limit_ms: int, *, heartbeat: bool) -> Failure:
    """The failure of an attempt that ran, or stayed silent, for too long."""
    limit = f"{limit_ms / 1000:g} s"
    if heartbeat:
        message = f"activity {attempt.name!r} sent no heartbeat for {limit}"
    else:
        message = f"activity {attempt.name!r} ran longer than its timeout of {limit}"
    return make_failure("ActivityTimeout", message)


def _failure_event(attempt: Attempt, failure: Failure, ended_ms: int | None = None) -> bytes:
    event = ["X", attempt.task_id, attempt.nonce, failure]
    if attempt.number > 1:
        event += _attempts(attempt, ended_ms)
    return orjson.dumps(event)


def _attempts(attempt: Attempt, ended_ms: int | None) -> list[Any]:
    """What the event says of a task that took several attempts: how many, and their times."""
    times = _times(attempt, ended_ms)
    return [attempt.number, times] if times else [attempt.number]


def _times(attempt: Attempt, ended_ms: int | None) -> list[list[int]]:
    """When the attempts so far began and ended (server ms), the oldest first.

    Without `ended_ms` this one has not run.
    """
    times: list[list[int]] = list((attempt.extra or {}).get("past") or ())
    if ended_ms is not None:
        ran_s = time.monotonic() - attempt.started_at if attempt.started_at else 0.0
        times.append([ended_ms - round(ran_s * 1000), ended_ms])
    return times[-TIMES_KEPT:]


def _unknown_note(attempt: Attempt, why: str) -> Note:
    text = why or (
        f"no worker of queue {attempt.stream.queue!r} knows activity {attempt.name!r}; "
        "start one that registers it"
    )
    event = orjson.dumps(["U", attempt.task_id, attempt.nonce, text])
    return Note(attempt.entry_id, attempt.home, attempt.instance_id, event)


def _later(attempt: Attempt, delay_ms: int, message: bytes) -> Retry:
    return Retry(
        attempt.entry_id,
        attempt.instance_id,
        attempt.task_id,
        attempt.nonce,
        attempt.run,
        delay_ms,
        message,
    )
