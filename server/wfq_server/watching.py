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
from wfq_server.errors import one_line
from wfq_server.ports import Client, State

T = TypeVar("T")

#: Seconds between comments on a quiet event stream, so that proxies keep it open.
HEARTBEAT_S = 15.0


class Gone(Exception):
    """The client has closed the connection: there is nobody to answer."""


async def until_gone_or(
    request: Request, draining: asyncio.Event, work: Coroutine[Any, Any, T]
) -> T | None:
    """Return what `work` returns, or None when the server stops first.

    Raises: Gone when the client disconnects; whatever `work` raises.
    """
    doing = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnect(request))
    if await _first_to_end(doing, gone, asyncio.create_task(draining.wait())):
        return doing.result()
    if gone.done() and not gone.cancelled():
        raise Gone
    return None


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


async def event_stream(
    client: Client, state: State, draining: asyncio.Event
) -> AsyncIterator[bytes]:
    """Yield server-sent events: the status document now, and after each change, until the end."""
    yield _event(state)
    while not is_ended(state) and not draining.is_set():
        change = client.wait_for_workflow_change(state, timeout_in_seconds=HEARTBEAT_S)
        try:
            state = await _unless_draining(change, draining) or state
        except WaitTimeout:
            yield b": still here\n\n"
        except WfqError as exc:
            # Purged, or Redis is away: the client learns what to do by connecting again.
            yield b"event: error\ndata: %b\n\n" % orjson.dumps({"message": one_line(str(exc))})
            return
        else:
            yield _event(state)


async def _unless_draining(work: Coroutine[Any, Any, T], draining: asyncio.Event) -> T | None:
    doing = asyncio.create_task(work)
    ended = await _first_to_end(doing, asyncio.create_task(draining.wait()))
    return doing.result() if ended else None


def event_id(state: State) -> str:
    """What a client that reconnects has seen last."""
    return rfc3339(state.last_updated_at)


def _event(state: State) -> bytes:
    document = orjson.dumps(status_document(state))
    return b"id: %b\nevent: status\ndata: %b\n\n" % (event_id(state).encode(), document)
