"""How long activities take: those known to be short may share a stream entry."""

from __future__ import annotations

from collections.abc import Mapping

#: Seconds on average up to which an activity is short; above `LONG_S` one that was is not any more.
SHORT_S = 0.001
LONG_S = 0.002
#: The same up to which one is over at once: handing it to another thread takes longer.
TRIVIAL_S = 0.0001
#: Calls before anything is known.
KNOWN_AFTER = 32
#: Weight of the last call in the average: one slow call among many short ones tells at once,
#: and a few dozen short ones are needed to make up for it.
WEIGHT = 1 / 16
#: Seconds between two announcements of what has not changed.
AGAIN_S = 10.0


class Pace:
    """The calls of one activity in this worker, which its threads note without a lock: a lost
    note does not matter."""

    __slots__ = ("_average_s", "_told_at", "_told_short", "calls", "told_calls")

    def __init__(self) -> None:
        self.calls = 0
        #: Calls that were known when it was last told of.
        self.told_calls = 0
        self._average_s = 0.0
        self._told_short = False
        self._told_at = float("-inf")

    def note(self, seconds: float) -> None:
        """A call took this long."""
        self.calls += 1
        self._average_s += (seconds - self._average_s) * WEIGHT

    @property
    def is_short(self) -> bool:
        """Whether it is known to be short."""
        limit_s = LONG_S if self._told_short else SHORT_S
        return self.calls >= KNOWN_AFTER and self._average_s <= limit_s

    @property
    def is_trivial(self) -> bool:
        """Whether it is known to be over at once."""
        return self._average_s <= TRIVIAL_S and self.calls >= KNOWN_AFTER

    def news(self, now: float) -> bool | None:
        """Whether it is short, if that is to be told now (monotonic); None if not."""
        if self.calls == self.told_calls:
            return None
        short = self.is_short
        if not short and self.calls < KNOWN_AFTER and self._average_s <= LONG_S:
            return None
        if short == self._told_short and now < self._told_at + AGAIN_S:
            return None
        self._told_short, self._told_at, self.told_calls = short, now, self.calls
        return short


def news(paces: Mapping[str, Pace], now: float) -> tuple[list[str], list[str]]:
    """The names of activities to announce as short, and those to take back."""
    short: list[str] = []
    long: list[str] = []
    for name, pace in list(paces.items()):
        told = pace.news(now)
        if told is not None:
            (short if told else long).append(name)
    return short, long
