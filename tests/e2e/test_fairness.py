"""Work is shared fairly: over partitions, and over workers that come and go under load."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.e2e.conftest import FleetFor
from tests.e2e.fleet import Fleet
from tests.servers import poll
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

NAMESPACE = Namespace("default", 16)

APP = """
import os
import time
import wfq as wf

def fan(ctx: wf.WorkflowContext, n: int):
    done = yield wf.when_all([ctx.call_activity(slow, input=i) for i in range(n)])
    return len(done)

def one(ctx: wf.WorkflowContext):
    return (yield ctx.call_activity(quick))

def slow(ctx: wf.ActivityContext, n: int) -> int:
    time.sleep(0.03)
    return os.getpid()

def quick(ctx: wf.ActivityContext):
    return os.getpid()
"""


def id_in(partition: int, prefix: str) -> str:
    """An id whose instance lives in the partition."""
    return next(i for i in (f"{prefix}{n}" for n in range(10_000))
                if NAMESPACE.partition_of(i) == partition)  # fmt: skip


def test_no_partition_starves_behind_anothers_backlog(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    fleet.worker("orchestrator", "scheduler")
    fleet.worker("activity", env={"WFQ_CONCURRENCY": "2"})
    busy = fleet.client.schedule_new_workflow("fan", input=3000, instance_id=id_in(3, "busy"))
    link = SyncLink(fleet.url)
    activities = NAMESPACE.activities(3, "default")
    poll(lambda: link.command("XLEN", activities) > 100, 20)

    others = [id_in(p, "other") for p in range(16) if p != 3]
    begun = time.monotonic()
    for instance_id in others:
        fleet.client.schedule_new_workflow("one", instance_id=instance_id)
    for instance_id in others:
        assert fleet.output(instance_id, 30)
    seconds = time.monotonic() - begun

    # Had they waited for the backlog, it would be gone.
    assert link.command("XLEN", activities) > 100
    assert seconds < 30
    link.close()
    fleet.client.terminate_workflow(busy)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["one server", "cluster"])
def test_work_moves_within_seconds_as_workers_come_and_go(
    request: pytest.FixtureRequest, kind: str
) -> None:
    name = "fleet_for" if kind == "one server" else "cluster_fleet_for"
    fleet = request.getfixturevalue(name)(APP)
    few = {"WFQ_CONCURRENCY": "12"}  # so that the work lasts
    first = fleet.worker(env=few)
    ids = [fleet.client.schedule_new_workflow("fan", input=250) for _ in range(16)]
    poll(lambda: set(shares(fleet)) == {16}, 15)

    second = fleet.worker(env=few)
    poll(lambda: works(fleet, second.pid), 15)
    poll(lambda: sorted(shares(fleet)) == [8, 8], 15)
    first.kill()
    poll(lambda: set(shares(fleet)) == {16}, 15)

    assert [fleet.output(i, 60) for i in ids] == [250] * 16
    assert second.alive


def shares(fleet: Fleet) -> list[int]:
    """How many partitions each orchestrator owns; -1 among them while one has no owner."""
    link = SyncLink(fleet.url)
    found = link.commands([("HGET", NAMESPACE.lease(p, "default"), "owner") for p in range(16)])
    link.close()
    return [-1] if None in found else list(Counter(found).values())


def works(fleet: Fleet, pid: int) -> bool:
    """Whether the process holds attempts of activities."""
    link = SyncLink(fleet.url)
    groups = [NAMESPACE.activities(p, "default") for p in range(16)]
    rows = link.try_commands([("XINFO", "CONSUMERS", key, "activities") for key in groups])
    link.close()
    return any(
        f"-{pid}-".encode() in row[1] and row[3]  # name and pending entries
        for consumers in rows
        if isinstance(consumers, list)
        for row in consumers
    )
