"""The outermost layer: checks before anything is read, bounds, counts, headers on the way out."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wfq_server.errors import ApiError, retry_later
from wfq_server.metrics import Metrics
from wfq_server.security import Doorkeeper

#: Requests that are worked on at once; what comes on top is sent away at once, and may come again.
MAX_REQUESTS = 2_000
#: Where an endpoint leaves the name of its operation, for the counters.
OPERATION = "wfq.operation"

#: On every answer: nothing here is to be guessed at, framed, stored or run by a browser.
_HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


class Guard:
    """An ASGI layer around the routes."""

    def __init__(
        self, app: ASGIApp, doorkeeper: Doorkeeper, metrics: Metrics, draining: asyncio.Event
    ) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._metrics = metrics
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self._draining.is_set():
                    # The server stops: a connection that is kept open would be cut.
                    headers["connection"] = "close"
            await send(message)

        self._metrics.in_flight += 1
        try:
            refusal = self._refusal(scope)
            app = self._app if refusal is None else refusal.response()
            await app(scope, receive, send_with_headers)
        finally:
            self._metrics.in_flight -= 1
            # Unknown paths are one operation: what strangers type must not become labels.
            operation = scope.get(OPERATION, "none")
            self._metrics.observe(operation, status, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> ApiError | None:
        try:
            self._doorkeeper.check(scope["method"], Headers(scope=scope))
            if self._metrics.in_flight > MAX_REQUESTS:
                message = f"{MAX_REQUESTS} requests are being worked on; try again"
                raise retry_later(503, "ERR_TOO_MANY_REQUESTS", message)
        except ApiError as refusal:
            return refusal
        return None
