"""Failures are bounded, whatever the exception is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from wfq.core.failures import (
    MAX_DEPTH,
    MAX_MESSAGE,
    MAX_STACK,
    bounded,
    details_from_failure,
    failure_from_details,
    failure_from_exception,
    make_failure,
    type_names,
)
from wfq.core.ports import TurnAborted
from wfq.errors import FailureDetails, NonRetryableError, TaskFailedError


def failure_of(act: Any) -> Any:
    try:
        act()
    except BaseException as exc:
        return failure_from_exception(exc)
    raise AssertionError("nothing was raised")


def test_type_message_and_stack() -> None:
    def act() -> None:
        raise ValueError("no stock")

    failure = failure_of(act)

    assert failure["type"] == "ValueError"
    assert failure["message"] == "no stock"
    assert 'raise ValueError("no stock")' in failure["stack"]
    assert failure["cause"] is None
    assert "non_retryable" not in failure


def test_causes_are_chained() -> None:
    def act() -> None:
        try:
            try:
                raise OSError("net")
            except OSError as e:
                raise ValueError("middle") from e
        except ValueError:
            raise KeyError("outer")  # noqa: B904 - the implicit context counts too

    failure = failure_of(act)

    assert [failure["type"], failure["cause"]["type"], failure["cause"]["cause"]["type"]] == [
        "KeyError",
        "ValueError",
        "OSError",
    ]


def test_a_suppressed_context_is_no_cause() -> None:
    def act() -> None:
        try:
            raise OSError
        except OSError:
            raise ValueError("clean") from None

    assert failure_of(act)["cause"] is None


def test_a_cycle_of_causes_ends() -> None:
    a, b = ValueError("a"), ValueError("b")
    a.__cause__, b.__cause__ = b, a

    failure = failure_from_exception(a)

    assert failure["cause"]["cause"] is None


def test_the_chain_is_cut() -> None:
    exc = ValueError("innermost")
    for n in range(50):
        outer = ValueError(str(n))
        outer.__cause__ = exc
        exc = outer

    depth = 0
    failure: Any = failure_from_exception(exc)
    while failure is not None:
        depth, failure = depth + 1, failure["cause"]

    assert depth == MAX_DEPTH


def test_the_cause_of_a_failed_task_is_the_failure_of_the_task() -> None:
    details = FailureDetails("Deep", "down", "st", FailureDetails("Deeper", ""), True)

    failure = failure_from_exception(TaskFailedError("activity failed", details))

    assert failure["type"] == "TaskFailedError"
    assert failure["cause"]["type"] == "Deep"
    assert failure["cause"]["non_retryable"] is True
    assert failure["cause"]["cause"]["type"] == "Deeper"
    assert "non_retryable" not in failure


def test_a_non_retryable_error_says_so() -> None:
    class Mine(NonRetryableError):
        pass

    assert failure_from_exception(Mine("x"))["non_retryable"] is True


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class QuitsWhenPrinted(Exception):
    def __str__(self) -> str:
        raise SystemExit


class Huge(Exception):
    def __str__(self) -> str:
        return "x" * 10_000_000


class NotText(Exception):
    def __str__(self) -> str:
        text: Any = 5  # what a careless class returns
        return text  # type: ignore[no-any-return]  # that is the point


class Surrogate(Exception):
    def __str__(self) -> str:
        return "bad \ud800 text \x00"


@pytest.mark.parametrize(
    "exc",
    [
        Unprintable(),
        QuitsWhenPrinted(),
        Huge(),
        NotText(),
        Surrogate(),
        SystemExit(4),
        KeyboardInterrupt(),
        ExceptionGroup("many", [ValueError("a"), ExceptionGroup("more", [KeyError("b")])]),
        OSError(2, "no file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    ],
)
def test_every_exception_becomes_a_bounded_failure(exc: BaseException) -> None:
    def act() -> None:
        raise exc

    failure = failure_of(act)

    assert failure["type"] == type(exc).__name__
    assert len(failure["message"]) <= MAX_MESSAGE
    assert len(orjson.dumps(failure)) < MAX_MESSAGE + MAX_STACK + 1_000


def test_endless_recursion_has_a_bounded_stack() -> None:
    def act() -> None:
        act()

    failure = failure_of(act)

    assert failure["type"] == "RecursionError"
    assert 0 < len(failure["stack"]) <= MAX_STACK


def test_the_watchdog_is_not_swallowed_by_a_slow_str() -> None:
    class Slow(Exception):
        def __str__(self) -> str:
            raise TurnAborted

    with pytest.raises(TurnAborted):
        failure_from_exception(Slow())


def test_details_and_failures_convert_both_ways() -> None:
    failure = make_failure("A", "a", cause=make_failure("B", "b", non_retryable=True))

    details = details_from_failure(failure)

    assert details == FailureDetails("A", "a", "", FailureDetails("B", "b", "", None, True))
    assert failure_from_details(details) == failure


def test_details_tolerate_missing_parts() -> None:
    assert details_from_failure({}) == FailureDetails("Exception", "")


def test_text_is_cut_with_a_note() -> None:
    assert bounded("abc", 10) == "abc"
    cut = bounded("x" * 500, 100)
    assert len(cut) <= 100
    assert cut.endswith("... [500 chars]")


def test_names_cover_base_classes() -> None:
    names = type_names(FileNotFoundError())

    assert "FileNotFoundError" in names
    assert "OSError" in names
    assert "builtins.OSError" in names
    assert "BaseException" not in names


def test_notes_and_the_members_of_a_group_are_kept() -> None:
    def act() -> None:
        error = ExceptionGroup("several", [ValueError("a"), KeyError("b")])
        error.add_note("while packing order 7")
        raise error

    stack = failure_of(act)["stack"].splitlines()

    assert stack[-3:] == [
        "  note: while packing order 7",
        "  member: ValueError: a",
        "  member: KeyError: 'b'",
    ]


def test_many_members_are_bounded() -> None:
    def act() -> None:
        raise ExceptionGroup("many", [ValueError("x" * 100_000) for _ in range(1000)])

    assert len(failure_of(act)["stack"]) <= 16 * 1024
