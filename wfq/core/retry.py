"""Retry policies: how users say them, how they travel, when the next attempt is due.

On the wire a policy is ``[first_ms, max_attempts, coefficient, max_interval_ms | null,
retry_timeout_ms | null, jitter, [non-retryable type names]]``; `max_attempts` -1 = no limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from wfq.core.events import Failure

#: Milliseconds in the longest delay that is ever scheduled (ten years); a coefficient raised
#: to many attempts would overflow otherwise.
MAX_DELAY_MS = 10 * 366 * 86_400_000

RetryOpts = list[Any]

_MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often, and how fast, a failed activity or child workflow is tried again.

    first_retry_interval: wait before the second attempt.
    max_number_of_attempts: attempts in all, the first included; -1 = no limit.
    backoff_coefficient: each wait is the one before times this; at least 1.
    max_retry_interval: no wait is longer.
    retry_timeout: no attempt starts later than this after the first was scheduled.
    jitter: each wait is shortened by a random part of at most this share, 0.0 to 1.0.
    non_retryable: exception classes, or their names, that fail the task at once; a class also
        stands for its subclasses.

    Raises: ValueError when a number is out of range.
    """

    first_retry_interval: timedelta
    max_number_of_attempts: int
    backoff_coefficient: float | None = 1.0
    max_retry_interval: timedelta | None = None
    retry_timeout: timedelta | None = None
    jitter: float = 0.0
    non_retryable: Iterable[type[BaseException] | str] = ()

    def __post_init__(self) -> None:
        zero = timedelta(0)
        for name in ("first_retry_interval", "max_retry_interval", "retry_timeout"):
            value = getattr(self, name)
            if value is None and name != "first_retry_interval":
                continue
            if not isinstance(value, timedelta):
                raise ValueError(f"{name} must be a timedelta, not {value!r}")
            if value < zero:
                raise ValueError(f"{name} must be >= 0")
        attempts = self.max_number_of_attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int):
            raise ValueError(f"max_number_of_attempts must be an integer, not {attempts!r}")
        if attempts < 1 and attempts != -1:
            raise ValueError("max_number_of_attempts must be >= 1 (or -1 for no limit)")
        coefficient = self.backoff_coefficient
        if coefficient is not None and not (coefficient >= 1 and math.isfinite(coefficient)):
            raise ValueError("backoff_coefficient must be >= 1")
        if not 0.0 <= self.jitter <= 1.0:
            raise ValueError("jitter must be between 0.0 and 1.0")
        names = self.non_retryable
        if isinstance(names, (str, type)):
            names = (names,)
        object.__setattr__(self, "non_retryable", tuple(names))
        self.to_opts()  # refuses what is neither a class nor a name

    def to_opts(self) -> RetryOpts:
        """Return the policy as it travels with a task."""
        return [
            ms_of(self.first_retry_interval),
            self.max_number_of_attempts,
            1.0 if self.backoff_coefficient is None else float(self.backoff_coefficient),
            None if self.max_retry_interval is None else ms_of(self.max_retry_interval),
            None if self.retry_timeout is None else ms_of(self.retry_timeout),
            float(self.jitter),
            [_type_name(item) for item in self.non_retryable],
        ]


def next_delay_ms(
    opts: RetryOpts,
    attempt: int,
    elapsed_ms: int,
    rand: Callable[[], float],
) -> int | None:
    """Return the wait before the attempt after `attempt`, or None when there is none.

    `attempt` counts from 1; `elapsed_ms` is the time since the first attempt was scheduled;
    `rand` gives a number in [0, 1) and is asked only when there is jitter.
    """
    first_ms, max_attempts, coefficient, cap_ms, timeout_ms, jitter, _ = opts
    if max_attempts != -1 and attempt >= max_attempts:
        return None
    delay = _backoff(first_ms, coefficient, attempt, MAX_DELAY_MS if cap_ms is None else cap_ms)
    if jitter:
        delay *= 1.0 - jitter * rand()
    delay_ms = math.ceil(delay)
    if timeout_ms is not None and elapsed_ms + delay_ms > timeout_ms:
        return None
    return delay_ms


def is_retryable(opts: RetryOpts, failure: Failure, type_names: Iterable[str] = ()) -> bool:
    """Tell whether the policy allows another attempt after this kind of failure.

    `type_names` are further names of the exception's class, where it is at hand: those of its
    base classes (`failures.type_names`).
    """
    if failure.get("non_retryable"):
        return False
    refused = opts[6]
    if not refused:
        return True
    return failure.get("type") not in refused and not any(n in refused for n in type_names)


def _backoff(first_ms: int, coefficient: float, attempt: int, cap_ms: int) -> float:
    try:
        delay = first_ms * coefficient ** (attempt - 1)
    except OverflowError:
        delay = math.inf if first_ms else 0.0
    return float(min(delay, cap_ms, MAX_DELAY_MS))


def ms_of(value: timedelta) -> int:
    """Return a duration in milliseconds, rounded up: half a millisecond of waiting is one."""
    whole, rest = divmod(value, _MS)
    return whole + 1 if rest else whole


def _type_name(item: type[BaseException] | str) -> str:
    if isinstance(item, str) and item:
        return item
    if isinstance(item, type) and issubclass(item, BaseException):
        return item.__name__
    raise ValueError(f"non_retryable takes exception classes or their names, not {item!r}")
