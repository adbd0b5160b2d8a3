"""Answers about the server itself: health, counters, its own description."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wfq.errors import SchemaMismatch, WfqError
from wfq.storage.figures import Figures
from wfq_server.errors import retry_later
from wfq_server.metrics import Metrics
from wfq_server.ports import Client
from wfq_server.responses import json_response, no_content

Workers = dict[str, dict[str, Any]]

#: Seconds in which Redis has to answer for the server to count as ready.
READY_TIMEOUT_S = 2.0
#: Seconds for which the figures of the namespace are told again without asking Redis.
FRESH_S = 2.0


class Probes:
    """Answers of the server about itself."""

    def __init__(self, client: Client, metrics: Metrics, draining: asyncio.Event) -> None:
        self._client = client
        self._metrics = metrics
        self._draining = draining
        #: What Redis told last, and until when (monotonic seconds) it is told again.
        self._asked: tuple[Workers | None, Figures] = (None, Figures())
        self._fresh_until = 0.0
        self._asking = asyncio.Lock()
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
        """Answer the counters: our own also while Redis is away.

        Redis is asked at most every `FRESH_S`, however many ask us.
        """
        from wfq_server import exposition

        async with self._asking:
            if time.monotonic() >= self._fresh_until:
                self._asked = await self._ask()
                self._fresh_until = time.monotonic() + FRESH_S
            workers, figures = self._asked
        body = exposition.answer(self._metrics, workers, figures)
        return Response(body, headers={"content-type": exposition.CONTENT_TYPE})

    async def _ask(self) -> tuple[Workers | None, Figures]:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                return await self._client.workers(), await self._client.figures()
        except (TimeoutError, WfqError):
            return None, Figures()

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
        except SchemaMismatch as exc:
            raise retry_later(503, "ERR_HEALTH_NOT_READY", f"not ready: {exc}") from exc
        except (TimeoutError, WfqError) as exc:
            message = "not ready: the storage cannot be reached"
            raise retry_later(503, "ERR_HEALTH_NOT_READY", message) from exc
