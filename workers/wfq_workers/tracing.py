"""Spans of workflows and activities, where the program has set OpenTelemetry up.

One trace holds an instance with all that belongs to it: a span from its start to its end, beneath
it one for each attempt of an activity and one for each child. Ids are computed, not drawn: from
the instance and its incarnation, or the attempt. So every process knows them without asking, a
replay or a second delivery makes no twin, and a span of the same attempt is the same span.

A worker without OpenTelemetry imports none of it and does nothing here but pass on what came in.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from wfq.core import actions as act
from wfq.core.events import B_EXTRA, Record
from wfq.tracing import TRACE, incoming, parse, written

if TYPE_CHECKING:
    from wfq_workers.activities.attempt import Attempt

log = logging.getLogger("wfq.tracing")


def given_to(birth: Record) -> str | None:
    """Return the trace context that an instance was started with."""
    extra = birth[B_EXTRA]
    found: str | None = extra.get(TRACE) if extra else None
    return found


def find_tracer() -> Tracer | None:
    """Return the tracer of this program; None where nobody has set up OpenTelemetry."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None or isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):
        return None
    return Tracer(api)


class _Ids:
    """The id generator of our spans alone: gives the ids that the calling thread has set."""

    def __init__(self, usual: Any) -> None:
        self._usual = usual
        self._fixed = threading.local()

    def fix(self, trace_id: int, span_id: int) -> None:
        self._fixed.trace_id, self._fixed.span_id = trace_id, span_id

    def generate_trace_id(self) -> int:
        return int(getattr(self._fixed, "trace_id", 0)) or int(self._usual.generate_trace_id())

    def generate_span_id(self) -> int:
        return int(getattr(self._fixed, "span_id", 0)) or int(self._usual.generate_span_id())

    def is_trace_id_random(self) -> bool:
        return False


class Tracer:
    """Makes the spans. Whatever goes wrong in tracing, the work itself goes on."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self._tracer: Any = api.get_tracer("wfq")
        # Of an implementation without generators the spans have ids of their own.
        self._ids = _Ids(getattr(self._tracer, "id_generator", None))
        if hasattr(self._tracer, "id_generator"):
            self._tracer.id_generator = self._ids

    # --- workflows

    def workflow_context(self, instance_id: str, inc: str, birth: Record) -> str:
        """Return the context of an instance's span, which its activities and children get."""
        trace_id, _, flags = self._place(instance_id, inc, birth)
        return written(trace_id, _number(8, "workflow", instance_id, inc), flags)

    def workflow(
        self,
        instance_id: str,
        inc: str,
        birth: Record,
        end: list[Any] | None,
        *,
        name: str,
        start_ms: int,
        end_ms: int,
    ) -> None:
        """Tell of an instance that has ended; `end` is the action that did it."""
        try:
            trace_id, parent_id, flags = self._place(instance_id, inc, birth)
            self._ids.fix(trace_id, _number(8, "workflow", instance_id, inc))
            span = self._tracer.start_span(
                f"workflow {name}",
                context=self._under(trace_id, parent_id, flags),
                start_time=start_ms * 1_000_000,
                attributes={"wfq.instance_id": instance_id, "wfq.workflow": name},
            )
            self._conclude(span, end)
            span.end(end_time=end_ms * 1_000_000)
        except Exception:
            log.warning(
                "the span of instance %s is lost",
                instance_id,
                exc_info=True,
                extra={"instance_id": instance_id},
            )

    def _conclude(self, span: Any, end: list[Any] | None) -> None:
        code = end[0] if end else ""
        if code == act.FAIL and end:
            failure = end[1]
            error = self._api.StatusCode.ERROR
            span.set_status(error, f"{failure.get('type')}: {failure.get('message')}"[:500])
        elif code == act.TERMINATED:
            span.set_attribute("wfq.terminated", True)

    def _place(self, instance_id: str, inc: str, birth: Record) -> tuple[int, int, int]:
        """Return trace id, parent span id (0 for none) and flags of an instance's span."""
        parsed = parse(given_to(birth) or "")
        if parsed is not None:
            return int(parsed[0], 16), int(parsed[1], 16), parsed[2]
        trace_id = _number(16, "trace", instance_id, inc)
        return trace_id, 0, int(self._samples(trace_id, "workflow"))

    def _samples(self, trace_id: int, name: str) -> bool:
        """Whether a trace that begins here is kept; each process comes to the same answer."""
        sampler = getattr(self._tracer, "sampler", None)
        if sampler is None:
            return True
        return bool(sampler.should_sample(None, trace_id, name).decision.is_sampled())

    # --- activities

    @contextmanager
    def activity(self, attempt: Attempt) -> Iterator[None]:
        """A span around an attempt; it is the current one of its thread or task."""
        span = None
        try:
            span = self._begin(attempt)
        except Exception:
            log.warning(
                "the span of %r is lost",
                attempt,
                exc_info=True,
                extra={"instance_id": attempt.instance_id},
            )
        if span is None:
            yield
            return
        with self._api.use_span(span, end_on_exit=True):
            yield

    def _begin(self, attempt: Attempt) -> Any:
        parsed = parse((attempt.extra or {}).get(TRACE) or "")
        key = (attempt.instance_id, attempt.run, str(attempt.task_id))
        if parsed is None:
            # Scheduled by an orchestrator without tracing.
            inc = attempt.run.rpartition(".")[0]
            trace_id, parent_id = _number(16, "trace", attempt.instance_id, inc), 0
            flags = int(self._samples(trace_id, "activity"))
        else:
            trace_id, parent_id, flags = int(parsed[0], 16), int(parsed[1], 16), parsed[2]
        self._ids.fix(trace_id, _number(8, "activity", *key, str(attempt.number)))
        return self._tracer.start_span(
            f"activity {attempt.name}",
            context=self._under(trace_id, parent_id, flags),
            attributes={
                "wfq.instance_id": attempt.instance_id,
                "wfq.activity": attempt.name,
                "wfq.task_id": attempt.task_id,
                "wfq.attempt": attempt.number,
            },
        )

    def _under(self, trace_id: int, parent_id: int, flags: int) -> Any:
        """Return the context for a span with that parent, or for a root."""
        context_api = sys.modules["opentelemetry.context"]
        empty = context_api.Context()
        if not parent_id:
            return empty
        parent = self._api.SpanContext(
            trace_id, parent_id, is_remote=True, trace_flags=self._api.TraceFlags(flags)
        )
        return self._api.set_span_in_context(self._api.NonRecordingSpan(parent), empty)


@contextmanager
def traced(tracer: Tracer | None, attempt: Attempt) -> Iterator[None]:
    """Run an attempt within its trace: what it starts by a client belongs to that as well."""
    if tracer is not None:
        with tracer.activity(attempt):
            yield
        return
    with incoming((attempt.extra or {}).get(TRACE)):
        yield


def _number(size: int, *parts: str) -> int:
    """Return an id of `size` bytes, never 0, that is always the same for the same parts."""
    digest = blake2b("\0".join(parts).encode(), digest_size=size).digest()
    return int.from_bytes(digest, "big") or 1
