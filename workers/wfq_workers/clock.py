"""The server's time between two readings of it."""

from __future__ import annotations

import time

#: A reading older than this is no clock: the machine may have slept since.
TRUSTED_S = 30.0
#: Seconds for which a reading stands against later ones that lag behind it.
BEST_FOR_S = 5.0
#: A later reading that lags by more is not late: the server's clock was set back.
MOST_LAG_MS = 1000


class ServerClock:
    """Redis's clock, carried on by this machine's monotonic one.

    Leases give readings about every second. Safe to share between threads: a reading is
    replaced as one tuple.
    """

    __slots__ = ("_reading",)

    def __init__(self) -> None:
        self._reading: tuple[int, float, float] | None = None

    def set(self, server_ms: int) -> None:
        """Take over a time that the server has just told.

        One that was looked at late (a busy machine) tells a time that is past: timers set by it
        would fire early. So a reading that is ahead of it stands for a while.
        """
        monotonic = time.monotonic()
        reading = self._reading
        if reading is not None and monotonic - reading[1] < BEST_FOR_S:
            lag_ms = reading[0] + (monotonic - reading[1]) * 1000 - server_ms
            if 0 < lag_ms < MOST_LAG_MS:
                return
        self._reading = (server_ms, monotonic, time.time())

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
