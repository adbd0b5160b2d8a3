"""Places where a test can make this process fail on purpose; off unless asked for.

`WFQ_FAILPOINTS="act.before_report=kill;orch.after_run=sleep:5@2"` arms points by name.
Actions: `kill` (SIGKILL to itself), `exit` (os._exit(70), no clean-up), `raise`
(FailpointRaised), `sleep:S` (S seconds). `@N` acts on the Nth pass only, else on every one.

A point costs one attribute read while nothing is armed::

    if failpoints.ACTIVE:
        failpoints.hit("act.before_exec")
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass

from wfq.errors import ConfigurationError

VARIABLE = "WFQ_FAILPOINTS"

#: Exit status of the `exit` action: unlike any status that wfq uses itself.
EXIT_STATUS = 70


class FailpointRaised(RuntimeError):
    """What the `raise` action raises: a stand-in for a bug in wfq's own code."""


@dataclass(frozen=True, slots=True)
class Failpoint:
    """What to do at one point; `only_pass` counts from 1, None means every pass."""

    action: str
    seconds: float = 0.0
    only_pass: int | None = None


def parse(text: str) -> dict[str, Failpoint]:
    """Return the points armed by `text`, by name. Raises: ConfigurationError."""
    points = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, separator, rest = part.partition("=")
        if not separator or not name.strip():
            raise _bad(part, "write it as name=action")
        points[name.strip()] = _parse_action(part, rest.strip())
    return points


def _parse_action(part: str, text: str) -> Failpoint:
    action, _, number = text.partition("@")
    verb, _, argument = action.partition(":")
    try:
        only_pass = int(number) if number else None
        seconds = float(argument) if argument else 0.0
    except ValueError:
        raise _bad(part, "the number cannot be read") from None
    if verb not in _ACTIONS:
        raise _bad(part, f"actions are {', '.join(sorted(_ACTIONS))}")
    return Failpoint(verb, seconds, only_pass)


def _bad(part: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"{VARIABLE}: cannot use {part!r}: {why}")


def _kill(_: float) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit(_: float) -> None:
    os._exit(EXIT_STATUS)


def _raise(_: float) -> None:
    raise FailpointRaised("a failpoint was armed here")


_ACTIONS = {"kill": _kill, "exit": _exit, "raise": _raise, "sleep": time.sleep}

_points: dict[str, Failpoint] = {}
_passes: dict[str, int] = {}
_lock = threading.Lock()

#: Whether any point is armed; callers look at it before they call `hit`.
ACTIVE = False


def arm(text: str) -> None:
    """Arm exactly the points of `text` and forget earlier ones and their counts; '' disarms."""
    global ACTIVE
    points = parse(text)
    with _lock:
        _points.clear()
        _points.update(points)
        _passes.clear()
        ACTIVE = bool(points)


def hit(name: str) -> None:
    """Act if the point `name` is armed and this is its pass."""
    point = _points.get(name)
    if point is None:
        return
    with _lock:
        _passes[name] = passes = _passes.get(name, 0) + 1
    if point.only_pass is None or point.only_pass == passes:
        _ACTIONS[point.action](point.seconds)


arm(os.environ.get(VARIABLE, ""))
