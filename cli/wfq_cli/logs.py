"""Logs of the processes that `wfq` runs: text for people, a JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from wfq.settings import Settings
from wfq_cli import exits, render

#: What a record has by itself; all else was given with `extra=`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_COLOURS = {
    logging.DEBUG: "\x1b[2m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[31;1m",
}


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
        said = render.plain_text(record.getMessage() + (f" ({given})" if given else ""))
        clock = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
        line = f"{clock} {record.levelname:<7} {record.name}: {said}"
        if self._colours and record.levelno in _COLOURS:
            line = f"{_COLOURS[record.levelno]}{line}\x1b[0m"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def set_up(settings: Settings) -> None:
    """Send the logs of this process to stderr, as the settings want them."""
    terminal = sys.stderr.isatty()
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json" or (settings.log_format == "auto" and not terminal):
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(TextLines(colours=terminal and exits.coloured()))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
