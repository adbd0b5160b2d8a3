"""What more servers give: W1 on a cluster of three masters against one server.

``python3 run.py bench --shards``. The same worker processes run the same chains on both; what
each side has left tells which one the limit is. Servers, workers and client share this machine,
so where the processors are all busy the ratio says what a cluster costs, not what it gives.

With ``--quota PERCENT`` each server has that share of one processor and no more, in both runs.
Then the servers are the limit, as they are where there are processors enough for the workers, and
the ratio says what more servers give.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wfq as wf
from benchmarks import quota
from benchmarks.app import chain
from benchmarks.fleet import Fleet, Layout
from benchmarks.server import OPTIONS, RedisMeter, choose_kind
from tests.groups import ClusterGroup, TcpServer
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

MASTERS = 3
UNITS = {"full": 20_000, "quick": 5_000, "tiny": 100}
LAYOUT = Layout(
    "3 + 3",
    ("orchestrator,scheduler",) * 3 + ("activity",) * 3,
)
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: workflows a second, and the share of a processor each party used."""

    name: str
    rate: float
    busiest_server: float
    servers: float
    workers: float
    redis_us: float

    def __str__(self) -> str:
        return (
            f"{self.name:12} {self.rate:8.0f} workflows/s; processors used: busiest server "
            f"{self.busiest_server:.2f}, all servers {self.servers:.2f}, workers "
            f"{self.workers:.2f}; {self.redis_us:.0f} us of Redis a workflow"
        )


def compare(size: str, percent: int | None = None) -> str:
    """Measure both and tell the ratio, and what limits it.

    percent: of a processor, for each server. Raises: NoQuota.
    """
    with _one() as (url, servers), _limited(servers, percent):
        one = _measure("one server", url, servers, UNITS[size])
    with _cluster() as (url, servers), _limited(servers, percent):
        many = _measure(f"{MASTERS} masters", url, servers, UNITS[size])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return "\n".join(
        [
            str(one),
            str(many),
            f"ratio {many.rate / one.rate:.2f}; {_limit(one, many, cores, percent)}",
        ]
    )


@contextmanager
def _limited(servers: list[TcpServer], percent: int | None) -> Iterator[None]:
    with ExitStack() as stack:
        if percent is not None:
            stack.enter_context(quota.each([server.pid for server in servers], percent))
        yield


def _limit(one: Measured, many: Measured, cores: int, percent: int | None) -> str:
    if percent is not None:
        share = percent / 100
        return (
            f"with {percent} % of a processor for each server, of which the one used "
            f"{one.busiest_server / share:.0%}, the busiest of the three "
            f"{many.busiest_server / share:.0%} and all three {many.servers / share / MASTERS:.0%}"
        )
    used = many.servers + many.workers
    if used > 0.8 * cores:
        return f"limited by the {cores} processors of this machine, of which {used:.1f} were busy"
    if many.busiest_server > 0.8:
        return "limited by the busiest master"
    if one.busiest_server < 0.8:
        return "one server was not the limit here either: the workers or the client are"
    return "limited by the workers"


@contextmanager
def _one() -> Iterator[tuple[str, list[TcpServer]]]:
    server = TcpServer(choose_kind(), OPTIONS)
    try:
        yield f"redis://{server.address}/0", [server]
    finally:
        server.close()


@contextmanager
def _cluster() -> Iterator[tuple[str, list[TcpServer]]]:
    group = ClusterGroup(choose_kind(), OPTIONS, masters=MASTERS)
    try:
        yield group.url, [*group.masters]
    finally:
        group.close()


def _measure(name: str, url: str, servers: list[TcpServer], units: int) -> Measured:
    meters = [RedisMeter(server.url) for server in servers]
    with tempfile.TemporaryDirectory() as directory, wf.WorkflowClient(redis_url=url) as client:
        client.ping()
        fleet = Fleet(url, LAYOUT, Path(directory))
        link = SyncLink(url)
        try:
            fleet.start()
            _run(client, link, units // 10)
            before = [meter.read() for meter in meters]
            workers, begun = sum(fleet.cpu_s().values()), time.perf_counter()
            _run(client, link, units)
            seconds = time.perf_counter() - begun
            spent = [m.read().since(b).main_s for m, b in zip(meters, before, strict=True)]
            workers = sum(fleet.cpu_s().values()) - workers
        finally:
            link.close()
            fleet.kill()
            for meter in meters:
                meter.close()
    return Measured(
        name, units / seconds, max(spent) / seconds, sum(spent) / seconds,
        workers / seconds, sum(spent) / units * 1e6,
    )  # fmt: skip


def _run(client: wf.WorkflowClient, link: SyncLink, units: int) -> None:
    before, end = _completed(link), time.monotonic() + PATIENCE_S
    client.schedule_many(chain, range(units))
    while _completed(link) < before + units:
        if time.monotonic() > end:
            raise TimeoutError(f"{units} workflows did not end within {PATIENCE_S:.0f} s")
        time.sleep(0.02)


def _completed(link: SyncLink) -> int:
    space = Namespace()
    counts: list[Any] = link.commands(
        [("ZCARD", space.index(p, "COMPLETED")) for p in range(space.partitions)]
    )
    return sum(counts)
