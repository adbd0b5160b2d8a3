"""Times and counts as people say them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from wfq.durations import told_duration
from wfq.management.state import WorkflowState

#: A duration in its largest two units.
ago = told_duration


def moment(milliseconds: int) -> str:
    """Return epoch ms as RFC 3339 in UTC, to the millisecond."""
    return iso(datetime.fromtimestamp(milliseconds / 1000, UTC))


def clock(milliseconds: int) -> str:
    """Return epoch ms as a day and a time in UTC, for a table."""
    return moment(milliseconds)[:23].replace("T", " ")


def iso(at: datetime) -> str:
    """Return a time (naive = UTC) as RFC 3339 in UTC."""
    aware = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return aware.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_ms(at: datetime) -> int:
    """Return a time (naive = UTC) as epoch ms."""
    aware = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return int(aware.timestamp() * 1000)


def took_ms(state: WorkflowState[Any]) -> int:
    """How long an instance took from its creation, all generations included, to its last turn."""
    return max(0, epoch_ms(state.last_updated_at) - epoch_ms(state.created_at))


def percentile(values: Sequence[int], part: float) -> int:
    """Return the value that `part` of the values do not exceed; 0 where there are none."""
    if not values:
        return 0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def plural(count: int, word: str) -> str:
    """Return ``1 instance`` or ``2 instances``."""
    return f"{count} {word}" if count == 1 else f"{count:,} {word}s"
