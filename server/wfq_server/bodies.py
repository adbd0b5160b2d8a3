"""Request bodies: read within bounds of size and time, then as JSON."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request

from wfq.errors import PayloadError
from wfq.jsontext import parse_json
from wfq_server.errors import ApiError

#: Seconds in which a whole body has to arrive, however slowly its sender drips.
BODY_TIMEOUT_S = 30.0

#: What ``curl -d`` says of any body. A page of another site can send it as well, without asking:
#: what keeps such pages out is the check of Origin and Sec-Fetch-Site, in `security`.
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Given:
    """The value of a body; None in its place means that there was none."""

    value: Any


async def read_json(request: Request, *, limit: int) -> Given | None:
    """Return the JSON value of the request's body, None where it is empty.

    Raises: ApiError 400, 408, 413, 415.
    """
    _check_encoding(request)
    body = await read_body(request, limit=limit)
    if not body:
        return None
    _check_type(request)
    try:
        return Given(parse_json(body))
    except PayloadError as exc:
        raise ApiError(400, "ERR_MALFORMED_REQUEST_DATA", f"unusable body: {exc}") from exc


async def read_body(request: Request, *, limit: int) -> bytes:
    """Return the body, of at most `limit` bytes. Raises: ApiError 400, 408, 413."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    parts = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                parts += chunk
                if len(parts) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        message = f"the body did not arrive within {BODY_TIMEOUT_S:g} s"
        raise ApiError(408, "ERR_BODY_READ", message) from None
    except ClientDisconnect:
        raise ApiError(400, "ERR_BODY_READ", "the connection ended within the body") from None
    return bytes(parts)


def _too_large(limit: int) -> ApiError:
    # What is still to come is thrown away by uvicorn, for as long as `protocol` lets it: a client
    # that sends all before it reads gets this answer, not a connection reset.
    message = f"the body is over the limit of {limit} bytes"
    return ApiError(413, "ERR_PAYLOAD_TOO_LARGE", message)


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        message = "a compressed body is not taken; send it without Content-Encoding"
        raise ApiError(415, "ERR_UNSUPPORTED_MEDIA_TYPE", message, {"Accept-Encoding": "identity"})


def _check_type(request: Request) -> None:
    declared = request.headers.get("content-type", "")
    kind, _, parameters = declared.partition(";")
    kind = kind.strip().lower()
    known = kind in ("", _FORM, "application/json")
    structured = kind.startswith("application/") and kind.endswith("+json")
    if not (known or structured) or _charset(parameters) not in ("", "utf-8", "utf8"):
        message = f"content type {declared[:100]!r} is not JSON in UTF-8; send application/json"
        raise ApiError(415, "ERR_UNSUPPORTED_MEDIA_TYPE", message)


def _charset(parameters: str) -> str:
    for parameter in parameters.lower().split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset":
            return value.strip().strip('"')
    return ""
