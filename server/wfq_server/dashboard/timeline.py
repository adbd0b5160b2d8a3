"""The spans of an instance as bars. Each row has a small picture of its own: they stretch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from wfq.analysis.spans import Span
from wfq.checker.waiting import WaitingTask
from wfq_server.dashboard.wording import ago, moment, plural

#: Rows of a page; the table and the history have the rest.
SHOWN = 200
#: Units of a row's width.
_WIDTH = 1000.0
_LEAST = 4.0
_STATES = {"done": "done", "open": "open", "failed": "failed", "dropped": "dropped"}
#: The end of an attempt that runs.
_STILL = 2**62
_WAITING = frozenset(("timer", "event"))
_WORDS = {"done": "done", "open": "open", "failed": "failed", "dropped": "left open at the end"}


@dataclass(frozen=True, slots=True)
class Row:
    """One bar: `picture` is SVG made of numbers alone."""

    span: Span
    title: str
    took: str
    state: str
    picture: Markup


@dataclass(frozen=True, slots=True)
class Timeline:
    """Rows, the marks of the axis, and how many rows were left out."""

    rows: list[Row]
    marks: list[str]
    left_out: int


def make_timeline(spans: Sequence[Span], began_ms: int, end_ms: int) -> Timeline:
    """Return the bars of spans between two moments (epoch ms)."""
    end_ms = max([end_ms, began_ms + 1, *(span.end_ms or 0 for span in spans)])
    length = end_ms - began_ms
    rows = [_row(span, began_ms, end_ms) for span in spans[:SHOWN]]
    marks = [f"+{ago(round(length * part / 4))}" if part else "0" for part in range(5)]
    return Timeline(rows, marks, max(0, len(spans) - SHOWN))


def attempts_of(span: Span) -> str:
    """How many attempts there were; "" for one that is, or was, the only one."""
    count = span.attempts or 0
    if span.state != "open":
        return f"{count} attempts" if count > 1 else ""
    if span.idle_ms is not None:
        return plural(count, "failed attempt") if count else ""
    return f"attempt {count}" if count > 1 else ""


def title_of(span: Span) -> str:
    """What a bar is called."""
    match span.kind:
        case "timer":
            return "timer"
        case "event":
            return f"event {span.name}"
        case "send":
            return f"send {span.name}"
        case "again":
            return "continue as new"
        case _:
            return span.name


def _row(span: Span, began_ms: int, end_ms: int) -> Row:
    until = end_ms if span.end_ms is None else span.end_ms
    return Row(
        span=span,
        title=title_of(span),
        took=ago(until - span.start_ms),
        state=_WORDS[span.state],
        picture=_picture(span, began_ms, end_ms, until),
    )


def take_attempts(spans: Sequence[Span], tasks: Iterable[WaitingTask]) -> None:
    """Let open spans know of their attempts, which a history tells only at their end."""
    by_id = {task.task_id: task for task in tasks if task.kind == "activity"}
    for span in spans:
        task = by_id.get(-1 if span.task_id is None else span.task_id)
        if task is None or span.kind != "activity" or span.state != "open":
            continue
        at_work = task.state == "running"
        times = list(task.attempt_times)
        last_ms = times[-1][1] if times else span.start_ms
        if task.attempt is not None:
            span.attempts = task.attempt if at_work else task.attempt - 1
        if not at_work:
            span.idle_ms = last_ms
        elif times:
            # It waited for its time, and began no earlier than it was put into its queue.
            times.append((max(last_ms, task.queued_ms or last_ms), _STILL))
        span.attempt_times = times


def _picture(span: Span, began_ms: int, end_ms: int, until: int) -> Markup:
    scale = _WIDTH / (end_ms - began_ms)

    def place(start_ms: int, stop_ms: int, least: float = _LEAST) -> tuple[float, float]:
        start_ms = min(max(start_ms, span.start_ms), until)
        x = min((start_ms - began_ms) * scale, _WIDTH - least)
        return x, max(least, (min(stop_ms, until) - start_ms) * scale)

    kind = "wait" if span.kind in _WAITING else "work"
    size = 'viewBox="0 0 1000 20" preserveAspectRatio="none" aria-hidden="true"'
    parts = [f'<svg class="bar bar-{kind} bar-{_STATES[span.state]}" {size}>']
    if kind == "wait" or span.idle_ms is not None or span.attempt_times:
        parts.append(_dashes(*place(span.start_ms, until)))
    if kind == "work" and not span.attempt_times and span.idle_ms is None:
        parts.append(_solid(*place(span.start_ms, until)))
    for number, (start_ms, stop_ms) in enumerate(span.attempt_times, 1):
        # All but the last have failed, and the last one of those that wait for another has too.
        last = number == len(span.attempt_times) and span.idle_ms is None
        x, width = place(start_ms, stop_ms)
        parts.append(_solid(x, width, "" if last else " bar-try"))
        parts.append(f'<rect class="bar-tick" x="{x:.1f}" y="0" width="2" height="20"/>')
    parts.append("</svg>")
    return Markup("".join(parts))


def _dashes(x: float, width: float) -> str:
    return (
        f'<rect class="bar-back" x="{x:.1f}" y="4" width="{width:.1f}" height="12"/>'
        f'<line class="bar-line" x1="{x:.1f}" y1="10" x2="{x + width:.1f}" y2="10"/>'
    )


def _solid(x: float, width: float, more: str = "") -> str:
    return f'<rect class="bar-fill{more}" x="{x:.1f}" y="3" width="{width:.1f}" height="14"/>'


def hover(span: Span) -> str:
    """What the mouse is told about a bar."""
    parts = [title_of(span), _WORDS[span.state], f"from {moment(span.start_ms)}"]
    if span.end_ms is not None:
        parts.append(f"to {moment(span.end_ms)}")
    parts += [
        f"attempt at {moment(start_ms)[11:23]} for {ago(stop_ms - start_ms)}"
        for start_ms, stop_ms in span.attempt_times
        if stop_ms != _STILL
    ]
    return ", ".join(parts)
