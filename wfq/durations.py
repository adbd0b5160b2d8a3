"""Durations as people write them: ``30s``, ``1h30m``, ``250ms``, ``PT5S``, or plain seconds."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator

_SECONDS_PER_UNIT = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0.001}

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_PART = re.compile(rf"({_NUMBER})(ms|w|d|h|m|s)")
_SHORT = re.compile(rf"(?:{_NUMBER}(?:ms|w|d|h|m|s))+")
_ISO = re.compile(
    rf"P(?=[0-9T])(?:(?P<w>{_NUMBER})W)?(?:(?P<d>{_NUMBER})D)?"
    rf"(?:T(?=[0-9])(?:(?P<h>{_NUMBER})H)?(?:(?P<m>{_NUMBER})M)?(?:(?P<s>{_NUMBER})S)?)?"
)

#: The longest duration taken, in seconds: what a `timedelta` holds.
MAX_DURATION_S = timedelta.max.total_seconds()


def parse_duration(value: str | float | timedelta) -> float:
    """Return the seconds that `value` means.

    Takes ``90``, ``"90"``, ``"1m30s"`` (units w d h m s ms, each once, largest first), ISO 8601
    (``"PT1M30S"``, ``"P1DT2H"``) and `timedelta`. Years and months have no fixed length.

    Raises: ValueError, in one line, for anything else and for negative durations.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, bool):
        raise ValueError(f"{value!r} is not a duration; write it like 30s, 1h30m or PT5S")
    elif isinstance(value, (int, float)):
        # Compared before float(): an int may be too large for one.
        seconds = float(value) if value <= MAX_DURATION_S else math.inf
    else:
        seconds = _parse_text(value)
    # Not a number compares false with everything.
    if not 0 <= seconds <= MAX_DURATION_S:
        raise ValueError(f"{value!r} is out of range; a duration is zero or longer")
    return seconds


def _parse_text(text: str) -> float:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a duration; write it like 30s, 1h30m or PT5S")
    written = text.strip()
    if re.fullmatch(rf"-?{_NUMBER}", written):
        return float(written)
    iso = _ISO.fullmatch(written.upper())
    if iso is not None:
        parts = [(float(n), unit) for unit, n in iso.groupdict().items() if n is not None]
        return sum(n * _SECONDS_PER_UNIT[unit] for n, unit in parts)
    lowered = written.lower()
    if _SHORT.fullmatch(lowered):
        found = [(float(n), unit) for n, unit in _PART.findall(lowered)]
        order = [list(_SECONDS_PER_UNIT).index(unit) for _, unit in found]
        # "1m1m" and "5s1h" are slips of the pen more often than sums.
        if order == sorted(set(order)):
            return sum(n * _SECONDS_PER_UNIT[unit] for n, unit in found)
    raise ValueError(f"{text!r} is not a duration; write it like 30s, 1h30m or PT5S")


def format_duration(seconds: float) -> str:
    """Return the shortest text that `parse_duration` reads as `seconds`, to the millisecond."""
    left_ms = round(seconds * 1000)
    text = ""
    for unit, unit_s in _SECONDS_PER_UNIT.items():
        count, left_ms = divmod(left_ms, round(unit_s * 1000))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def told_duration(milliseconds: int) -> str:
    """Return a duration for people, in its largest two units: ``3 d 4 h``, ``12 s``."""
    seconds = max(0, milliseconds) / 1000
    if seconds < 1:
        return f"{max(0, milliseconds)} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{int(seconds)} s"
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    parts: list[str] = []
    left = int(seconds)
    for word, size in units:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {word}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


#: A pydantic field of seconds that reads every form of `parse_duration`.
Seconds = Annotated[float, BeforeValidator(parse_duration)]
