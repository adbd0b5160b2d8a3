"""Retry policies: validation, and when the next attempt is due."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from wfq.core.failures import make_failure
from wfq.core.retry import MAX_DELAY_MS, RetryPolicy, is_retryable, next_delay_ms

SECOND = timedelta(seconds=1)


def policy(**changes: Any) -> RetryPolicy:
    return RetryPolicy(**{"first_retry_interval": SECOND, "max_number_of_attempts": 10, **changes})


def delays(opts: list[Any], *, rand: float = 0.0, most: int = 50) -> list[int]:
    found: list[int] = []
    while len(found) < most:
        delay = next_delay_ms(opts, len(found) + 1, sum(found), lambda: rand)
        if delay is None:
            break
        found.append(delay)
    return found


def test_backoff_doubles_up_to_the_cap() -> None:
    opts = policy(
        backoff_coefficient=2.0, max_retry_interval=timedelta(seconds=10), max_number_of_attempts=7
    ).to_opts()

    assert delays(opts) == [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]


@pytest.mark.parametrize(("attempts", "retries"), [(1, 0), (2, 1), (5, 4)])
def test_attempts_are_counted_not_retries(attempts: int, retries: int) -> None:
    assert delays(policy(max_number_of_attempts=attempts).to_opts()) == [1_000] * retries


def test_no_limit() -> None:
    assert len(delays(policy(max_number_of_attempts=-1).to_opts(), most=100)) == 100


def test_no_attempt_starts_after_the_retry_timeout() -> None:
    opts = policy(retry_timeout=timedelta(seconds=3.5)).to_opts()

    assert delays(opts) == [1_000, 1_000, 1_000]
    assert next_delay_ms(opts, 1, 2_500, lambda: 0.0) == 1_000
    assert next_delay_ms(opts, 1, 2_501, lambda: 0.0) is None


def test_jitter_shortens_only() -> None:
    opts = policy(jitter=0.5, max_number_of_attempts=2).to_opts()

    assert delays(opts, rand=0.0) == [1_000]
    assert delays(opts, rand=0.999_999) == [501]


def test_a_huge_coefficient_does_not_overflow() -> None:
    opts = policy(backoff_coefficient=1e300, max_number_of_attempts=-1).to_opts()

    assert delays(opts, most=5)[1:] == [MAX_DELAY_MS] * 4
    zero = policy(first_retry_interval=timedelta(0), backoff_coefficient=1e300).to_opts()
    assert delays(zero, most=5) == [0] * 5


def test_times_are_rounded_up_to_milliseconds() -> None:
    assert policy(first_retry_interval=timedelta(microseconds=1_001)).to_opts()[0] == 2


def test_some_failures_are_final() -> None:
    opts = policy(non_retryable=(KeyError, "PaymentDeclined")).to_opts()

    assert is_retryable(opts, make_failure("ValueError", ""))
    assert not is_retryable(opts, make_failure("KeyError", ""))
    assert not is_retryable(opts, make_failure("PaymentDeclined", ""))
    assert not is_retryable(opts, make_failure("Mine", ""), ["Mine", "KeyError", "LookupError"])
    assert not is_retryable(opts, make_failure("ValueError", "", non_retryable=True))


def test_one_class_or_name_needs_no_list() -> None:
    assert policy(non_retryable=KeyError).to_opts()[6] == ["KeyError"]
    assert policy(non_retryable="KeyError").to_opts()[6] == ["KeyError"]


def test_what_dapr_programs_read_is_there() -> None:
    made = policy(backoff_coefficient=None)

    assert made.first_retry_interval == SECOND
    assert made.max_number_of_attempts == 10
    assert made.backoff_coefficient is None
    assert made.max_retry_interval is None
    assert made.retry_timeout is None
    assert made.to_opts() == [1_000, 10, 1.0, None, None, 0.0, []]


@pytest.mark.parametrize(
    "changes",
    [
        {"first_retry_interval": timedelta(seconds=-1)},
        {"first_retry_interval": 5},
        {"first_retry_interval": None},
        {"max_number_of_attempts": 0},
        {"max_number_of_attempts": -2},
        {"max_number_of_attempts": 1.5},
        {"max_number_of_attempts": True},
        {"backoff_coefficient": 0.9},
        {"backoff_coefficient": float("nan")},
        {"backoff_coefficient": float("inf")},
        {"max_retry_interval": timedelta(seconds=-1)},
        {"retry_timeout": timedelta(seconds=-1)},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"non_retryable": [5]},
        {"non_retryable": [int]},
        {"non_retryable": [""]},
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        policy(**changes)
