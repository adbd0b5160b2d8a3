"""The spans of an instance as bars. Each row has a small picture of its own: they stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from wfq.analysis.spans import Span
from wfq_server.dashboard.wording import ago, moment

#: Rows of a page; the table and the history have the rest.
SHOWN = 200
#: Units of a row's width.
_WIDTH = 1000.0
_LEAST = 4.0
_STATES = {"done": "done", "open": "open", "failed": "failed", "dropped": "dropped"}
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


def _picture(span: Span, began_ms: int, end_ms: int, until: int) -> Markup:
    scale = _WIDTH / (end_ms - began_ms)
    x = min((span.start_ms - began_ms) * scale, _WIDTH - _LEAST)
    width = max(_LEAST, (until - span.start_ms) * scale)
    kind = "wait" if span.kind in _WAITING else "work"
    size = 'viewBox="0 0 1000 20" preserveAspectRatio="none" aria-hidden="true"'
    parts = [f'<svg class="bar bar-{kind} bar-{_STATES[span.state]}" {size}>']
    if kind == "wait":
        parts.append(
            f'<rect class="bar-back" x="{x:.1f}" y="4" width="{width:.1f}" height="12"/>'
            f'<line class="bar-line" x1="{x:.1f}" y1="10" x2="{x + width:.1f}" y2="10"/>'
        )
    else:
        parts.append(f'<rect class="bar-fill" x="{x:.1f}" y="3" width="{width:.1f}" height="14"/>')
        parts += _ticks(span.attempts or 1, x, width)
    parts.append("</svg>")
    return Markup("".join(parts))


def _ticks(attempts: int, x: float, width: float) -> list[str]:
    """One tick for each attempt after the first; when these began is not recorded."""
    shown = min(attempts - 1, 20)
    return [
        f'<rect class="bar-tick" x="{x + width * number / (shown + 1):.1f}" y="1" '
        'width="2" height="18"/>'
        for number in range(1, shown + 1)
    ]


def hover(span: Span) -> str:
    """What the mouse is told about a bar."""
    parts = [title_of(span), _WORDS[span.state], f"from {moment(span.start_ms)}"]
    if span.end_ms is not None:
        parts.append(f"to {moment(span.end_ms)}")
    return ", ".join(parts)
