"""Logs of the processes that `wfq` runs: text for people, a JSON object a line for machines."""

from __future__ import annotations

import logging
import sys

from wfq.logs import handler
from wfq.settings import Settings
from wfq_cli import exits


def set_up(settings: Settings) -> None:
    """Send the logs of this process to stderr, as the settings want them."""
    terminal = sys.stderr.isatty()
    form = settings.log_format
    if form == "auto":
        form = "text" if terminal else "json"
    made = handler(form, colours=terminal and exits.coloured())
    logging.basicConfig(handlers=[made], level=settings.log_level.upper(), force=True)
