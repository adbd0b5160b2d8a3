"""Waiting between attempts to reach Redis, and saying so once per step."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from wfq.core.events import Failure
from wfq.logs import plain_text

#: Seconds before the second attempt.
FIRST_S = 0.05
#: Seconds that no wait exceeds: work goes on soon after Redis is back.
LONGEST_S = 5.0
#: Characters of a failure's message that a log line shows.
_SHOWN = 300


class Backoff:
    """The waits of one loop: doubling, jittered, at most `longest_s`; `clear` after a success.

    Every wait writes one log line, so a long outage writes one line every few seconds and loop.
    """

    def __init__(
        self,
        log: logging.Logger,
        what: str,
        *,
        longest_s: float = LONGEST_S,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._log = log
        self._what = what
        self._longest_s = longest_s
        self._jitter = jitter
        self._failures = 0
        #: Failures since the loop began, for its metrics.
        self.total = 0

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    def next_delay_s(self) -> float:
        """Count a failure and return how long to wait, jittered down to a half."""
        longest: float = min(self._longest_s, FIRST_S * 2.0 ** min(self._failures, 20))
        self._failures += 1
        return longest * (0.5 + 0.5 * self._jitter())

    def wait(self, error: BaseException, stop: threading.Event) -> bool:
        """Log `error`, wait, and return whether `stop` was set meanwhile."""
        return stop.wait(self.note(error))

    def note(self, error: BaseException) -> float:
        """Log `error` and return the seconds to wait."""
        self.total += 1
        delay_s = self.next_delay_s()
        self._log.warning("%s: %s; next attempt in %.2g s", self._what, one_line(error), delay_s)
        return delay_s

    def clear(self) -> None:
        """Note a success; logs that things work again if they had not."""
        if self._failures > 1:
            self._log.info("%s: works again after %d attempts", self._what, self._failures)
        self._failures = 0


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return what happened in one line, fit for a log whatever the error says of itself."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "its message cannot be shown"
    shown = text if len(text) <= limit else text[: limit - 3] + "..."
    return plain_text(f"{type(error).__name__}: {shown}" if shown else type(error).__name__)


def told(failure: Failure) -> str:
    """Return a failure's type and message in one bounded line that cannot forge others."""
    kind = plain_text(failure["type"])
    message = " ".join(str(failure["message"])[: 2 * _SHOWN].split())
    if not message:
        return kind
    return f"{kind}: {plain_text(message if len(message) <= _SHOWN else message[:_SHOWN] + '...')}"
