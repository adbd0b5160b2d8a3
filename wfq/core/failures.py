"""Failures: exceptions as bounded plain data, and back.

A failure is ``{"type", "message", "stack", "cause", "non_retryable"?}``; `cause` is the chained
failure or null. Whatever the exception does in its ``__str__``, building one never raises.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import FrameType

from wfq.core.events import Failure
from wfq.core.ports import TurnAborted
from wfq.errors import FailureDetails, NonRetryableError, TaskFailedError

#: Characters of a message and of a stack trace that are kept; a failure must never be what
#: makes an instance too large to load.
MAX_MESSAGE = 8 * 1024
MAX_STACK = 16 * 1024
#: Links of the cause chain that are kept.
MAX_DEPTH = 10
#: Innermost frames kept of a traceback; endless recursion has thousands.
MAX_FRAMES = 40


def failure_from_exception(exc: BaseException) -> Failure:
    """Return `exc` and its cause chain as a failure.

    The cause of a TaskFailedError is the failure of the task it reports.
    """
    return _failure(exc, MAX_DEPTH, set())


def make_failure(
    error_type: str, message: str, *, non_retryable: bool = False, cause: Failure | None = None
) -> Failure:
    """Return a failure that no exception stands behind."""
    failure: Failure = {
        "type": error_type,
        "message": bounded(message, MAX_MESSAGE),
        "stack": "",
        "cause": cause,
    }
    if non_retryable:
        failure["non_retryable"] = True
    return failure


def details_from_failure(failure: Failure) -> FailureDetails:
    """Return a failure as what users read; tolerant of missing parts."""
    cause = failure.get("cause")
    return FailureDetails(
        error_type=str(failure.get("type") or "Exception"),
        message=str(failure.get("message") or ""),
        stack_trace=str(failure.get("stack") or ""),
        cause=details_from_failure(cause) if isinstance(cause, dict) else None,
        non_retryable=bool(failure.get("non_retryable")),
    )


def failure_from_details(details: FailureDetails, depth: int = MAX_DEPTH) -> Failure:
    """Return the failure that `details_from_failure` would turn into `details`."""
    failure: Failure = {
        "type": details.error_type,
        "message": bounded(details.message, MAX_MESSAGE),
        "stack": bounded(details.stack_trace, MAX_STACK),
        "cause": None,
    }
    if details.cause is not None and depth > 1:
        failure["cause"] = failure_from_details(details.cause, depth - 1)
    if details.non_retryable:
        failure["non_retryable"] = True
    return failure


def summary(failure: Failure) -> str:
    """Return one line: the message, or the type where the message is empty."""
    message = str(failure.get("message") or "")
    return message or str(failure.get("type") or "unknown error")


def bounded(text: str, limit: int) -> str:
    """Return `text` cut to `limit` characters, encodable as UTF-8."""
    if len(text) > limit:
        text = f"{text[: limit - 20]}... [{len(text)} chars]"[:limit]
    if not text.isascii():
        # A lone surrogate would be refused by the JSON encoder.
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text


def type_name(exc: BaseException) -> str:
    """Return the class name of `exc`, as `non_retryable` lists and users name it."""
    return bounded(str(type(exc).__name__), 200)


def type_names(exc: BaseException) -> list[str]:
    """Return the names, short and dotted, of the class of `exc` and of its base classes.

    What a retry policy's `non_retryable` list is compared with.
    """
    return list(_names_of(type(exc)))


def _names_of(cls: type[BaseException]) -> Iterator[str]:
    for base in cls.__mro__:
        if base in (object, BaseException):
            continue
        yield base.__name__
        yield f"{base.__module__}.{base.__qualname__}"


def _failure(exc: BaseException, depth: int, seen: set[int]) -> Failure:
    seen.add(id(exc))
    failure: Failure = {
        "type": type_name(exc),
        "message": bounded(_text(exc), MAX_MESSAGE),
        "stack": _stack(exc),
        "cause": _cause(exc, depth - 1, seen),
    }
    if isinstance(exc, NonRetryableError):
        failure["non_retryable"] = True
    return failure


def _cause(exc: BaseException, depth: int, seen: set[int]) -> Failure | None:
    if depth <= 0:
        return None
    if isinstance(exc, TaskFailedError) and isinstance(exc.details, FailureDetails):
        return failure_from_details(exc.details, depth)
    cause = exc.__cause__
    if cause is None and not exc.__suppress_context__:
        cause = exc.__context__
    if cause is None or id(cause) in seen:
        return None
    return _failure(cause, depth, seen)


def _text(exc: BaseException) -> str:
    try:
        text = str(exc)
    except TurnAborted:
        raise
    except BaseException as broken:  # user code: it may raise anything, and must not escape
        return f"<unprintable {type(exc).__name__}: its __str__ raised {type(broken).__name__}>"
    return text


def _stack(exc: BaseException) -> str:
    """Return the user's frames of the traceback, most recent call last, without the message."""
    try:
        frames = [item for item in traceback.walk_tb(exc.__traceback__) if not _is_engine(item[0])]
        summaries = traceback.StackSummary.extract(iter(frames[-MAX_FRAMES:]))
        return bounded("".join([*summaries.format(), *_asides(exc)]), MAX_STACK)
    except Exception:  # a source file that changed or is not text
        return ""


def _asides(exc: BaseException) -> Iterator[str]:
    """What an exception says besides its message: its notes, and the members of a group."""
    notes = getattr(exc, "__notes__", None)
    if isinstance(notes, list):
        for note in notes[:MAX_DEPTH]:
            yield f"  note: {bounded(str(note), MAX_MESSAGE)}\n"
    if isinstance(exc, BaseExceptionGroup):
        for member in exc.exceptions[:MAX_DEPTH]:
            yield f"  member: {type_name(member)}: {bounded(_text(member), MAX_MESSAGE)}\n"


def _is_engine(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_ENGINE)


#: Modules whose frames say nothing about the user's code.
_ENGINE = ("wfq.", "wfq_workers.")
