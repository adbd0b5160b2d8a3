"""Counters of the HTTP API in the text format that Prometheus reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

#: Upper bounds of the duration buckets, in seconds.
BUCKETS_S = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Requests by operation and status, their durations, and how many are under way.

    Used by one event loop. Labels are operation names and numbers, never what a caller chose.
    """

    def __init__(self) -> None:
        #: Requests that have no answer yet; `waiting` are those among them that wait on purpose.
        self.in_flight = 0
        self.waiting = 0
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()

    def observe(self, operation: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests[operation, status] += 1
        self._seconds[operation] += seconds  # type: ignore[assignment]  # Counter takes floats
        for bound in BUCKETS_S:
            if seconds <= bound:
                self._buckets[operation, bound] += 1
                break

    def render(self) -> str:
        """Return all counters as text."""
        lines = ["# TYPE wfq_http_requests_total counter"]
        totals: Counter[str] = Counter()
        for (operation, status), count in sorted(self._requests.items()):
            totals[operation] += count
            labels = f'operation="{operation}",status="{status}"'
            lines.append(f"wfq_http_requests_total{{{labels}}} {count}")
        lines.append("# TYPE wfq_http_request_seconds histogram")
        for operation, total in sorted(totals.items()):
            lines += self._histogram(operation, total)
        lines.append("# TYPE wfq_http_requests_in_flight gauge")
        lines.append(f"wfq_http_requests_in_flight {self.in_flight}")
        lines.append("# TYPE wfq_http_requests_waiting gauge")
        lines.append(f"wfq_http_requests_waiting {self.waiting}")
        return "\n".join(lines) + "\n"

    def _histogram(self, operation: str, total: int) -> list[str]:
        name, lines, below = "wfq_http_request_seconds", [], 0
        for bound in BUCKETS_S:
            below += self._buckets[operation, bound]
            lines.append(f'{name}_bucket{{operation="{operation}",le="{bound}"}} {below}')
        lines.append(f'{name}_bucket{{operation="{operation}",le="+Inf"}} {total}')
        lines.append(f'{name}_sum{{operation="{operation}"}} {self._seconds[operation]:.6f}')
        lines.append(f'{name}_count{{operation="{operation}"}} {total}')
        return lines


def render_workers(workers: Mapping[str, Mapping[str, Any]] | None) -> str:
    """Return gauges of the live workers, and what their listeners count; None: Redis is away."""
    lines = ["# TYPE wfq_redis_up gauge", f"wfq_redis_up {int(workers is not None)}"]
    roles = Counter(role for details in (workers or {}).values() for role in details["roles"])
    lines.append("# TYPE wfq_workers gauge")
    lines += [f'wfq_workers{{role="{_escaped(r)}"}} {n}' for r, n in sorted(roles.items())]
    messages: list[str] = []
    cuts: list[str] = []
    for worker, details in sorted((workers or {}).items()):
        for source, counts in sorted(details.get("listener", {}).items()):
            labels = f'worker="{_escaped(worker)}",source="{_escaped(source)}"'
            cut = int(counts.get("cuts", 0))
            cuts.append(f"wfq_listener_subscription_cuts_total{{{labels}}} {cut}")
            messages += [
                f'wfq_listener_messages_total{{{labels},what="{_escaped(what)}"}} {int(number)}'
                for what, number in counts.items()
                if what != "cuts"
            ]
    lines += ["# TYPE wfq_listener_messages_total counter", *messages]
    lines += ["# TYPE wfq_listener_subscription_cuts_total counter", *cuts]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
