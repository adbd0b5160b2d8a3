"""Logging in with a token of the API: the browser keeps a value made from it, not the token."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from wfq_server.dashboard.desk import COOKIE, Desk, base


class Entrance:
    """The login page."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def page(self, request: Request) -> Response:
        """Ask for a token."""
        if self._desk.role(request) is not None:
            return self._desk.to(request, "/")
        return self._desk.page(request, "login.html", wrong=False)

    async def enter(self, request: Request) -> Response:
        """Take a token, and go to the pages when it is one of ours."""
        form = await self._desk.form(request)
        session = self._desk.tokens.session_of(form.text("token").strip())
        if session is None:
            return self._desk.page(request, "login.html", status=401, wrong=True)
        answer = self._desk.to(request, "/")
        answer.set_cookie(
            COOKIE,
            session,
            path=base(request),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def leave(self, request: Request) -> Response:
        """Forget who was logged in."""
        await self._desk.form(request)
        answer = self._desk.to(request, "/login")
        answer.delete_cookie(COOKIE, path=base(request))
        return answer
