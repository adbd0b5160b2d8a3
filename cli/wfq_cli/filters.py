"""Which instances are meant: the options of ``list`` and ``count``, and ``--where`` of bulk verbs.

``--where`` holds terms ``key=value``, separated by spaces or commas: ``status=FAILED name=order
until=7d tag.team=billing``. The same key again means "or" for `status`; all else narrows down.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import click

from wfq.storage.instances import INDEXED
from wfq_cli.parsing import parse_ago

FILTER_HELP = (
    "All that fit, such as 'status=FAILED name=order until=7d'. Keys: status, name, since, until, "
    "ended (before then), id (a part of it), tag.KEY."
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Empty fields filter nothing. Times are those of creation, but for `ended_before`."""

    statuses: tuple[str, ...] = ()
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    id_part: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    ended_before: datetime | None = None


def parse_where(terms: Sequence[str]) -> Filter:
    """Return the filter that ``--where`` means. Raises: click.UsageError."""
    found = Filter()
    words = [word for term in terms for word in _words(term)]
    if not words:
        raise click.UsageError("--where is empty; write it like 'status=FAILED name=order'")
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not value:
            raise click.UsageError(
                f"{word!r} in --where is no filter; write it like status=FAILED or until=7d"
            )
        found = _take(found, key, value)
    return found


def _words(term: str) -> list[str]:
    lexer = shlex.shlex(term, posix=True, punctuation_chars=False)
    lexer.whitespace += ","
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError as exc:
        raise click.UsageError(f"--where has an unfinished quote: {term!r}") from exc


def _take(found: Filter, key: str, value: str) -> Filter:
    if key.startswith("tag.") and len(key) > 4:
        return replace(found, tags={**found.tags, key[4:]: value})
    taker = _TAKERS.get(key)
    if taker is None:
        near = difflib.get_close_matches(key, _TAKERS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_TAKERS)}, tag.KEY"
        raise click.UsageError(f"--where knows no {key!r}; {hint}")
    return taker(found, value)


def _status(found: Filter, value: str) -> Filter:
    return replace(found, statuses=(*found.statuses, check_status(value)))


def _moment(value: str) -> datetime:
    try:
        return parse_ago(value)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


_TAKERS: dict[str, Callable[[Filter, str], Filter]] = {
    "status": _status,
    "name": lambda found, value: replace(found, name=value),
    "since": lambda found, value: replace(found, since=_moment(value)),
    "until": lambda found, value: replace(found, until=_moment(value)),
    "id": lambda found, value: replace(found, id_part=value),
    "ended": lambda found, value: replace(found, ended_before=_moment(value)),
}


def check_status(text: str) -> str:
    """Return a status in its spelling. Raises: click.UsageError."""
    status = text.upper()
    if status not in INDEXED:
        near = difflib.get_close_matches(status, INDEXED, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(INDEXED)}"
        raise click.UsageError(f"no status {text!r}; {hint}")
    return status
