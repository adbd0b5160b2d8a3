"""What a listener counts."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Tally:
    """Counts of one source."""

    #: Messages that came in.
    received: int = 0
    #: Events raised and workflows started.
    delivered: int = 0
    #: Messages, or rules' shares of them, that went to the dead letters.
    rejected: int = 0
    #: Times that a subscription ended against our will: what was published meanwhile is lost.
    cuts: int = 0
    #: Entries taken over from a listener that died.
    claimed: int = 0


class Counters:
    """Tallies by source, such as ``channel approvals``; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[str, Tally] = {}

    def add(self, source: str, what: str, number: int = 1) -> None:
        """Add to one count of a source."""
        with self._lock:
            tally = self._tallies.setdefault(source, Tally())
            setattr(tally, what, getattr(tally, what) + number)

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Return all counts, by source."""
        with self._lock:
            return {source: asdict(tally) for source, tally in self._tallies.items()}
