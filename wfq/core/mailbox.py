"""External events of one instance: those that wait for a taker, and takers that wait."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from wfq.core.events import Event

if TYPE_CHECKING:
    from wfq.core.opentask import OpenTask


class Mailbox:
    """Matches events and waiters by name, case-insensitively, first in, first out."""

    __slots__ = ("_arrivals", "_events", "_waiters")

    def __init__(self) -> None:
        self._arrivals = 0
        self._events: dict[str, deque[tuple[int, Event]]] = {}
        self._waiters: dict[str, deque[OpenTask]] = {}

    def put(self, event: Event) -> OpenTask | None:
        """Return the waiter that gets `event`, or keep the event and return None."""
        key = event[3].casefold()
        waiters = self._waiters.get(key)
        if waiters:
            waiter = waiters.popleft()
            if not waiters:
                del self._waiters[key]
            return waiter
        self._arrivals += 1
        self._events.setdefault(key, deque()).append((self._arrivals, event))
        return None

    def take(self, name: str) -> Event | None:
        """Return the oldest event of that name that nobody has taken."""
        key = name.casefold()
        events = self._events.get(key)
        if not events:
            return None
        event = events.popleft()[1]
        if not events:
            del self._events[key]
        return event

    def wait(self, name: str, waiter: OpenTask) -> None:
        """Queue `waiter` for the next event of that name."""
        self._waiters.setdefault(name.casefold(), deque()).append(waiter)

    def leave(self, name: str, waiter: OpenTask) -> None:
        """Remove a waiter whose timeout has fired."""
        key = name.casefold()
        waiters = self._waiters.get(key)
        if waiters and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[key]

    def untaken(self) -> list[Event]:
        """Return the events that nobody has taken, oldest first."""
        kept = [item for events in self._events.values() for item in events]
        kept.sort(key=_arrival)
        return [event for _, event in kept]


def _arrival(item: tuple[int, Event]) -> int:
    return item[0]
