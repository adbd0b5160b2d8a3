"""The stream that tells pages when to look again: one for all pages of a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from wfq.storage.keys import check_instance_id
from wfq_server import parameters
from wfq_server.dashboard.desk import Desk
from wfq_server.dashboard.pulse import ANY
from wfq_server.errors import ApiError
from wfq_server.watching import MAX_WAITS

#: Topics of one stream; `live.js` asks for any change where it has more.
MOST_TOPICS = 50


class Live:
    """Server-sent events: something has changed."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def follow(self, request: Request) -> Response:
        """A stream of ``changed`` events; ``of`` names an instance, none or an empty one all."""
        given = list(dict.fromkeys(request.query_params.getlist("of"))) or [ANY]
        if len(given) > MOST_TOPICS:
            message = f"a stream follows {MOST_TOPICS} instances at most"
            raise ApiError(400, "ERR_MALFORMED_REQUEST", message)
        topics = [
            ANY if one == ANY else parameters.checked_id(one, check_instance_id) for one in given
        ]
        if self._desk.metrics.waiting >= MAX_WAITS:
            raise ApiError(503, "ERR_TOO_MANY_REQUESTS", "too many pages are open already")
        return StreamingResponse(self._counted(topics), media_type="text/event-stream")

    async def _counted(self, topics: list[str]) -> AsyncIterator[bytes]:
        metrics = self._desk.metrics
        metrics.waiting += 1
        try:
            async for event in self._desk.pulse.events(topics):
                yield event
        finally:
            metrics.waiting -= 1
