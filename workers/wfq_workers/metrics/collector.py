"""The counts of a worker's loops as Prometheus metrics, translated when they are asked for.

Labels are names that this program registered, statuses and words of ours: never what a caller
chose, so their number is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from wfq_workers.activities.worker import ActivityLoop
from wfq_workers.metrics.counts import Durations
from wfq_workers.orchestrating.orchestrator import OrchestratorLoop
from wfq_workers.process import Loop
from wfq_workers.scheduling.scheduler import SchedulerLoop

K = TypeVar("K")
V = TypeVar("V")


class WorkerCollector:
    """Collects from loops of one process."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        self._loops = loops

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the loops there are."""
        errors = CounterMetricFamily(
            "wfq_redis_errors", "Times that Redis could not be asked.", labels=["role"]
        )
        for loop in self._loops:
            match loop:
                case OrchestratorLoop():
                    errors.add_metric(["orchestrator"], loop.redis_errors)
                    yield from _turns(loop)
                case ActivityLoop():
                    errors.add_metric(["activity"], loop.redis_errors)
                    yield from _activities(loop)
                case SchedulerLoop():
                    errors.add_metric(["scheduler"], loop.redis_errors)
                    yield from _timers(loop)
        yield errors


def _turns(loop: OrchestratorLoop) -> Iterator[Metric]:
    counts = loop.counts
    yield _counter(
        "wfq_workflow_starts", "Instances begun.", ["workflow"],
        [((name,), number) for name, number in _copy(counts.started)],
    )  # fmt: skip
    ended = _copy(counts.ended)
    yield _counter(
        "wfq_workflow_completions",
        "Instances ended, by status.",
        ["workflow", "status"],
        [(key, durations.number) for key, durations in ended],
    )
    yield _histogram(
        "wfq_workflow_seconds",
        "From the start of an instance to its end.",
        ["workflow", "status"],
        [(list(key), durations) for key, durations in ended],
    )
    yield _histogram(
        "wfq_turn_seconds", "One turn: running the code and encoding what it decided.", [],
        [([], counts.turns)],
    )  # fmt: skip
    yield CounterMetricFamily("wfq_commits", "Batches of turns committed.", value=counts.commits)
    yield CounterMetricFamily("wfq_events", "Events taken from the streams.", value=counts.events)
    yield CounterMetricFamily("wfq_cache_hits", "Instances found in memory.", value=counts.hits)
    yield CounterMetricFamily(
        "wfq_cache_misses", "Instances fetched and replayed.", value=counts.misses
    )
    yield _counter(
        "wfq_conflicts", "Commits refused as stale, and leases lost to others.", ["what"],
        [(("commit",), counts.refused), (("lease",), counts.lost)],
    )  # fmt: skip
    yield GaugeMetricFamily(
        "wfq_cached_instances", "Instances in memory.", value=len(loop.engine.cache)
    )
    yield GaugeMetricFamily(
        "wfq_partitions_owned", "Partitions that this worker leases.", value=loop.partitions_owned
    )


def _activities(loop: ActivityLoop) -> Iterator[Metric]:
    counts = loop.counts
    tallies = _copy(counts.tallies)
    yield _counter(
        "wfq_activities",
        "Activities with a final result.",
        ["activity", "result"],
        [
            ((name, word), getattr(tally, word))
            for name, tally in tallies
            for word in ("completed", "failed", "lost")
        ],
    )
    yield _counter(
        "wfq_activity_retries",
        "Attempts that failed and are tried again.",
        ["activity"],
        [((name,), tally.retried) for name, tally in tallies],
    )
    yield _histogram(
        "wfq_activity_seconds",
        "Run time of an attempt.",
        ["activity"],
        [([name], tally.times) for name, tally in tallies],
    )
    yield _histogram(
        "wfq_activity_schedule_to_start_seconds",
        "From the turn that scheduled an activity to the worker that took it.", [],
        [([], counts.waits)],
    )  # fmt: skip
    yield CounterMetricFamily(
        "wfq_reclaimed", "Attempts taken over from silent workers.", value=counts.claimed
    )
    yield CounterMetricFamily(
        "wfq_unknown_activities", "Attempts read whose activity this program does not have.",
        value=counts.unknown,
    )  # fmt: skip
    yield GaugeMetricFamily("wfq_activities_running", "Attempts under way.", value=loop.running)
    yield GaugeMetricFamily(
        "wfq_activity_slots", "Attempts that may run at once.", value=loop.options.concurrency
    )


def _timers(loop: SchedulerLoop) -> Iterator[Metric]:
    counts = loop.counts
    yield CounterMetricFamily("wfq_timers_fired", "Timers fired.", value=counts.fired)
    yield _histogram(
        "wfq_timer_lateness_seconds",
        "How late the oldest timer was, of each step that fired some.", [],
        [([], counts.lateness)],
    )  # fmt: skip


def _counter(
    name: str, about: str, labels: Sequence[str], values: Iterable[tuple[Any, int]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, about, labels=labels)
    for key, value in sorted(values):
        family.add_metric(key, value)
    return family


def _histogram(
    name: str, about: str, labels: Sequence[str], series: Iterable[tuple[list[str], Durations]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, about, labels=labels)
    for key, durations in series:
        family.add_metric(key, durations.shown(), durations.total_s)
    return family


def _copy(counts: Mapping[K, V]) -> list[tuple[K, V]]:
    """Return the items of a dict that another thread adds to, in one step of the interpreter."""
    return list(counts.items())
