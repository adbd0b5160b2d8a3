"""The W3C trace context: where a start, or an activity, finds the trace that it belongs to.

OpenTelemetry is never imported here. A program that uses it has imported it already; without it
a context that came from outside, such as a `traceparent` header, is carried along all the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Name of the context in a birth record's extra, and in that of an activity's message.
TRACE = "trace"

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_incoming: ContextVar[str | None] = ContextVar("wfq_traceparent", default=None)


def parse(traceparent: str) -> tuple[str, str, int] | None:
    """Return trace id, span id and flags; None for what is no valid context."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    if match is None or not int(match[1], 16) or not int(match[2], 16):
        return None
    if traceparent.startswith("00-") and len(traceparent.strip()) != 55:
        return None
    return match[1], match[2], int(match[3], 16)


def written(trace_id: int, span_id: int, flags: int) -> str:
    """Return a context as a `traceparent`; of the flags only *sampled* is known to everybody."""
    return f"00-{trace_id:032x}-{span_id:016x}-{flags & 1:02x}"


@contextmanager
def incoming(traceparent: str | None) -> Iterator[None]:
    """Have starts within the block belong to a trace that came from outside, if it is one."""
    parsed = parse(traceparent) if traceparent else None
    if parsed is None:
        yield
        return
    trace_id, span_id, flags = parsed
    token = _incoming.set(written(int(trace_id, 16), int(span_id, 16), flags))
    try:
        yield
    finally:
        _incoming.reset(token)


def current() -> str | None:
    """Return the context that a start belongs to: the current span's, else what came in."""
    api = sys.modules.get("opentelemetry.trace")
    if api is not None:
        context = api.get_current_span().get_span_context()
        if context.is_valid:
            return written(context.trace_id, context.span_id, context.trace_flags)
    return _incoming.get()


def with_trace(extra: dict[str, object] | None) -> dict[str, object] | None:
    """Return a birth record's extra, with the current context where there is one."""
    traceparent = current()
    return extra if traceparent is None else {**(extra or {}), TRACE: traceparent}
