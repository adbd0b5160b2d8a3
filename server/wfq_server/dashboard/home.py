"""The first page: how it goes, what fails, what is stuck."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wfq.management.state import WorkflowState, WorkflowStatus
from wfq_server.dashboard.desk import Desk
from wfq_server.dashboard.wording import epoch_ms, percentile

#: Instances that rates of failure and durations are taken from: the newest.
SAMPLE = 200
_SHOWN = 8

State = WorkflowState[Any]


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the newest completed instances of a workflow took, in ms."""

    name: str
    count: int
    half: int
    most: int


class Home:
    """The overview."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def page(self, request: Request) -> Response:
        """Counts, rates, durations, failures by name, what is stuck, who works."""
        client = self._desk.source.client
        hour = datetime.now(UTC) - timedelta(hours=1)
        day = datetime.now(UTC) - timedelta(days=1)
        totals, last_hour, last_day = await asyncio.gather(
            client.count_workflows(),
            client.count_workflows(created_after=hour),
            client.count_workflows(created_after=day),
        )
        completed, failed, stalled, recent = await asyncio.gather(
            client.list_workflows(status="COMPLETED", limit=SAMPLE),
            client.list_workflows(status="FAILED", limit=SAMPLE),
            client.list_workflows(status=("STALLED", "SUSPENDED"), limit=_SHOWN),
            client.list_workflows(limit=_SHOWN),
        )
        return self._desk.page(
            request,
            "home.html",
            counts=[(s.name, n) for s, n in totals.items() if n or s in _ALWAYS],
            total=sum(totals.values()),
            started_hour=sum(last_hour.values()),
            started_day=sum(last_day.values()),
            failed_day=last_day.get(WorkflowStatus.FAILED, 0),
            durations=durations(completed.items),
            failures=Counter(state.name for state in failed.items).most_common(_SHOWN),
            sample=SAMPLE,
            stuck=stalled.items,
            recent=recent.items,
            workers=await self._desk.source.workers(),
            published=await self._desk.source.published(),
        )


_ALWAYS = (WorkflowStatus.RUNNING, WorkflowStatus.COMPLETED, WorkflowStatus.FAILED)


def durations(states: Sequence[State]) -> list[Durations]:
    """Return how long instances took, by workflow, the most frequent first."""
    by_name: dict[str, list[int]] = {}
    for state in states:
        took = epoch_ms(state.last_updated_at) - epoch_ms(state.created_at)
        by_name.setdefault(state.name, []).append(took)
    found = [
        Durations(name, len(times), percentile(times, 0.5), percentile(times, 0.95))
        for name, times in by_name.items()
    ]
    return sorted(found, key=lambda one: -one.count)[:_SHOWN]
