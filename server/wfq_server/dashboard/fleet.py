"""Workers, queues and dead letters."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from wfq.errors import WfqError
from wfq_server.dashboard.desk import Desk
from wfq_server.errors import ApiError

#: Dead letters of a page.
_LETTERS = 200
#: Bytes of a message that a page shows.
_MESSAGE = 2000


class Fleet:
    """Who is at work, what waits for them, and what could not be delivered."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def workers(self, request: Request) -> Response:
        """Live workers."""
        source = self._desk.source
        return self._desk.page(
            request, "workers.html", workers=await source.workers(), now_ms=await source.now_ms()
        )

    async def queues(self, request: Request) -> Response:
        """Queues and what waits in them."""
        return self._desk.page(request, "queues.html", queues=await self._desk.source.queues())

    async def letters(self, request: Request) -> Response:
        """Dead letters, newest first."""
        return await self._letters(request, "")

    async def _letters(self, request: Request, told: str) -> Response:
        letters = list(await self._desk.source.letters())
        rows = [
            {
                "address": letter.address,
                "at": letter.at,
                "kind": letter.text("kind"),
                "source": letter.text("source") or letter.text("queue"),
                "instance_id": letter.text("id"),
                "reason": letter.text("reason"),
                "message": letter.text("message")[:_MESSAGE],
            }
            for letter in reversed(letters[-_LETTERS:])
        ]
        return self._desk.page(request, "dead.html", rows=rows, total=len(letters), told=told)

    async def act(self, request: Request) -> Response:
        """Send a dead letter again, or drop it."""
        form = await self._desk.form(request)
        address, verb = form.text("letter"), form.text("verb")
        source = self._desk.source
        try:
            if verb == "retry":
                await source.retry_letter(address)
                told = f"{address} was sent again"
            elif verb == "drop":
                await source.drop_letter(address)
                told = f"{address} was dropped"
            else:
                raise ApiError(400, "ERR_MALFORMED_REQUEST", "choose what to do")
        except WfqError as exc:
            told = f"{address}: {exc}"
        return await self._letters(request, told)
