"""What people type: JSON payloads, points in time, durations, filters, ids."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from wfq import jsontext
from wfq.durations import parse_duration
from wfq.errors import PayloadError

#: Characters of the input that an error shows around the place it is about.
_AROUND = 12


@dataclass(frozen=True, slots=True)
class Given:
    """A payload that was given; None in its place means that there was none."""

    value: Any


def read_payload(text: str | None, what: str) -> Given | None:
    """Return the JSON that `text` means: itself, ``@file``, or ``-`` for stdin.

    Raises: click.UsageError, one line that says where it stops being JSON.
    """
    if text is None:
        return None
    source = what
    if text == "-":
        text, source = sys.stdin.read(), f"{what} on stdin"
    elif text.startswith("@"):
        text, source = _read_file(text[1:], what), f"{what} in {text[1:]}"
    return Given(parse_json(text, source))


def _read_file(path: str, what: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise click.UsageError(f"cannot read the {what} from {path!r}: {reason}") from exc
    except UnicodeDecodeError as exc:
        raise click.UsageError(
            f"the {what} in {path!r} is not UTF-8 text (byte {exc.start})"
        ) from exc


def parse_json(text: str, what: str) -> Any:
    """Return the value of a JSON text. Raises: click.UsageError."""
    if not text.strip():
        raise click.UsageError(f"the {what} is empty; JSON is needed, such as null or {{}}")
    try:
        return jsontext.parse_json(text.encode())
    except PayloadError as exc:
        if isinstance(exc.__cause__, json.JSONDecodeError):
            raise click.UsageError(_explain(text, exc.__cause__, what)) from exc
        raise click.UsageError(f"the {what} is not usable JSON: {exc}") from exc
    except UnicodeEncodeError as exc:
        raise click.UsageError(f"the {what} is not UTF-8 text (character {exc.start})") from exc


def _explain(text: str, error: json.JSONDecodeError, what: str) -> str:
    """Return where and why `text` is not JSON, and how a string is quoted."""
    at = error.pos
    if error.lineno == 1:
        place = f"character {error.colno}"
    else:
        place = f"line {error.lineno}, column {error.colno}"
    rest = text[at : at + _AROUND]
    more = "..." if at + _AROUND < len(text) else ""
    near = repr(rest + more) if rest.strip() else "its end"
    # orjson repeats the place in its message.
    reason = error.msg.partition(": line ")[0]
    message = f"the {what} is not JSON: {reason} at {place}, near {near}"
    if text.strip()[:1] not in '{["':
        return f"{message}; a string is written {_quoted(text.strip())}"
    return message


def _quoted(text: str) -> str:
    """Return how a shell is given `text` as a JSON string."""
    shown = text if len(text) <= 40 else "some text"
    quoted = json.dumps(shown, ensure_ascii=False).replace("'", "'\\''")
    return f"'{quoted}'"


def duration(text: str) -> float:
    """Type of an option: seconds, from ``30s``, ``1h30m``, ``PT5S``."""
    try:
        return parse_duration(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def moment(text: str) -> datetime:
    """Type of an option: an aware UTC datetime, from ``2026-03-01T09:00Z``; no zone means UTC."""
    found = parse_moment(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a time; write it like 2026-03-01T09:00Z")
    return found


def ago(text: str) -> datetime:
    """Type of an option: a moment, given as a time or as an age: ``2h``, ``2026-03-01``."""
    try:
        return parse_ago(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def parse_moment(text: str) -> datetime | None:
    """Return an ISO 8601 time in UTC, None when it is not one."""
    try:
        at = datetime.fromisoformat(text.strip())
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def parse_ago(text: str) -> datetime:
    """Return the moment that a time or an age means. Raises: ValueError, one line."""
    # A year alone, such as 2026, would also be a number of seconds; seconds it is.
    if "-" in text:
        at = parse_moment(text)
        if at is not None:
            return at
    try:
        return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError) as exc:
        raise ValueError(
            f"{text!r} is neither an age nor a time; write 2h, 7d or 2026-03-01T09:00Z"
        ) from exc


def split_event(arguments: tuple[str, ...]) -> tuple[str, str, str | None]:
    """Return id, event name and data of ``ID EVENT [DATA]`` or ``ID/EVENT [DATA]``.

    Raises: click.UsageError.
    """
    # A slash is in no instance id, so the first one ends it; event names may hold more.
    if arguments and "/" in arguments[0]:
        instance_id, event = arguments[0].split("/", 1)
        rest = arguments[1:]
    else:
        if len(arguments) < 2:
            missing = "ID" if not arguments else "EVENT"
            raise click.UsageError(f"missing argument {missing!r}")
        (instance_id, event), rest = arguments[:2], arguments[2:]
    if not event or not instance_id:
        raise click.UsageError("an event is given as ID EVENT or ID/EVENT; one of them is empty")
    if len(rest) > 1:
        raise click.UsageError(
            f"one DATA argument at most, got {len(rest)}; quote the JSON as one word"
        )
    return instance_id, event, rest[0] if rest else None


def parse_tags(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return ``KEY=VALUE`` options as a dict. Raises: click.UsageError."""
    tags: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise click.UsageError(f"{pair!r} is not a tag; write it like team=billing")
        tags[key] = value
    return tags
