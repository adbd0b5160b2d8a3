"""``wfq trace``: an instance as a tree of its activities, timers, waits and children, with bars."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click
import orjson

from wfq.analysis.spans import Span, spans_of
from wfq.core.history import expand_history
from wfq.logs import plain_text
from wfq.storage import instances, membership
from wfq_cli import completing, exits, render
from wfq_cli.endings import State
from wfq_cli.screen import Screen
from wfq_cli.session import Session, open_session
from wfq_cli.target import Target, output_option, target_options

#: Generations of children, and instances, that a trace goes into.
_DEPTH = 8
_INSTANCES = 100
#: Spans of one instance that a terminal shows; JSON has all.
_SHOWN = 60
#: Seconds between two looks; longer where one takes long.
_BEAT_S = 0.5
_REST = 5

_MARKS = {"done": "✓", "open": "…", "failed": "✗", "dropped": "-"}
_COLOURS = {"done": "green", "open": "cyan", "failed": "red", "dropped": None}
_WAITING = frozenset(("timer", "event"))


@dataclass(slots=True)
class Traced:
    """One instance with its spans; `children` by the index of the span that started them."""

    state: State
    spans: list[Span]
    began_ms: int
    ended_ms: int | None
    children: dict[int, Traced] = field(default_factory=dict)


@click.command()
@click.argument("instance_id", metavar="ID", shell_complete=completing.ids)
@click.option("--follow", "live", is_flag=True, help="Redraw until the instance has ended.")
@output_option
@target_options
def trace(instance_id: str, live: bool) -> None:
    """Show what an instance did and waited for, when and how long, children below it.

    A solid bar is work, a dashed one waiting. After a continue as new it is the present
    generation.
    """
    with open_session() as session:
        output = Target.current().output
        if render.chosen(output, rows=False) != "table":
            # There is nothing to redraw: followed to its end, then told.
            if live:
                session.client.wait_for_workflow_completion(instance_id)
            render.print_one(document(_traced(session, instance_id)), output, (), instance_id)
            return
        screen = Screen()
        while True:
            began = time.monotonic()
            found = _traced(session, instance_id)
            now_ms = membership.server_now_ms(session.link)
            screen.show(lines(found, now_ms, render.terminal_width()))
            if not live or found.state.runtime_status.is_final:
                return
            time.sleep(max(_BEAT_S, _REST * (time.monotonic() - began)))


def _traced(session: Session, instance_id: str) -> Traced:
    """Read an instance and what it started. Raises: InstanceNotFound."""
    top = _one(session, session.state(instance_id))
    assert top is not None
    queue, count = [(top, 1)], 1
    while queue:
        parent, depth = queue.pop(0)
        for span in parent.spans:
            if span.kind != "child" or not span.target:
                continue
            if depth >= _DEPTH or count >= _INSTANCES:
                break
            state = session.client.get_workflow_state(span.target, fetch_payloads=False)
            # A child that is on its way, or was purged, is a span without a tree.
            child = _one(session, state) if state is not None else None
            if child is not None:
                count += 1
                parent.children[span.index] = child
                queue.append((child, depth + 1))
    return top


def _one(session: Session, state: State) -> Traced | None:
    namespace = session.namespace
    partition = namespace.partition_of(state.instance_id)
    call = instances.fetch(namespace, partition, [state.instance_id])
    stored = session.link.run(call)[0]
    if stored is None:
        return None
    events = expand_history(orjson.loads(record) for record in stored.records)
    ended_ms = events[-1].time_ms if state.runtime_status.is_final and events else None
    return Traced(state, spans_of(events), events[0].time_ms if events else 0, ended_ms)


def document(found: Traced) -> dict[str, Any]:
    """Return a trace as JSON; times in epoch ms."""
    return {
        "instance_id": found.state.instance_id,
        "name": found.state.name,
        "runtime_status": found.state.runtime_status.name,
        "began_ms": found.began_ms,
        "ended_ms": found.ended_ms,
        "spans": [_span_document(found, span) for span in found.spans],
    }


def _span_document(found: Traced, span: Span) -> dict[str, Any]:
    child = found.children.get(span.index)
    said = {
        "index": span.index,
        "kind": span.kind,
        "name": span.name,
        "state": span.state,
        "start_ms": span.start_ms,
        "end_ms": span.end_ms,
        "attempts": span.attempts,
        "attempt_times": span.attempt_times or None,
        "due_ms": span.due_ms,
        "target_id": span.target or None,
        "child": None if child is None else document(child),
    }
    return {name: value for name, value in said.items() if value is not None}


# --- the picture


def lines(found: Traced, now_ms: int, width: int) -> list[str]:
    """Return the lines of the picture for a terminal of that width."""
    rows = list(_rows(found, ""))
    end_ms = max([now_ms if found.ended_ms is None else found.ended_ms, found.began_ms + 1])
    label_width = min(
        max((render.cell_width(label) for label, _, _ in rows), default=0), width // 2
    )
    room = max(width - label_width - 14, 10)
    return [
        _line(label, span, color, (found.began_ms, end_ms), label_width, room)
        for label, span, color in rows
    ]


def _rows(found: Traced, indent: str) -> Iterator[tuple[str, Span | str, str | None]]:
    """Yield label, span (or the instance's status) and colour of each line."""
    status = found.state.runtime_status.name
    if not indent:
        yield f"{found.state.name} {found.state.instance_id}", status, None
    shown = found.spans[:_SHOWN]
    for number, span in enumerate(shown):
        last = number == len(shown) - 1 and len(found.spans) <= _SHOWN
        branch = "└ " if last else "├ "
        yield f"{indent}{branch}{_label(span)}", span, _COLOURS[span.state]
        child = found.children.get(span.index)
        if child is not None:
            yield from _rows(child, indent + ("  " if last else "│ "))
    if len(found.spans) > _SHOWN:
        left = len(found.spans) - _SHOWN
        yield f"{indent}└ and {left} more; '-o json' has all", "", None


def _label(span: Span) -> str:
    name = plain_text(span.name)
    match span.kind:
        case "activity" | "child":
            words = name
        case "timer":
            words = "timer"
        case "again":
            words = "continue as new"
        case _:
            words = f"{span.kind} {name}"
    attempts = f" ({span.attempts} attempts)" if (span.attempts or 1) > 1 else ""
    return f"{_MARKS[span.state]} {words}{attempts}"


def _line(
    label: str,
    what: Span | str,
    colour: str | None,
    window: tuple[int, int],
    label_width: int,
    room: int,
) -> str:
    cut = render.clip(label, label_width)
    text = cut + " " * (label_width - render.cell_width(cut))
    if isinstance(what, str):
        return f"{text}  {render.styled(what)}".rstrip()
    began_ms, now_ms = window
    end_ms = now_ms if what.end_ms is None else what.end_ms
    scale = room / max(now_ms - began_ms, 1)
    start = min(int((what.start_ms - began_ms) * scale), room - 1)
    length = max(1, min(room - start, round((end_ms - what.start_ms) * scale)))
    bar = ("╌" if what.kind in _WAITING else "━") * length
    took = duration_text(end_ms - what.start_ms).rjust(8)
    shown = click.style(bar, fg=colour) if colour and exits.coloured() else bar
    return f"{text}  {took}  {' ' * start}{shown}"


def duration_text(milliseconds: int) -> str:
    """Return a duration in few characters: ``8ms``, ``1.2s``, ``4m10s``, ``3h05m``."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"
