"""How much of everything there is: what metrics tell of a namespace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wfq.storage import scripts
from wfq.storage.instances import INDEXED
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Argument, Call


@dataclass(slots=True)
class QueueFigures:
    """What waits in one queue; ages in seconds, 0 where nothing waits."""

    events: int = 0
    events_age_s: float = 0.0
    activities: int = 0
    activities_age_s: float = 0.0
    running: int = 0


@dataclass(slots=True)
class Figures:
    """Sums over partitions; ages are those of the oldest."""

    instances: dict[str, int] = field(default_factory=dict)
    timers: int = 0
    #: Seconds since the first timer was due that has not fired.
    overdue_s: float = 0.0
    outbox: int = 0
    dead: int = 0
    queues: dict[str, QueueFigures] = field(default_factory=dict)


def figures(namespace: Namespace, partition: int, queues: Sequence[str]) -> Call[Figures]:
    """Read one partition's figures."""
    args: list[Argument] = [len(INDEXED), *INDEXED, *queues]

    def parse(reply: list[Any]) -> Figures:
        now, counts, timers, due, outbox, dead, rows = reply
        now_ms = int(now)
        return Figures(
            dict(zip(INDEXED, counts, strict=True)),
            timers,
            _age_s(now_ms, int(float(due or 0))),
            outbox,
            dead,
            {queue: _queue(now_ms, row) for queue, row in zip(queues, rows, strict=True)},
        )

    return Call(scripts.FIGURES, [namespace.prefix(partition)], args, parse)


def _queue(now_ms: int, row: list[int]) -> QueueFigures:
    events, events_ms, activities, activities_ms, running = row
    return QueueFigures(
        events, _age_s(now_ms, events_ms), activities, _age_s(now_ms, activities_ms), running
    )


def _age_s(now_ms: int, ms: int) -> float:
    return max(0, now_ms - ms) / 1000 if ms else 0.0


def total(parts: Iterable[Figures]) -> Figures:
    """Sum the figures of partitions up."""
    whole = Figures()
    for part in parts:
        for status, number in part.instances.items():
            whole.instances[status] = whole.instances.get(status, 0) + number
        whole.timers += part.timers
        whole.outbox += part.outbox
        whole.dead += part.dead
        whole.overdue_s = max(whole.overdue_s, part.overdue_s)
        for queue, found in part.queues.items():
            sums = whole.queues.setdefault(queue, QueueFigures())
            sums.events += found.events
            sums.activities += found.activities
            sums.running += found.running
            sums.events_age_s = max(sums.events_age_s, found.events_age_s)
            sums.activities_age_s = max(sums.activities_age_s, found.activities_age_s)
    return whole
