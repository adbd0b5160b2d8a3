"""Path and query parameters, checked. Raises everywhere: ApiError 400, one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from starlette.requests import Request

from wfq.durations import parse_duration
from wfq.errors import InvalidIdentifier
from wfq.storage.keys import check_instance_id, check_queue
from wfq_server.errors import ApiError

#: Rows of a page that names no limit, and the most it may name.
PAGE = 100
MAX_PAGE = 1000
#: Characters of the names of workflows and events.
MAX_NAME = 500
#: Characters of event ids and idempotency keys.
MAX_KEY = 255


def refuse(message: str, code: str = "ERR_MALFORMED_REQUEST") -> NoReturn:
    raise ApiError(400, code, message)


def check_given_once(request: Request, names: Iterable[str]) -> None:
    """Refuse a parameter that is given twice: whoever sent it means one of the two, but which?"""
    if b"&" not in request.scope["query_string"]:
        return
    for name in names:
        count = len(request.query_params.getlist(name))
        if count > 1:
            refuse(f"{name} is given {count} times; give it once")


def instance_id(request: Request) -> str:
    return checked_id(request.path_params["id"], check_instance_id)


def checked_id(instance_id: str, check: Callable[[object], str]) -> str:
    try:
        return check(instance_id)
    except InvalidIdentifier as exc:
        too_long = len(instance_id) > 200 and instance_id.isascii()
        refuse(str(exc), "ERR_INSTANCE_ID_TOO_LONG" if too_long else "ERR_INSTANCE_ID_INVALID")


def name(request: Request, parameter: str, code: str) -> str:
    given: str = request.path_params[parameter]
    if not 1 <= len(given) <= MAX_NAME:
        refuse(f"a name has 1 to {MAX_NAME} characters, this one {len(given)}", code)
    return given


def app_id(request: Request) -> str | None:
    given = request.query_params.get("appID")
    if not given:
        return None
    try:
        return check_queue(given)
    except InvalidIdentifier as exc:
        refuse(str(exc), "ERR_WORKFLOW_APP_ID_INVALID")


def statuses(request: Request) -> list[str]:
    values = request.query_params.getlist("status")
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def tags(request: Request) -> dict[str, str]:
    found = {}
    for pair in request.query_params.getlist("tag"):
        key, separator, value = pair.partition("=")
        if not separator:
            refuse(f"{pair[:100]!r} is not a tag; write it like tag=team=billing")
        found[key] = value
    return found


def seconds(request: Request, name: str, default: float) -> float:
    given = request.query_params.get(name)
    if given is None:
        return default
    try:
        return parse_duration(given)
    except ValueError as exc:
        refuse(f"{name}: {exc}")


def start_at(request: Request) -> datetime | timedelta | None:
    given = moment(request, "startAt")
    if "delay" not in request.query_params:
        return given
    if given is not None:
        refuse("startAt and delay cannot be given both")
    return timedelta(seconds=seconds(request, "delay", 0.0))


def moment(request: Request, name: str) -> datetime | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    try:
        # A plus sign in a query means a space.
        read = datetime.fromisoformat(given.replace(" ", "+"))
    except ValueError:
        refuse(f"{name}: {given[:100]!r} is not a time; write it like 2026-03-01T09:00:00Z")
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def limit(request: Request) -> int:
    asked = "limit" if "limit" in request.query_params else "pageSize"
    rows = number(request, asked) if asked in request.query_params else PAGE
    if not 1 <= rows <= MAX_PAGE:
        refuse(f"{asked}: a page has 1 to {MAX_PAGE} rows")
    return rows


def key(given: str | None, what: str) -> str | None:
    """Return a key that makes a request count once, None where there is none."""
    if given is not None and not 1 <= len(given) <= MAX_KEY:
        refuse(f"{what}: a key has 1 to {MAX_KEY} characters")
    return given


def number(request: Request, name: str) -> int:
    given = request.query_params[name]
    if not given.isascii() or not given.isdecimal() or len(given) > 9:
        refuse(f"{name}: {given[:100]!r} is not a whole number")
    return int(given)


def flag(request: Request, name: str, default: bool) -> bool:
    given = request.query_params.get(name)
    if given is None:
        return default
    if given.lower() not in ("true", "false"):
        refuse(f"{name}: write true or false, not {given[:100]!r}")
    return given.lower() == "true"
