"""The list of instances: filters in the address, pages that stay, rows that follow changes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from wfq.durations import parse_duration
from wfq.errors import WfqError
from wfq.management.listing import FilterKeywords
from wfq.management.state import WorkflowStatus
from wfq.storage.instances import INDEXED
from wfq_server.dashboard.desk import Desk
from wfq_server.errors import ApiError

#: Rows of a page.
ROWS = 50
_FIELDS = ("status", "name", "id", "tag", "since", "until", "app")


class Filters:
    """What a list is narrowed down to, as it stands in the address. Raises: ApiError 400."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.given = {key: given[key].strip() for key in _FIELDS if given.get(key, "").strip()}
        key, separator, value = self.given.get("tag", "").partition("=")
        if "tag" in self.given and not separator:
            raise ApiError(400, "ERR_MALFORMED_REQUEST", "write a tag as key=value")
        self.keywords: dict[str, Any] = {
            "status": self._statuses(),
            "name": self.given.get("name"),
            "app_id": self.given.get("app"),
            "id_contains": self.given.get("id"),
            "created_after": _moment(self.given.get("since")),
            "created_before": _moment(self.given.get("until")),
            "tags": {key: value} if separator else None,
        }

    def _statuses(self) -> list[str] | None:
        names = [n for n in self.given.get("status", "").upper().split(",") if n]
        if any(name not in INDEXED for name in names):
            raise ApiError(400, "ERR_MALFORMED_REQUEST", f"there is no status {names[0][:40]!r}")
        return names or None

    def query(self, **changes: str) -> str:
        """The filters as the query of an address, with some changed; "" takes one away."""
        values = {**self.given, **changes}
        return urlencode({key: value for key, value in values.items() if value})

    @property
    def without_status(self) -> FilterKeywords:
        """All but the status: what the chips count."""
        return cast(FilterKeywords, {**self.keywords, "status": None})


def _moment(text: str | None) -> datetime | None:
    """A time, or how long ago."""
    if not text:
        return None
    try:
        return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text[:60]!r} is neither an age such as 2h nor a time such as 2026-03-01T09:00"
        raise ApiError(400, "ERR_MALFORMED_REQUEST", message) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


class Instances:
    """The list, and its parts that are swapped in."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def page(self, request: Request) -> Response:
        """The whole page; the counts come a moment later, for they may cost more."""
        return await self._list(request, "instances.html")

    async def rows(self, request: Request) -> Response:
        """The rows alone."""
        return await self._list(request, "_rows.html")

    async def _list(self, request: Request, template: str) -> Response:
        filters = Filters(request.query_params)
        cursor = request.query_params.get("after") or None
        page = await self._desk.source.client.list_workflows(
            **filters.keywords, limit=ROWS, cursor=cursor
        )
        following = filters.query(after="") if cursor is None else filters.query()
        suffix = f"after={cursor}" if cursor else ""
        return self._desk.page(
            request,
            template,
            states=page.items,
            filters=filters,
            next_query="&".join(
                part for part in (filters.query(), urlencode({"after": page.cursor or ""})) if part
            )
            if page.cursor
            else "",
            here_query="&".join(part for part in (following, suffix) if part),
            first=cursor is None,
            final=[status for status in INDEXED if WorkflowStatus.parse(status).is_final],
            workflow=await self._any_workflow() if not page.items else None,
        )

    async def _any_workflow(self) -> str | None:
        """The name of a workflow that somebody could start, for an empty page."""
        try:
            published = await self._desk.source.published()
        except WfqError:
            return None
        return published[0].name if published else None

    async def counts(self, request: Request) -> Response:
        """The status chips."""
        filters = Filters(request.query_params)
        totals = await self._desk.source.counts(filters.query(status=""), filters.without_status)
        chips = [(status, totals.get(WorkflowStatus.parse(status), 0)) for status in _ORDER]
        chosen = set(filters.keywords["status"] or ())
        return self._desk.page(
            request,
            "_chips.html",
            chips=chips,
            chosen=chosen,
            total=sum(totals.values()),
            filters=filters,
        )


_ORDER = tuple(
    status
    for status in (
        "RUNNING", "PENDING", "SUSPENDED", "STALLED", "COMPLETED", "FAILED", "TERMINATED",
    )
    if status in INDEXED
)  # fmt: skip
