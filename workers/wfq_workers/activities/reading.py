"""Which streams to read next and how much of each: never more than there are free slots.

XREADGROUP's COUNT holds for each stream by itself, so the count that fills the slots depends
on how many streams have work, which only reading tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

#: Entries to take from one stream at a time while there is a backlog: sixteen outcomes in one
#: script call cost Redis half as much each as four do.
DEPTH = 16


@dataclass(frozen=True, slots=True)
class Reading:
    """One read: the numbers of the streams, the most entries of each, and whether to wait."""

    streams: Sequence[int]
    count: int
    wait: bool


class ReadPlan:
    """Plans the reads of one worker over `streams` streams.

    With slots enough, all streams are read at once; those that gave all they were asked for
    have a backlog, and are then read a few at a time and deeper, each once, before the next
    look at all. With fewer slots than streams, as many streams as slots are read, in turn.
    """

    def __init__(self, streams: int) -> None:
        self._all = range(streams)
        self._full: deque[int] = deque()
        self._first = 0
        self._empty = 0

    def next(self, free: int) -> Reading:
        """Return the next read for `free` slots, at least one.

        Only a read that waits for fewer slots than streams may bring more than the slots
        hold, when several streams get work at the same moment; the rest is handed back.
        """
        if self._full:
            take = min(len(self._full), max(1, free // DEPTH))
            return Reading([self._full.popleft() for _ in range(take)], free // take, wait=False)
        if free < len(self._all):
            return self._scan(free)
        return Reading(self._all, free // len(self._all), wait=True)

    def note(self, reading: Reading, found: dict[int, int]) -> None:
        """Learn from the entries `found` per stream by `reading`."""
        if len(reading.streams) == len(self._all):
            self._full.extend(n for n, entries in found.items() if entries >= reading.count)
        if found:
            self._empty = 0
        elif not reading.wait:
            self._empty += len(reading.streams)

    def lost(self) -> None:
        """The read under way brings nothing any more."""

    def _scan(self, free: int) -> Reading:
        """Look at as many streams as there are slots, one entry each, in turn."""
        size, first = len(self._all), self._first
        if self._empty >= size:
            return Reading(self._all, 1, wait=True)
        self._first = (first + free) % size
        return Reading([(first + n) % size for n in range(free)], 1, wait=False)
