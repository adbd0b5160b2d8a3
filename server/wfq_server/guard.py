"""The outermost layer: checks before anything is read, bounds, counts, headers on the way out."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wfq_server.errors import ApiError, retry_later
from wfq_server.metrics import Metrics
from wfq_server.security import Doorkeeper

#: Requests that are worked on at once, long polls apart; what comes on top is sent away at once,
#: and may come again.
MAX_REQUESTS = 2_000
#: Where an endpoint leaves the name of its operation, for the counters.
OPERATION = "wfq.operation"

#: On every answer: nothing here is to be guessed at, framed, stored or run by a browser.
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)


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
                headers = message["headers"]
                given = {name for name, _ in headers}
                headers.extend(header for header in _HEADERS if header[0] not in given)
                if self._draining.is_set():
                    # The server stops: a connection that is kept open would be cut.
                    headers.append((b"connection", b"close"))
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
            headers = Headers(scope=scope)
            _check_framing(headers)
            self._doorkeeper.check(scope["method"], headers)
            if self._metrics.in_flight - self._metrics.waiting > MAX_REQUESTS:
                message = f"{MAX_REQUESTS} requests are being worked on; try again"
                raise retry_later(503, "ERR_TOO_MANY_REQUESTS", message)
        except ApiError as refusal:
            return refusal
        return None


def _check_framing(headers: Headers) -> None:
    """Refuse a body with two lengths, and what follows on its connection.

    A proxy in front may have believed the other one, and have passed on as a body what would be
    read here as a request of its own, which the proxy never checked. Raises: ApiError 400.
    """
    if "transfer-encoding" in headers and "content-length" in headers:
        message = "a body has Content-Length or Transfer-Encoding, not both"
        raise ApiError(400, "ERR_MALFORMED_REQUEST", message, {"Connection": "close"})
