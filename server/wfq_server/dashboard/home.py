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

from wfq.checker.roster import Roster
from wfq.management.state import WorkflowState, WorkflowStatus
from wfq.storage.figures import Figures
from wfq_server.dashboard.desk import Desk
from wfq_server.dashboard.wording import percentile, took_ms

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
        """Counts, durations, failures by name, what is stuck, who works."""
        client = self._desk.source.client
        completed, failed, stalled, recent = await asyncio.gather(
            client.list_workflows(status="COMPLETED", limit=SAMPLE),
            client.list_workflows(status="FAILED", limit=SAMPLE),
            client.list_workflows(status=("STALLED", "SUSPENDED"), limit=_SHOWN),
            client.list_workflows(limit=_SHOWN),
        )
        # Straight from the indexes: those whose first turn is to come count as running.
        figures, workers = await client.figures(), await self._desk.source.workers()
        totals = figures.instances
        roster = Roster([one.details | {"id": one.worker_id} for one in workers])
        return self._desk.page(
            request,
            "home.html",
            counts=[(name, n) for name, n in totals.items() if n or name in _ALWAYS],
            total=sum(totals.values()),
            durations=durations(completed.items),
            failures=Counter(state.name for state in failed.items).most_common(_SHOWN),
            sample=SAMPLE,
            stuck=stalled.items,
            unserved=unserved(figures, roster) if workers else [],
            recent=recent.items,
            workers=workers,
            published=await self._desk.source.published(),
        )

    async def rates(self, request: Request) -> Response:
        """What was started of late; apart, for it may take a moment to count."""
        now = datetime.now(UTC)
        counts = self._desk.source.counts
        last_hour = await counts("last hour", {"created_after": now - timedelta(hours=1)})
        last_day = await counts("last day", {"created_after": now - timedelta(days=1)})
        return self._desk.page(
            request,
            "_rates.html",
            started_hour=sum(last_hour.values()),
            started_day=sum(last_day.values()),
            failed_day=last_day.get(WorkflowStatus.FAILED, 0),
            workers=await self._desk.source.workers(),
        )


_ALWAYS = ("RUNNING", "COMPLETED", "FAILED")


def unserved(figures: Figures, roster: Roster) -> list[tuple[str, str]]:
    """Return what waits for a kind of worker of which none lives: queue ("" for all), and what."""
    found = []
    for name, waiting in sorted(figures.queues.items()):
        if waiting.activities and not roster.activity_workers(name):
            found.append((name, f"{_some(waiting.activities, 'activity', 'activities')} no worker"))
        if waiting.events and not roster.orchestrators(name):
            found.append((name, f"{_some(waiting.events, 'event', 'events')} no orchestrator"))
    if figures.overdue_s and roster.timer_lacks():
        found.append(("", "timers are due, and there is no scheduler"))
    return found


def _some(number: int, one: str, many: str) -> str:
    wait = f"1 {one} waits" if number == 1 else f"{number:,} {many} wait"
    return f"{wait}, and there is"


def durations(states: Sequence[State]) -> list[Durations]:
    """Return how long instances took, by workflow, the most frequent first."""
    by_name: dict[str, list[int]] = {}
    for state in states:
        by_name.setdefault(state.name, []).append(took_ms(state))
    found = [
        Durations(name, len(times), percentile(times, 0.5), percentile(times, 0.95))
        for name, times in by_name.items()
    ]
    return sorted(found, key=lambda one: -one.count)[:_SHOWN]
