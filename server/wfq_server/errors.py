"""Errors over HTTP: ``{"errorCode": "ERR_...", "message": "one line"}`` and the status.

Codes are Dapr's where it has one, so that programs written for Dapr branch on the same names.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from wfq.errors import (
    InboxFull,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    InstanceRunning,
    InvalidIdentifier,
    PayloadError,
    PayloadTooLarge,
    StorageError,
    StorageFull,
    StorageUnavailable,
    WfqError,
)
from wfq_server.responses import RETRY_AFTER_S, json_response

log = logging.getLogger("wfq.server")

#: Characters of a message; what is longer is cut.
_MESSAGE = 1000


class ApiError(Exception):
    """An answer that ends the request: status, Dapr's or our own code, one line, headers."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def document(self) -> dict[str, str]:
        """The error as JSON."""
        return {"errorCode": self.code, "message": one_line(self.message)}

    def response(self) -> Response:
        """The error as it goes out."""
        return json_response(self.document(), self.status, self.headers)


def one_line(text: str) -> str:
    """Return `text` as one line of bounded length without control characters."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= _MESSAGE else f"{line[: _MESSAGE - 3]}..."


def retry_later(status: int, code: str, message: str) -> ApiError:
    """An answer that says when to try again."""
    return ApiError(status, code, message, {"Retry-After": str(RETRY_AFTER_S)})


#: Errors of the library by their status, most special first; None as the code takes that of
#: the operation (Dapr's ERR_START_WORKFLOW, ERR_RAISE_EVENT_WORKFLOW, ...).
_BY_TYPE: tuple[tuple[type[Exception], int, str | None], ...] = (
    (InstanceNotFound, 404, "ERR_INSTANCE_ID_NOT_FOUND"),
    (InstanceAlreadyExists, 409, None),
    (InstanceFinished, 409, None),
    (InstanceRunning, 409, None),
    (InboxFull, 429, None),
    (PayloadTooLarge, 413, "ERR_PAYLOAD_TOO_LARGE"),
    (PayloadError, 400, "ERR_MALFORMED_REQUEST_DATA"),
    (InvalidIdentifier, 400, "ERR_MALFORMED_REQUEST"),
    (WfqError, 400, None),
)

#: Errors of the storage. Where it is and what it says goes to the log, not to callers.
_STORAGE: tuple[tuple[type[Exception], str, str], ...] = (
    (StorageFull, "ERR_STORAGE_FULL", "the storage is full and takes nothing new; try again later"),
    (StorageUnavailable, "ERR_STORAGE_UNAVAILABLE", "the storage cannot be reached; try again"),
    (StorageError, "ERR_STORAGE", "the storage refused a command; the server's log says more"),
)

#: Seconds between log lines on the storage: an outage is one line now and then, not one a request.
_STORAGE_LOG_S = 5.0
_storage_logged_at = float("-inf")


def as_api_error(error: Exception, code: str) -> ApiError:
    """Return the answer for what an operation raised; `code` is the operation's own.

    Anything that is no wfq error is a bug: it is logged here, and the caller learns nothing.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, StorageError):
        return _storage_error(error)
    for kind, status, own in _BY_TYPE:
        if isinstance(error, kind):
            make = retry_later if status == 429 else ApiError
            return make(status, own or code, str(error))
    log.error("a request failed on an error of our own", exc_info=error)
    return ApiError(500, "ERR_INTERNAL", "an error inside the server; its log says more")


def _storage_error(error: StorageError) -> ApiError:
    global _storage_logged_at
    now = time.monotonic()
    if now - _storage_logged_at >= _STORAGE_LOG_S:
        _storage_logged_at = now
        log.warning("requests are answered with 503: %s", one_line(str(error)))
    code, message = next(row[1:] for row in _STORAGE if isinstance(error, row[0]))
    return retry_later(503, code, message)


async def http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own answers (no such route, method not allowed) in our form."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        shown = f"{request.method} {request.url.path[:200]}"
        return ApiError(404, "ERR_NOT_FOUND", f"no such route: {shown}").response()
    if error.status_code == 405:
        message = f"{request.method} is not allowed here"
        return ApiError(405, "ERR_METHOD_NOT_ALLOWED", message, error.headers).response()
    return ApiError(error.status_code, "ERR_MALFORMED_REQUEST", error.detail).response()
