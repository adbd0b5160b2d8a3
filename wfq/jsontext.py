"""Reading JSON that strangers wrote: HTTP bodies and messages.

What is let through here comes back unchanged: numbers that a JSON library would round in silence,
and nesting that the encoder refuses later, are refused at the door.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from wfq.errors import PayloadError

#: Containers within containers.
MAX_DEPTH = 200
#: Where orjson gives up; what is embedded in a record and sent on must stay below it.
_ENCODER_DEPTH = 254

#: A run of digits that may be a whole number of more than 64 bits.
_MANY_DIGITS = re.compile(rb"[0-9]{19}")


def parse_json(text: bytes) -> Any:
    """Return the value of a JSON text. Raises: PayloadError, in one line without the text."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise PayloadError(_reason(exc)) from exc
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _too_deep(value):
        raise PayloadError(f"JSON is nested more than {MAX_DEPTH} levels deep")
    if _MANY_DIGITS.search(text):
        _refuse_rounded(text)
    return value


def _reason(error: orjson.JSONDecodeError) -> str:
    said = error.msg.partition(": line ")[0]
    if "UTF-8" in said and "BOM" not in said:
        return "not UTF-8 text"
    if "depth" in said or "ecursion" in said:
        return f"JSON is nested more than {MAX_DEPTH} levels deep"
    return f"not JSON: {said} at line {error.lineno}, column {error.colno}"


def _too_deep(value: Any) -> bool:
    """Ask the encoder, which counts far faster than Python: wrapped, its limit becomes ours."""
    for _ in range(_ENCODER_DEPTH - MAX_DEPTH):
        value = [value]
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return True
    return False


def _refuse_rounded(text: bytes) -> None:
    """Raise PayloadError where a whole number does not fit 64 bits: it would turn into a float."""

    def check(digits: str) -> int:
        number = int(digits) if len(digits) <= 20 else 1 << 64
        if not -(1 << 63) <= number < 1 << 64:
            shown = digits if len(digits) <= 30 else f"{digits[:27]}..."
            raise PayloadError(f"the number {shown} has more than 64 bits; send it as a string")
        return number

    json.loads(text, parse_int=check)
