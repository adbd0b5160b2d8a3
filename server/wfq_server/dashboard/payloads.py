"""Payloads as text for pages. The templates escape it; nothing here makes HTML."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import orjson

from wfq.codec import Codec, is_transformed
from wfq.errors import WfqError

#: Characters of a payload that a page shows; the history's download has all.
SHOWN = 20_000
_SHORT = 120


@dataclass(frozen=True, slots=True)
class Shown:
    """A payload as text. note: what is to be said of it, such as that it is encrypted."""

    text: str
    note: str = ""

    @property
    def short(self) -> str:
        """The text on one line, cut."""
        line = " ".join(self.text.split())
        return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"


def shown(payload: Any, codec: Codec) -> Shown:
    """Return a stored payload as indented JSON, or as it is stored where it cannot be read."""
    note = ""
    try:
        value = codec.plain(payload)
    except (WfqError, ValueError) as exc:
        value, note = payload, f"cannot be read here: {exc}"
    if is_transformed(value):
        note = note or "encrypted, or otherwise encoded by the application: shown as stored"
    text = _text(value)
    if len(text) > SHOWN:
        note = f"{note}; " if note else ""
        note += f"the first {SHOWN} of {len(text)} characters"
        text = text[:SHOWN]
    return Shown(text, note)


def plain_or_none(payload: Any, codec: Codec) -> Any:
    """Return a payload as JSON values; None where it cannot be read."""
    try:
        return codec.plain(payload)
    except (WfqError, ValueError):
        return None


def shown_text(text: str | None) -> Shown | None:
    """Return JSON text as `shown` would show its value."""
    if text is None:
        return None
    try:
        return Shown(_text(orjson.loads(text))[:SHOWN])
    except ValueError:
        return Shown(text[:SHOWN])


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
