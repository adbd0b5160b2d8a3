"""What the loops of a worker count: plain numbers, each written by one thread.

Counting must cost the hot loops next to nothing, so there are no locks and no library here;
`wfq_workers.metrics.collector` translates the numbers when somebody asks for them.
"""

from __future__ import annotations

from collections import defaultdict

#: Bits of a number of microseconds whose powers of two are shown as bounds: 256 us to 71 min,
#: a factor of four from one to the next.
SHOWN_BITS = range(8, 34, 2)
#: Seconds of the lowest bound: what is below it, nearly everything, only needs counting.
SHORT_S = 2**8 / 1e6


class Durations:
    """How long something took, in buckets that double in width.

    Hot loops count what takes less than `SHORT_S` by themselves, in `short` and `total_s`.
    """

    __slots__ = ("buckets", "short", "total_s")

    def __init__(self) -> None:
        self.short = 0
        #: Longer durations by the number of bits of their microseconds.
        self.buckets = [0] * 65
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration; what a clock that stepped made negative counts as none."""
        if seconds < SHORT_S:
            self.short += 1
            if seconds < 0:
                return
        else:
            self.buckets[int(seconds * 1e6).bit_length()] += 1
        self.total_s += seconds

    @property
    def number(self) -> int:
        """How many durations were counted."""
        return self.short + sum(self.buckets)

    def shown(self) -> list[tuple[str, float]]:
        """Return cumulative counts by upper bound in seconds, as a histogram shows them."""
        shown = [
            (repr(2**bits / 1e6), float(self.short + sum(self.buckets[: bits + 1])))
            for bits in SHOWN_BITS
        ]
        return [*shown, ("+Inf", float(self.number))]


class TurnCounts:
    """Counted by the thread that runs turns, but for `lost`, which the renewing thread counts."""

    __slots__ = (
        "commits",
        "ended",
        "events",
        "hits",
        "lost",
        "misses",
        "refused",
        "started",
        "turns",
    )

    def __init__(self) -> None:
        #: First turns by workflow; times from start to end by workflow and status.
        self.started: defaultdict[str, int] = defaultdict(int)
        self.ended: defaultdict[tuple[str, str], Durations] = defaultdict(Durations)
        self.turns = Durations()
        self.commits = 0
        self.events = 0
        #: Instances of a batch that were in memory, and those that had to be fetched.
        self.hits = 0
        self.misses = 0
        #: Commits that the store refused, and leases that another took.
        self.refused = 0
        self.lost = 0


class ActivityTally:
    """Counts of one activity: run times of its attempts, and what became of them by word."""

    __slots__ = ("completed", "failed", "lost", "retried", "times")

    def __init__(self) -> None:
        self.times = Durations()
        self.completed = 0
        self.failed = 0
        self.retried = 0
        self.lost = 0

    def add(self, result: str, took_s: float) -> None:
        """Count an attempt whose function has run."""
        if result == "completed":
            self.completed += 1
        elif result == "retried":
            self.retried += 1
        else:
            self.failed += 1
        times = self.times
        if took_s < SHORT_S:
            times.short += 1
            times.total_s += took_s
        else:
            times.add(took_s)


class ActivityCounts:
    """Counted by the thread that reads attempts and reports their outcomes."""

    __slots__ = ("claimed", "tallies", "unknown", "waits")

    def __init__(self) -> None:
        self.tallies: defaultdict[str, ActivityTally] = defaultdict(ActivityTally)
        #: From the turn that scheduled a task to the worker that took it.
        self.waits = Durations()
        #: Attempts taken over from silent workers, and those whose name is not known here.
        self.claimed = 0
        self.unknown = 0


class TimerCounts:
    """Counted by the thread of the scheduler."""

    __slots__ = ("fired", "lateness")

    def __init__(self) -> None:
        self.fired = 0
        #: Of the oldest timer of each step that fired some.
        self.lateness = Durations()
