"""uvicorn's HTTP protocol with a time limit for request heads, and a quieter log.

uvicorn bounds the size of a head, and how long an idle connection is kept, but a client may send
its head a byte a minute and hold the connection for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds from the first byte of a request head, or from the connection, to the head's end.
HEAD_TIMEOUT_S = 15.0


class HeadTimeout(asyncio.Protocol):
    """Closes a connection whose next request head does not come to an end in time.

    A mixin in front of one of uvicorn's protocols.
    """

    _head_timer: asyncio.TimerHandle | None = None
    # What uvicorn's protocols have.
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    cycle: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()  # a request is being answered: its head has come
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _stop_watching(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Protocol(HeadTimeout, H11Protocol):
    """HTTP/1.1 by h11, with the time limit."""

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: what strangers ask for is no matter of the log; the answer is HTTP's."""
