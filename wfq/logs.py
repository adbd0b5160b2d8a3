"""Log records that say which instance they come from, and the two ways to write them down.

Whoever logs with a logger of their own, in an activity or a workflow, knows nothing of ids: these
are added to the record by the handler that writes it. A worker only says what it runs.
"""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Protocol

from wfq.activity_context import Facts


class Turns(Protocol):
    """What runs the turns of a thread."""

    def running(self) -> tuple[str, str | None] | None:
        """Id and workflow of the instance whose code runs; its workflow is not known at first."""

    @property
    def attempt(self) -> Facts | None:
        """The attempt of an activity that runs within the turn."""


#: The attempt that the current thread or task runs.
ACTIVITY: ContextVar[Facts | None] = ContextVar("wfq_activity", default=None)
#: What runs turns in the current thread, while it does.
TURNS: ContextVar[Turns | None] = ContextVar("wfq_turns", default=None)

#: What a record has by itself; all else was given with `extra=`, or by `InstanceIds`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_COLOURS = {
    logging.DEBUG: "\x1b[2m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[31;1m",
}


class InstanceIds(logging.Filter):
    """Gives a record the ids of what made it; lets every record pass.

    From an activity: `instance_id`, `activity`, `task_id` and `attempt`; from workflow code:
    `instance_id` and `workflow`. Other records stay as they are, and so does what a record says
    of itself. Processes of the `wfq` command have it. In a program with handlers of its own::

        handler.addFilter(wfq.logs.InstanceIds())
    """

    def filter(self, record: logging.LogRecord) -> bool:
        ids = _ids()
        given = record.__dict__
        # One that names another instance is about that.
        if ids and given.setdefault("instance_id", ids["instance_id"]) == ids["instance_id"]:
            for name, value in ids.items():
                given.setdefault(name, value)
        return True


def _ids() -> dict[str, object] | None:
    facts, turns = ACTIVITY.get(), TURNS.get()
    if facts is None and turns is not None:
        facts = turns.attempt
    if facts is not None:
        return {
            "instance_id": facts.instance_id,
            "activity": facts.name,
            "task_id": facts.task_id,
            "attempt": facts.number,
        }
    found = None if turns is None else turns.running()
    if found is None:
        return None
    ids: dict[str, object] = {"instance_id": found[0]}
    if found[1] is not None:
        ids["workflow"] = found[1]
    return ids


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, message, what was given with it."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _OWN},
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """``12:30:01.250 INFO  wfq.worker: message (instance_id=order-7)``."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created)
        given = " ".join(
            f"{name}={value}" for name, value in vars(record).items() if name not in _OWN
        )
        # Ids and messages come from strangers: nothing of theirs may break a line or steer.
        said = plain_text(record.getMessage() + (f" ({given})" if given else ""))
        clock = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
        line = f"{clock} {record.levelname:<7} {record.name}: {said}"
        if self._colours and record.levelno in _COLOURS:
            line = f"{_COLOURS[record.levelno]}{line}\x1b[0m"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def handler(form: str, *, colours: bool = False) -> logging.Handler:
    """Return what writes records to stderr; `form` is ``json`` or ``text``."""
    made = logging.StreamHandler()
    made.setFormatter(JsonLines() if form == "json" else TextLines(colours=colours))
    made.addFilter(InstanceIds())
    return made


def form_in_use() -> str:
    """Return the form that this process writes its log in, for processes that it starts."""
    written = (one.formatter for one in logging.getLogger().handlers)
    return "json" if any(isinstance(formatter, JsonLines) for formatter in written) else "text"


def plain_text(text: str) -> str:
    """Return `text` on one line and without characters that would steer the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
