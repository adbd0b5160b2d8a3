"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a bar within a cell is escaped."""
    lines = [_line(titles), "|" + "---|" * len(titles)]
    return "\n".join([*lines, *(_line([_cell(cell) for cell in row]) for row in rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def code(text: str) -> str:
    """Return a text as inline code; nothing for nothing."""
    return f"`{text}`" if text else ""


def sentence(text: str) -> str:
    """Return a text as one sentence of a cell."""
    flat = " ".join(text.split())
    return flat[:1].upper() + flat[1:]
