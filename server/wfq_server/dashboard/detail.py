"""One instance: what it does, why it waits, its picture, its times, its history."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import orjson
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from wfq.analysis.graph import Graph
from wfq.analysis.progress import lay_over
from wfq.analysis.spans import Span, spans_of
from wfq.analysis.svg import to_svg
from wfq.checker.explanation import Explanation
from wfq.codec import Codec
from wfq.core.history import HistoryEvent
from wfq.errors import WfqError
from wfq.management.state import WorkflowState, WorkflowStatus
from wfq_server import parameters
from wfq_server.dashboard import payloads, why
from wfq_server.dashboard.desk import Desk, origin
from wfq_server.dashboard.forms import example_text, raise_lines
from wfq_server.dashboard.source import Published
from wfq_server.dashboard.timeline import make_timeline, take_attempts
from wfq_server.dashboard.wording import epoch_ms, moment
from wfq_server.errors import ApiError

log = logging.getLogger("wfq.server")

#: Children of which a page reads the state, over all generations of them.
_CHILDREN = 60
#: Rows of a history page; the download has all.
_EVENTS = 1000
#: Rows of the table of tasks.
_TASKS = 500


class Detail:
    """The pages of one instance."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def page(self, request: Request) -> Response:
        """The whole page."""
        return self._desk.page(request, "instance.html", **await self._values(request))

    async def now(self, request: Request) -> Response:
        """The part that changes."""
        return self._desk.page(request, "_instance.html", **await self._values(request))

    async def _values(self, request: Request) -> dict[str, Any]:
        source = self._desk.source
        state = await self._state(request)
        codec = await source.codec()
        events, now_ms, published = await asyncio.gather(
            source.history(state.instance_id),
            source.now_ms(),
            source.published_of(state.app_id, state.name, state.version),
        )
        ended = state.runtime_status.is_final
        explained = {} if ended else await self._explained(state, events)
        told = explained.get(state.instance_id)
        if told is not None and (told.generation, told.turns) != _place(events):
            # It went on in between: what is said and what is drawn should agree.
            events = await source.history(state.instance_id)
        spans = spans_of(events)
        if told is not None:
            take_attempts(spans, told.tasks)
        began_ms = events[0].time_ms if events else epoch_ms(state.created_at)
        end_ms = events[-1].time_ms if ended and events else now_ms
        waits = [s.name for s in spans if s.state == "open" and s.kind == "event"]
        examples = _event_examples(waits, published)
        event, data = next(iter(examples.items()), ("", "{}"))
        return {
            "state": state,
            "ended": ended,
            "began_ms": began_ms,
            "end_ms": end_ms,
            "timeline": make_timeline(spans, began_ms, end_ms),
            "spans": [_Told(span, codec) for span in spans[:_TASKS]],
            "span_count": len(spans),
            "reasons": _UNTOLD if told is None else why.reasons(told, explained),
            "graph": _picture(published, events, spans, state, codec),
            "about": published.graph.about if published and published.graph else "",
            "input": _payload(events, "ExecutionStarted", "input", codec),
            "output": _payload(events, "ExecutionCompleted", "output", codec)
            or _payload(events, "ExecutionTerminated", "output", codec),
            "custom": _custom(state),
            "failures": why.failure_chain(_field(events, "ExecutionFailed", "failure")),
            "children": await self._children(spans),
            "waits": waits,
            "examples": examples,
            "event": event,
            "data": data,
            "commands": raise_lines(origin(request), state.instance_id, event or "EVENT", data),
            "event_count": len(events),
            "turns": events[-1].turn if events else 0,
            "generation": _place(events)[0],
            "generations": _field(events, "ExecutionStarted", "earlier_generations") or [],
        }

    async def _state(self, request: Request) -> WorkflowState[Any]:
        instance_id = parameters.instance_id(request)
        state = await self._desk.source.client.get_workflow_state(instance_id)
        if state is None:
            message = f"there is no workflow instance {instance_id!r}; it may have been purged"
            raise ApiError(404, "ERR_INSTANCE_ID_NOT_FOUND", message)
        return state

    async def _explained(
        self, state: WorkflowState[Any], events: Sequence[HistoryEvent]
    ) -> dict[str, Explanation]:
        """Explanations of a live instance and its children; none where Redis refuses."""
        status, (generation, turns) = state.runtime_status.name, _place(events)
        # A generation counts its turns from 0.
        turns += generation * 1_000_000
        try:
            return await self._desk.source.explanations(state.instance_id, status, turns)
        except WfqError as exc:
            log.warning(
                "instance %s cannot be explained: %s",
                state.instance_id,
                exc,
                extra={"instance_id": state.instance_id},
            )
            return {}

    async def _children(self, spans: Sequence[Span]) -> list[tuple[int, Span, Any]]:
        """The tree of children: depth, the span that started each, its state or None."""
        found: list[tuple[int, Span, Any]] = []

        async def add(spans: Sequence[Span], depth: int) -> None:
            for span in spans:
                if span.kind != "child" or not span.target or len(found) >= _CHILDREN:
                    continue
                client = self._desk.source.client
                state = await client.get_workflow_state(span.target, fetch_payloads=False)
                found.append((depth, span, state))
                if state is not None and depth < 5:
                    try:
                        events = await self._desk.source.history(span.target)
                    except WfqError:
                        continue
                    await add(spans_of(events), depth + 1)

        await add(spans, 0)
        return found

    # --- history

    async def history(self, request: Request) -> Response:
        """The raw history, filtered by a text."""
        state = await self._state(request)
        codec = await self._desk.source.codec()
        events = await self._desk.source.history(state.instance_id)
        wanted = request.query_params.get("q", "").strip()[:200]
        rows = [_event_row(event, codec) for event in events]
        if wanted:
            rows = [row for row in rows if wanted.casefold() in row["search"]]
        return self._desk.page(
            request,
            "history.html",
            state=state,
            rows=rows[:_EVENTS],
            found=len(rows),
            total=len(events),
            wanted=wanted,
            rerunnable=_RERUNNABLE,
        )

    async def download(self, request: Request) -> Response:
        """The history as a JSON file, payloads decoded where they can be."""
        state = await self._state(request)
        codec = await self._desk.source.codec()
        events = await self._desk.source.history(state.instance_id)
        document = {
            "instanceID": str(state.instance_id),
            "events": [
                {
                    "index": event.index,
                    "type": event.type,
                    "timestamp": moment(event.time_ms),
                    "turn": event.turn,
                    **{key: _readable(value, codec) for key, value in event.fields.items()},
                }
                for event in events
            ],
        }
        name = "".join(c if c.isalnum() or c in "._-" else "_" for c in state.instance_id)
        headers = {"content-disposition": f'attachment; filename="history-{name}.json"'}
        return Response(
            orjson.dumps(document, option=orjson.OPT_INDENT_2),
            headers=headers,
            media_type="application/json",
        )


#: What is said where there is no explanation.
_UNTOLD = [why.Reason("It could not be looked into just now.")]
_RERUNNABLE = frozenset(("TaskScheduled", "ChildWorkflowScheduled"))


class _Told:
    """A span as a row of the table."""

    def __init__(self, span: Span, codec: Codec) -> None:
        self.span = span
        self.given = payloads.shown(span.given, codec)
        self.result = payloads.shown(span.result, codec)
        self.failures = why.failure_chain(span.failure)


def _place(events: Sequence[HistoryEvent]) -> tuple[int, int]:
    """The generation that a history is of, and how many turns it has."""
    if not events:
        return 0, 0
    return int(events[0].fields.get("continued_as_new_count", 0)), events[-1].turn


def _field(events: Sequence[HistoryEvent], kind: str, field: str) -> Any:
    return next((e.fields[field] for e in events if e.type == kind and field in e.fields), None)


def _payload(
    events: Sequence[HistoryEvent], kind: str, field: str, codec: Codec
) -> payloads.Shown | None:
    for event in events:
        if event.type == kind and field in event.fields:
            return payloads.shown(event.fields[field], codec)
    return None


def _custom(state: WorkflowState[Any]) -> payloads.Shown | None:
    try:
        return payloads.shown_text(state.serialized_custom_status)
    except WfqError as exc:
        return payloads.Shown("", f"cannot be read here: {exc}")


def _readable(value: Any, codec: Codec) -> Any:
    try:
        return codec.plain(value)
    except (WfqError, ValueError):
        return value


def _event_examples(waits: Sequence[str], published: Published | None) -> dict[str, str]:
    """Names of events, those that are waited for first, with JSON to begin with."""
    graph = published.graph if published else None
    steps = () if graph is None else graph.steps
    schemas = published.event_schemas if published else {}
    # Event names match in any case.
    by_name = {name.casefold(): schema for name, schema in schemas.items()}
    names = [*waits, *(step.name for step in steps if step.kind == "event" and step.name), *schemas]
    found: dict[str, str] = {}
    for name in names:
        if name.casefold() not in map(str.casefold, found):
            found[name] = example_text(by_name.get(name.casefold()))
    return found


def _picture(
    published: Published | None,
    events: Sequence[HistoryEvent],
    spans: Sequence[Span],
    state: WorkflowState[Any],
    codec: Codec,
) -> Markup | None:
    """The workflow's picture with this instance's progress; None where no source is known."""
    graph: Graph | None = published.graph if published else None
    if graph is None:
        return None
    completed = state.runtime_status is WorkflowStatus.COMPLETED
    output = payloads.plain_or_none(_field(events, "ExecutionCompleted", "output"), codec)
    progress = lay_over(
        graph, spans, ended=state.runtime_status.is_final, completed=completed, output=output
    )
    return Markup(to_svg(graph, progress, alone=False))


def _event_row(event: HistoryEvent, codec: Codec) -> dict[str, Any]:
    fields = dict(event.fields)
    name = str(fields.pop("name", "") or "")
    task = fields.pop("task_id", None)
    text = payloads.shown({key: _readable(value, codec) for key, value in fields.items()}, codec)
    return {
        "event": event,
        "name": name,
        "task": task,
        "detail": text if fields else None,
        "search": f"{event.type} {name} {text.text}".casefold(),
    }
