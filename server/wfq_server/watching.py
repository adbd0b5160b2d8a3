"""Requests that wait: long polls and server-sent events.

Each ends when its instance does, when its time is over, when its client has gone, and when the
server stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import orjson
from starlette.requests import Request

from wfq.errors import WaitTimeout, WfqError
from wfq_server.documents import is_ended, rfc3339, status_document
from wfq_server.errors import as_api_error, retry_later
from wfq_server.metrics import Metrics
from wfq_server.ports import Client, State

T = TypeVar("T")

#: Seconds between comments on a quiet event stream, so that proxies keep it open.
HEARTBEAT_S = 15.0
#: Requests that may wait at once; each is a connection, and little else.
MAX_WAITS = 10_000


class Gone(Exception):
    """The client has closed the connection: there is nobody to answer."""


class Watch:
    """Waits of one server: how many there are, and that they end with it."""

    def __init__(self, client: Client, metrics: Metrics, draining: asyncio.Event) -> None:
        self._client = client
        self._metrics = metrics
        self._draining = draining

    def check(self) -> None:
        """Raise ApiError 503 when there are too many waits already."""
        if self._metrics.waiting >= MAX_WAITS:
            message = f"{MAX_WAITS} callers are waiting already; ask for the status instead"
            raise retry_later(503, "ERR_TOO_MANY_REQUESTS", message)

    async def until_ended(
        self, request: Request, instance_id: str, timeout_s: float
    ) -> State | None:
        """Return the state of an instance once it has ended, None when it has not within the time
        or the server stops.

        Raises: Gone when the client disconnects; InstanceNotFound, StorageError.
        """
        work = self._client.wait_for_workflow_completion(instance_id, timeout_in_seconds=timeout_s)
        doing = asyncio.create_task(work)
        gone = asyncio.create_task(_disconnect(request))
        self._metrics.waiting += 1
        try:
            if await _first_to_end(doing, gone, asyncio.create_task(self._draining.wait())):
                return doing.result()
        except WaitTimeout:
            return None
        finally:
            self._metrics.waiting -= 1
        if gone.done() and not gone.cancelled():
            raise Gone
        return None

    async def events(self, state: State) -> AsyncIterator[bytes]:
        """Yield server-sent events: the status document now, and after each change, to the end."""
        self._metrics.waiting += 1
        try:
            yield _event(state)
            while not is_ended(state) and not self._draining.is_set():
                change = self._client.wait_for_workflow_change(
                    state, timeout_in_seconds=HEARTBEAT_S
                )
                try:
                    state = await self._unless_draining(change) or state
                except WaitTimeout:
                    yield b": still here\n\n"
                except WfqError as exc:
                    # Purged, or Redis is away: the client learns what to do by connecting again.
                    error = as_api_error(exc, "ERR_GET_WORKFLOW").document()
                    yield b"event: error\ndata: %b\n\n" % orjson.dumps(error)
                    return
                else:
                    yield _event(state)
        finally:
            self._metrics.waiting -= 1

    async def _unless_draining(self, work: Coroutine[Any, Any, T]) -> T | None:
        doing = asyncio.create_task(work)
        ended = await _first_to_end(doing, asyncio.create_task(self._draining.wait()))
        return doing.result() if ended else None


async def _first_to_end(doing: asyncio.Task[Any], *others: asyncio.Task[Any]) -> bool:
    """Wait until one ends, cancel the rest, and return whether it was `doing`."""
    tasks = (doing, *others)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return doing.done()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def event_id(state: State) -> str:
    """What a client that reconnects has seen last."""
    return rfc3339(state.last_updated_at)


def _event(state: State) -> bytes:
    document = orjson.dumps(status_document(state))
    return b"id: %b\nevent: status\ndata: %b\n\n" % (event_id(state).encode(), document)
