"""What Prometheus reads from the API: its own counters, and the figures of the namespace.

Loaded with the first scrape: a server that nobody watches does without the library.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from wfq.storage.figures import Figures
from wfq_server.metrics import BUCKETS_S, Metrics

CONTENT_TYPE = CONTENT_TYPE_LATEST


def request_families(metrics: Metrics) -> Iterator[Metric]:
    """Yield the metrics of the requests."""
    requests = CounterMetricFamily(
        "wfq_http_requests", "Requests answered.", labels=["operation", "status"]
    )
    seconds = HistogramMetricFamily(
        "wfq_http_request_seconds", "Time to the answer.", labels=["operation"]
    )
    totals: Counter[str] = Counter()
    for (operation, status), count in sorted(metrics.requests.items()):
        totals[operation] += count
        requests.add_metric([operation, str(status)], count)
    for operation, number in sorted(totals.items()):
        below, buckets = 0, []
        for bound in BUCKETS_S:
            below += metrics.buckets[operation, bound]
            buckets.append((str(bound), float(below)))
        buckets.append(("+Inf", float(number)))
        seconds.add_metric([operation], buckets, metrics.seconds[operation])
    yield requests
    yield seconds
    yield GaugeMetricFamily(
        "wfq_http_requests_in_flight", "Requests without an answer yet.", value=metrics.in_flight
    )
    yield GaugeMetricFamily(
        "wfq_http_requests_waiting", "Requests that wait on purpose.", value=metrics.waiting
    )


Workers = Mapping[str, Mapping[str, Any]]


def worker_families(workers: Workers | None) -> Iterator[Metric]:
    """Yield gauges of the live workers, and what listeners count; None: Redis is away."""
    yield GaugeMetricFamily(
        "wfq_redis_up", "Whether Redis answers the API.", value=int(workers is not None)
    )
    found = workers or {}
    live = GaugeMetricFamily("wfq_workers", "Live workers.", labels=["role"])
    for role, number in sorted(Counter(r for w in found.values() for r in w["roles"]).items()):
        live.add_metric([role], number)
    yield live
    messages = CounterMetricFamily(
        "wfq_listener_messages", "Messages, by what became of them.",
        labels=["worker", "source", "what"],
    )  # fmt: skip
    cuts = CounterMetricFamily(
        "wfq_listener_subscription_cuts", "Subscriptions that were cut: messages may be lost.",
        labels=["worker", "source"],
    )  # fmt: skip
    for worker, details in sorted(found.items()):
        for source, counts in sorted(details.get("listener", {}).items()):
            cuts.add_metric([worker, source], counts.get("cuts", 0))
            for what, number in counts.items():
                if what != "cuts":
                    messages.add_metric([worker, source, what], number)
    yield messages
    yield cuts


#: Metric, what it means, and the attribute of `QueueFigures`.
_OF_QUEUES = (
    ("wfq_queue_events", "Events that no turn has consumed yet.", "events"),
    ("wfq_queue_events_oldest_seconds", "Age of the oldest of them.", "events_age_s"),
    ("wfq_queue_activities", "Activities that no worker has taken yet.", "activities"),
    ("wfq_queue_activities_oldest_seconds", "Age of the oldest of them.", "activities_age_s"),
    ("wfq_queue_activities_running", "Activities that workers hold.", "running"),
)


def namespace_families(figures: Figures, workers: Workers) -> Iterator[Metric]:
    """Yield the gauges of the whole namespace."""
    instances = GaugeMetricFamily("wfq_instances", "Instances by status.", labels=["status"])
    for status, number in figures.instances.items():
        instances.add_metric([status], number)
    yield instances
    for name, about, attribute in _OF_QUEUES:
        family = GaugeMetricFamily(name, about, labels=["queue"])
        for queue, found in figures.queues.items():
            family.add_metric([queue], getattr(found, attribute))
        yield family
    serving = GaugeMetricFamily("wfq_queue_workers", "Live workers of a queue.", labels=["queue"])
    for queue in figures.queues:
        number = sum(queue in (details.get("queues") or ()) for details in workers.values())
        serving.add_metric([queue], number)
    yield serving
    yield GaugeMetricFamily("wfq_timers", "Timers that wait.", value=figures.timers)
    yield GaugeMetricFamily(
        "wfq_timers_overdue_seconds", "How long the first timer is due and has not fired.",
        value=figures.overdue_s,
    )  # fmt: skip
    yield GaugeMetricFamily(
        "wfq_outbox_messages", "Messages on their way between partitions.", value=figures.outbox
    )
    yield GaugeMetricFamily("wfq_dead_letters", "Dead letters.", value=figures.dead)


def answer(metrics: Metrics, workers: Workers | None, figures: Figures) -> bytes:
    """Return everything in the text format; without workers (None) Redis is away."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Answer(metrics, workers, figures))
    return generate_latest(registry)


class _Answer:
    """The collector of one scrape."""

    def __init__(self, metrics: Metrics, workers: Workers | None, figures: Figures) -> None:
        self._metrics, self._workers, self._figures = metrics, workers, figures

    def collect(self) -> Iterator[Metric]:
        yield from request_families(self._metrics)
        yield from worker_families(self._workers)
        if self._workers is not None:
            yield from namespace_families(self._figures, self._workers)
