"""Answers about the server itself: health, counters, its own description."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wfq.errors import WfqError
from wfq_server.errors import retry_later
from wfq_server.metrics import CONTENT_TYPE, Metrics, render_workers
from wfq_server.ports import Client
from wfq_server.responses import json_response, no_content

#: Seconds in which Redis has to answer for the server to count as ready.
READY_TIMEOUT_S = 2.0


class Probes:
    """Answers of the server about itself."""

    def __init__(self, client: Client, metrics: Metrics, draining: asyncio.Event) -> None:
        self._client = client
        self._metrics = metrics
        self._draining = draining
        #: The OpenAPI document; set once the operations are known.
        self.document: dict[str, Any] = {}

    async def live(self, request: Request) -> Response:
        """Answer that the event loop runs."""
        return json_response({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Answer whether requests can be served."""
        await self._check()
        return json_response({"status": "ok"})

    async def healthz(self, request: Request) -> Response:
        """Answer as Dapr does."""
        await self._check()
        return no_content(204)

    async def metrics(self, request: Request) -> Response:
        """Answer the counters: our own also while Redis is away."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                workers = await self._client.workers()
        except (TimeoutError, WfqError):
            text = render_workers(None)
        else:
            text = render_workers(workers)
        return Response(self._metrics.render() + text, media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        """Answer the description of the API."""
        return json_response(self.document)

    async def _check(self) -> None:
        """Raise ApiError 503 unless the server is ready."""
        if self._draining.is_set():
            raise retry_later(503, "ERR_HEALTH_NOT_READY", "the server is stopping")
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._client.check()
        except (TimeoutError, WfqError) as exc:
            message = "not ready: the storage cannot be reached"
            raise retry_later(503, "ERR_HEALTH_NOT_READY", message) from exc
