"""How results are printed: tables for people, JSON for programs.

On a terminal the default is a table. Piped, one object is one JSON document and a list is one
JSON line per row. Data goes to stdout; everything else goes to stderr.
"""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click

from wfq.logs import plain_text
from wfq_cli import exits

Row = Mapping[str, Any]

#: Rows that share one computation of column widths, so that long lists start printing at once.
_BLOCK = 200
#: The widest a table gets where the terminal does not tell its width.
_FALLBACK_WIDTH = 100

_STATUS_COLOURS = {
    "COMPLETED": "green",
    "RUNNING": "cyan",
    "PENDING": "blue",
    "SUSPENDED": "yellow",
    "STALLED": "magenta",
    "FAILED": "red",
    "TERMINATED": "red",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its title and the text for a row."""

    title: str
    text: Callable[[Row], str]
    right: bool = False
    #: Said in full, over several lines of a terminal if need be; other last columns are cut.
    whole: bool = False


def on_terminal() -> bool:
    """Whether stdout is looked at by a person."""
    return sys.stdout.isatty()


def chosen(output: str | None, *, rows: bool) -> str:
    """Return the format to use where the user may have asked for one."""
    if output is not None:
        return output
    if on_terminal():
        return "table"
    return "jsonl" if rows else "json"


def print_one(
    record: Row, output: str | None, pairs: Sequence[tuple[str, str]], ident: str
) -> None:
    """Print one object: `pairs` on a terminal, its JSON, or `ident` alone."""
    match chosen(output, rows=False):
        case "table":
            print_pairs(pairs)
        case "ids":
            click.echo(ident)
        case "jsonl":
            click.echo(dump(record, indent=False))
        case _:
            click.echo(dump(record, indent=on_terminal()))


def print_rows(
    rows: Iterable[Row], output: str | None, columns: Sequence[Column], *, ident: str
) -> int:
    """Print a list and return how many rows it had; `ident` is the key of the id."""
    counted = _Counted(rows)
    match chosen(output, rows=True):
        case "table":
            _print_table(counted, columns)
        case "ids":
            for row in counted:
                click.echo(str(row[ident]))
        case "json":
            everything = [dict(row) for row in counted]
            click.echo(dump(everything, indent=on_terminal()))
        case _:
            for row in counted:
                click.echo(dump(row, indent=False))
    return counted.count


class _Counted:
    """Counts the rows that pass through."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.count += 1
            yield row


def dump(value: Any, *, indent: bool) -> str:
    """Return JSON text; times as RFC 3339."""
    if indent:
        return json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values below each other; values may go over the line."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        shown = styled(value) if name == "status" else value
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {shown}")


def _print_table(rows: Iterable[Row], columns: Sequence[Column]) -> None:
    for line in table_lines(rows, columns):
        click.echo(line)


def table_lines(rows: Iterable[Row], columns: Sequence[Column]) -> Iterator[str]:
    """Yield the lines of a table, titles first; nothing where there are no rows."""
    total = terminal_width()
    source = iter(rows)
    first = True
    while block := list(islice(source, _BLOCK)):
        cells = [[plain_text(column.text(row)) for column in columns] for row in block]
        widths = [
            max([cell_width(column.title), *(cell_width(line[at]) for line in cells)])
            for at, column in enumerate(columns)
        ]
        # The last column is the one that may be long. A file or a pipe has no width.
        if on_terminal() and not columns[-1].whole:
            widths[-1] = max(8, min(widths[-1], total - sum(widths[:-1]) - 2 * len(columns) + 2))
        if first:
            titles = [column.title for column in columns]
            yield click.style(_line(titles, widths, columns, plain=True), bold=True)
        first = False
        for line in cells:
            yield _line(line, widths, columns)


def _line(
    cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column], *, plain: bool = False
) -> str:
    parts = []
    for cell, width, column in zip(cells, widths, columns, strict=True):
        cut = clip(cell, width)
        space = " " * (width - cell_width(cut))
        shown = cut if plain else styled(cut)
        parts.append(space + shown if column.right else shown + space)
    return "  ".join(parts).rstrip()


def styled(text: str) -> str:
    """Return a status in its colour, any other text as it is."""
    colour = _STATUS_COLOURS.get(text)
    return click.style(text, fg=colour) if colour and exits.coloured() else text


def terminal_width() -> int:
    return shutil.get_terminal_size((_FALLBACK_WIDTH, 24)).columns


def cell_width(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clip(text: str, width: int) -> str:
    """Return `text`, cut to `width` columns with a mark where something is missing."""
    if cell_width(text) <= width:
        return text
    kept, used = "", 0
    for char in text:
        used += _columns(char)
        if used > width - 1:
            break
        kept += char
    return kept + "…"


def compact(value: Any) -> str:
    """Return a payload as short JSON for a table."""
    return plain_text(dump(value, indent=False))


def rfc3339(moment: datetime) -> str:
    """Return a moment as ``2026-03-01T09:00:00.123Z``; naive means UTC."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age(moment: datetime | None) -> str:
    """Return how long ago a moment was, in one unit: ``12s``, ``4m``, ``3d``."""
    if moment is None:
        return ""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    seconds = (datetime.now(UTC) - aware).total_seconds()
    if seconds < 0:
        return f"in {_rough(-seconds)}"
    return _rough(seconds)


def _rough(seconds: float) -> str:
    for unit, unit_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f}{unit}"
    return f"{seconds:.0f}s"
