"""The server's time between two readings of it."""

from __future__ import annotations

import time

#: A reading older than this is no clock: the machine may have slept since.
TRUSTED_S = 30.0


class ServerClock:
    """Redis's clock, carried on by this machine's monotonic one.

    Leases give readings about every second. Safe to share between threads: a reading is
    replaced as one tuple.
    """

    __slots__ = ("_reading",)

    def __init__(self) -> None:
        self._reading: tuple[int, float, float] | None = None

    def set(self, server_ms: int) -> None:
        """Take over a time that the server has just told."""
        self._reading = (server_ms, time.monotonic(), time.time())

    def now_ms(self) -> int | None:
        """The server's time in epoch ms, or None when the last reading cannot be trusted."""
        reading = self._reading
        if reading is None:
            return None
        server_ms, monotonic, wall = reading
        passed = time.monotonic() - monotonic
        # A suspended machine's monotonic clock stands still while its wall clock goes on.
        if passed > TRUSTED_S or abs((time.time() - wall) - passed) > 1.0:
            return None
        return server_ms + int(passed * 1000)
