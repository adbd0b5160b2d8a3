"""What the API counts of its own requests."""

from __future__ import annotations

from collections import Counter

#: Upper bounds of the duration buckets, in seconds.
BUCKETS_S = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)


class Metrics:
    """Requests by operation and status, their durations, and how many are under way.

    Used by one event loop. Labels are operation names and numbers, never what a caller chose.
    """

    def __init__(self) -> None:
        #: Requests that have no answer yet; `waiting` are those among them that wait on purpose.
        self.in_flight = 0
        self.waiting = 0
        #: Answers by operation and status; their seconds; those within each bound but no lower.
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: Counter[str] = Counter()
        self.buckets: Counter[tuple[str, float]] = Counter()

    def observe(self, operation: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self.requests[operation, status] += 1
        self.seconds[operation] += seconds  # type: ignore[assignment]  # Counter takes floats
        for bound in BUCKETS_S:
            if seconds <= bound:
                self.buckets[operation, bound] += 1
                break
