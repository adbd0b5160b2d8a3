"""Lists of instances, page by page, newest first, over all partitions and statuses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

from wfq.errors import ConfigurationError
from wfq.management.operations import state_of
from wfq.management.scope import Scope
from wfq.management.starting import checked_tags
from wfq.management.state import WorkflowState, WorkflowStatus, tags_of
from wfq.management.steps import Operation, run_many
from wfq.storage import counting, instances
from wfq.storage.instances import INDEXED, Filters, Position, Snapshot
from wfq.storage.keys import check_instance_id

MAX_LIMIT = 1000
#: Rows asked of each index beyond its share of a page.
_SPARE = 8

#: Creation ms, then id: lists fall in both.
Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Query:
    """Checked filters; made by `make_query`."""

    statuses: frozenset[str]
    filters: Filters
    tags: Mapping[str, str]

    @property
    def indexes(self) -> list[str]:
        """Status indexes to look into, in the order in which instances move through them."""
        # Instances whose first turn is to come are PENDING, and stand in RUNNING's index.
        pending = {"RUNNING"} if "PENDING" in self.statuses else set()
        return [status for status in INDEXED if status in self.statuses | pending]

    def fits(self, snapshot: Snapshot) -> bool:
        """Whether an instance that its index and the filters let through is wanted."""
        if not snapshot.fields or snapshot.status not in self.statuses:
            return False
        if not self.tags:
            return True
        tags = tags_of(snapshot)
        return all(tags.get(key) == value for key, value in self.tags.items())


class FilterKeywords(TypedDict, total=False):
    """What a list is narrowed down to; all that is given must hold.

    status: one or several, names in any case. name: of the workflow. app_id: the application.
    created_after, created_before: inclusive, naive = UTC. tags: each must be equal.
    id_contains: a part of the id.
    """

    status: WorkflowStatus | str | Iterable[WorkflowStatus | str] | None
    name: str | None
    app_id: str | None
    created_after: datetime | None
    created_before: datetime | None
    tags: Mapping[str, str] | None
    id_contains: str | None


_FILTERS = frozenset(FilterKeywords.__annotations__)


def make_query(given: FilterKeywords) -> Query:
    """Return a checked query. Raises: ConfigurationError; TypeError for an unknown filter."""
    unknown = given.keys() - _FILTERS
    if unknown:
        raise TypeError(f"no filter {min(unknown)!r}; there are {', '.join(sorted(_FILTERS))}")
    tags = checked_tags(given.get("tags"))
    filters = Filters(
        name=given.get("name") or "",
        queue=given.get("app_id") or "",
        created_from_ms=_ms(given.get("created_after"), "created_after"),
        created_to_ms=_ms(given.get("created_before"), "created_before"),
        id_part=given.get("id_contains") or "",
        tag=next(iter(tags.items()), None),
    )
    return Query(_statuses(given.get("status")), filters, tags)


def _statuses(
    status: WorkflowStatus | str | Iterable[WorkflowStatus | str] | None,
) -> frozenset[str]:
    if status is None:
        return frozenset(INDEXED)
    several = [status] if isinstance(status, (str, WorkflowStatus)) else status
    try:
        names = frozenset(WorkflowStatus.parse(one).name for one in several)
    except ValueError as exc:
        raise ConfigurationError(str(exc)) from exc
    return names & frozenset(INDEXED)


def _ms(at: datetime | None, what: str) -> int | None:
    if at is None:
        return None
    if not isinstance(at, datetime):
        raise ConfigurationError(f"{what} must be a datetime, not {at!r:.100}")
    # Naive times are UTC, as everywhere.
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    """One page of a list. `cursor` gives the next page, None when this is the last."""

    items: list[WorkflowState[Any]]
    cursor: str | None

    def __iter__(self) -> Iterator[WorkflowState[Any]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class WorkflowInstanceIdPage:
    """One page of ids, in Dapr's form. No token: this is the last."""

    instance_ids: list[str]
    continuation_token: str | None

    @classmethod
    def of(cls, page: WorkflowPage) -> WorkflowInstanceIdPage:
        """The ids of a page."""
        return cls([str(state.instance_id) for state in page], page.cursor)


def list_page(
    scope: Scope, query: Query, *, limit: int, cursor: str | None
) -> Operation[WorkflowPage]:
    """One page. Raises: ConfigurationError for a limit or cursor that is not usable."""
    if not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise ConfigurationError(f"a page has 1 to {MAX_LIMIT} rows, not {limit!r:.20}")
    merge = _Merge(scope, query, _parse_cursor(cursor))
    rows = yield from merge.first(limit + 1)
    page = rows[:limit]
    more = len(rows) > limit
    last = _format_cursor(page[-1]) if more else None
    return WorkflowPage([state_of(scope, row) for row in page], last)


def _format_cursor(row: Snapshot) -> str:
    return f"{row.created_ms}:{row.instance_id}"


def _parse_cursor(cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    created, _, instance_id = str(cursor).partition(":")
    if not created.isdecimal() or len(created) > 15:
        raise ConfigurationError(f"{cursor!r:.100} is not the cursor of a page")
    return Position(int(created), check_instance_id(instance_id))


class _Source:
    """One index of one partition: how far it was read, and whether there is more."""

    __slots__ = ("chunk", "done", "partition", "position", "status")

    def __init__(self, partition: int, status: str, position: Position | None, chunk: int) -> None:
        self.partition = partition
        self.status = status
        self.position = position
        self.chunk = chunk
        self.done = False

    @property
    def frontier(self) -> Key:
        """Everything of this index above it is known."""
        if self.position is None:
            return (1 << 62, "")
        return (self.position.created_ms, self.position.instance_id)


class _Merge:
    """Reads all indexes side by side, and no further than the wanted rows need."""

    def __init__(self, scope: Scope, query: Query, position: Position | None) -> None:
        self._scope = scope
        self._query = query
        self._rows: dict[str, Snapshot] = {}
        self._start = position
        self._sources: list[_Source] = []

    def first(self, count: int) -> Operation[list[Snapshot]]:
        """The first `count` rows, or all there are."""
        partitions = range(self._scope.namespace.partitions)
        chunk = count // len(partitions) + _SPARE
        self._sources = [
            _Source(partition, status, self._start, chunk)
            for partition in partitions
            for status in self._query.indexes
        ]
        while True:
            unread = [source for source in self._sources if not source.done]
            rows = sorted(self._rows.values(), key=_key, reverse=True)
            if len(rows) >= count:
                # Rows above every frontier cannot be overtaken by what is still unread.
                last = _key(rows[count - 1])
                unread = [source for source in unread if source.frontier > last]
            if not unread:
                return rows[:count]
            yield from self._read(unread)

    def _read(self, sources: list[_Source]) -> Operation[None]:
        pages = yield from run_many([self._call(source) for source in sources])
        for source, (rows, position) in zip(sources, pages, strict=True):
            source.position = position
            source.done = position is None
            source.chunk = min(source.chunk * 2, MAX_LIMIT)
            for row in rows:
                # One that moved on between two reads shows up twice: the later one counts.
                if self._query.fits(row):
                    self._rows[row.instance_id] = row

    def _call(self, source: _Source) -> Any:
        return instances.list_page(
            self._scope.namespace,
            source.partition,
            source.status,
            self._query.filters,
            limit=source.chunk,
            position=source.position,
        )


def _key(row: Snapshot) -> Key:
    return (row.created_ms, row.instance_id)


def count_by_status(scope: Scope, query: Query) -> Operation[dict[WorkflowStatus, int]]:
    """How many instances fit, by status; those whose first turn is to come are PENDING."""
    statuses = query.indexes
    totals = {WorkflowStatus.parse(status): 0 for status in INDEXED if status in query.statuses}
    left: list[tuple[int, str, Position | None]] = [
        (partition, status, None)
        for partition in range(scope.namespace.partitions)
        for status in statuses
    ]
    while left:
        answers = yield from run_many(
            [
                counting.count(
                    scope.namespace,
                    partition,
                    status,
                    query.filters,
                    tags=query.tags,
                    position=position,
                    apart=status == "RUNNING",
                )
                for partition, status, position in left
            ]
        )
        again: list[tuple[int, str, Position | None]] = []
        for (partition, status, _), counted in zip(left, answers, strict=True):
            _add(totals, status, counted.number - counted.new)
            _add(totals, "PENDING", counted.new)
            if counted.position is not None:
                again.append((partition, status, counted.position))
        left = again
    return totals


def _add(totals: dict[WorkflowStatus, int], status: str, number: int) -> None:
    """Add to a status that was asked for."""
    key = WorkflowStatus.parse(status)
    if key in totals:
        totals[key] += number
