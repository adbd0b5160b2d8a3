"""Responses of the API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response

#: Seconds after which a caller may ask again.
RETRY_AFTER_S = 1

#: What a proxy may say of the address that its callers use; anything else is ignored.
_FORWARDED = {
    "x-forwarded-proto": re.compile(r"https?\Z"),
    "x-forwarded-host": re.compile(
        r"[A-Za-z0-9.\-]+(:[0-9]{1,5})?\Z|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?\Z"
    ),
    "x-forwarded-prefix": re.compile(r"(/[A-Za-z0-9._~\-]+)+\Z"),
}


def json_response(
    document: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a compact JSON response."""
    return Response(orjson.dumps(document), status, headers, "application/json")


def no_content(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response without a body."""
    return Response(status_code=status, headers=headers)


def accepted(request: Request, instance_id: str) -> Response:
    """Return 202 with the id, and where and when to ask for the status."""
    document = {"instanceID": str(instance_id)}
    return json_response(document, 202, follow_up(request, instance_id))


def follow_up(request: Request, instance_id: str) -> dict[str, str]:
    """Return Location and Retry-After: the asynchronous request-reply pattern.

    The address is the one that the caller used, also where the API is mounted in another
    application or stands behind a proxy that says so. It goes to nobody but that caller.
    """
    scope = request.scope
    # The path as the caller knows it, without what comes after the component.
    base = scope["path"].partition("/workflows/")[0]
    component = request.path_params["component"]
    path = quote(f"{base}/workflows/{component}/{instance_id}", safe="/@:~")
    scheme = _forwarded(request, "x-forwarded-proto") or scope["scheme"]
    host = _forwarded(request, "x-forwarded-host") or request.headers.get("host", "")
    prefix = _forwarded(request, "x-forwarded-prefix")
    location = f"{scheme}://{host}{prefix}{path}" if host else f"{prefix}{path}"
    return {"Location": location, "Retry-After": str(RETRY_AFTER_S)}


def _forwarded(request: Request, header: str) -> str:
    said = request.headers.get(header)
    if said is None:
        return ""
    # The first of several proxies is the one that the caller spoke to.
    value = said.partition(",")[0].strip()
    return value if _FORWARDED[header].match(value) else ""
