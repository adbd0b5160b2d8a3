"""What all pages share: who asks, templates, forms, answers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from wfq.settings import Settings
from wfq_server.bodies import read_body
from wfq_server.dashboard import timeline, wording
from wfq_server.dashboard.pulse import Pulse
from wfq_server.dashboard.source import Source
from wfq_server.errors import ApiError
from wfq_server.metrics import Metrics
from wfq_server.security import Role, Tokens, allows

HERE = Path(__file__).parent
COOKIE = "wfq_session"
READ_ONLY = "this server is read-only; another one, without --read-only, can do that"

#: Nothing but our own files runs or styles, and nobody frames a page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: Fields of one form: a bulk action names its instances one by one.
_FIELDS = 2_000
#: Bytes of a form beyond its payload.
_FORM = 512 * 1024


class Form:
    """A form that was sent."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = fields

    def text(self, name: str, default: str = "") -> str:
        """The first value of a field."""
        return self._fields.get(name, [default])[0]

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return list(self._fields.get(name, []))


class NeedsLogin(Exception):
    """Nobody is logged in, and tokens are asked for."""


class Desk:
    """Shared by the handlers of all pages."""

    def __init__(
        self,
        source: Source,
        tokens: Tokens,
        settings: Settings,
        metrics: Metrics,
        draining: asyncio.Event,
    ) -> None:
        self.source = source
        self.tokens = tokens
        self.settings = settings
        self.metrics = metrics
        self.draining = draining
        self.pulse = Pulse(source.client, draining)

    # --- who

    def role(self, request: Request) -> Role | None:
        """What the caller may do; None when nobody is logged in."""
        if not self.tokens:
            role: Role | None = "admin"
        else:
            role = self.tokens.role_of_session(request.cookies.get(COOKIE, ""))
        if role is not None and self.settings.api_read_only:
            return "read"
        return role

    def check(self, request: Request, needed: Role) -> None:
        """Raise NeedsLogin, or ApiError 403, unless the caller may do what needs `needed`."""
        role = self.role(request)
        if role is None:
            raise NeedsLogin
        if not allows(role, needed):
            if self.settings.api_read_only:
                raise ApiError(403, "ERR_READ_ONLY", READ_ONLY)
            message = f"your token has the role {role}; this needs {needed}"
            raise ApiError(403, "ERR_PERMISSION_DENIED", message)

    # --- what is sent

    async def form(self, request: Request) -> Form:
        """Return the fields of a form that a page of ours has sent. Raises: ApiError 403."""
        check_own_page(request)
        limit = int(self.settings.limits.payload_bytes) * 3 + _FORM
        body = await read_body(request, limit=limit)
        try:
            fields = parse_qs(
                body.decode(), keep_blank_values=True, max_num_fields=_FIELDS, errors="strict"
            )
        except ValueError as exc:
            raise ApiError(400, "ERR_MALFORMED_REQUEST", f"unusable form: {exc}") from exc
        return Form(fields)

    # --- what is answered

    @cached_property
    def templates(self) -> Environment:
        """The templates; every value in them is escaped."""
        environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            ago=wording.ago,
            iso=wording.iso,
            moment=wording.moment,
            ms=wording.epoch_ms,
            took_ms=wording.took_ms,
            clock=wording.clock,
        )
        environment.globals.update(
            plural=wording.plural,
            title_of=timeline.title_of,
            hover=timeline.hover,
            attempts_of=timeline.attempts_of,
        )
        return environment

    @cached_property
    def build(self) -> str:
        """Changes with the static files, so that browsers may keep them."""
        digest = hashlib.sha256()
        for path in sorted((HERE / "static").iterdir()):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]

    def page(
        self, request: Request, template: str, /, status: int = 200, **values: Any
    ) -> Response:
        """Return a page, or a part of one."""
        role = self.role(request)
        text = self.templates.get_template(template).render(
            base=base(request),
            build=self.build,
            path=request.url.path,
            namespace=self.settings.namespace,
            read_only=self.settings.api_read_only,
            needs_token=bool(self.tokens),
            may_operate=role is not None and allows(role, "operate"),
            may_admin=role is not None and allows(role, "admin"),
            role=role,
            **values,
        )
        headers = {
            "content-security-policy": POLICY,
            "x-frame-options": "DENY",
            # With "no-referrer" browsers would send forms with the origin "null".
            "referrer-policy": "same-origin",
        }
        return Response(text, status, headers, media_type="text/html")

    def to(self, request: Request, path: str, **query: str) -> Response:
        """Return a redirect to another page, after a form."""
        words = f"?{urlencode(query)}" if query else ""
        return RedirectResponse(f"{base(request)}{path}{words}", 303)


def base(request: Request) -> str:
    """The path of the dashboard as the browser knows it."""
    return f"{request.scope.get('root_path', '')}/ui"


def origin(request: Request) -> str:
    """Scheme, host and mount path of this server, for command lines that people copy."""
    host = request.headers.get("host", "localhost:3500")
    return f"{request.scope['scheme']}://{host}{request.scope.get('root_path', '')}"


def check_own_page(request: Request) -> None:
    """Raise ApiError 403 unless the browser says that a page of this server sends this.

    Stricter than the API's check: only browsers send forms, and each of today's says where from.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        ours = site == "same-origin"
    else:
        sent, host = request.headers.get("origin", ""), request.headers.get("host", "")
        ours = bool(host) and sent.partition("://")[2].lower() == host.lower()
    if not ours:
        message = "this form was not sent by a page of this server; open the page and try again"
        raise ApiError(403, "ERR_CROSS_SITE_REQUEST", message)
