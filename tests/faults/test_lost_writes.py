"""Failovers that lose writes for certain: the promoted replica had been cut off before.

What was acknowledged in between is gone. Workers say so, go on from what there is, and put right
what is torn between the nodes of a cluster; nobody repairs by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial

import pytest

from tests.e2e.conftest import FleetFor
from tests.e2e.fleet import Fleet
from tests.groups import ClusterGroup, SentinelGroup, TcpServer
from tests.servers import WHY_SKIPPED, Processes, find_binary, poll
from wfq.checker.namespace import check_namespace
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

NAMESPACE = Namespace("default", 16)

APP = """
import wfq as wf

def waiter(ctx: wf.WorkflowContext):
    first = yield ctx.wait_for_external_event("first")
    return [first, (yield ctx.wait_for_external_event("second"))]

def parent(ctx: wf.WorkflowContext, ids: list):
    yield ctx.wait_for_external_event("begin")
    return (yield wf.when_all([ctx.call_child_workflow(waiter, instance_id=i) for i in ids]))
"""


@pytest.fixture(autouse=True)
def _valkey() -> None:
    if find_binary("valkey") is None:
        pytest.skip(WHY_SKIPPED["valkey"])


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    made = SentinelGroup()
    yield made
    made.close()


@pytest.fixture
def wide() -> Iterator[ClusterGroup]:
    """Three masters with a replica each."""
    made = ClusterGroup(replicas=1)
    yield made
    made.close()


def cut_off(master: TcpServer, replicas: Sequence[TcpServer]) -> None:
    """Let replicas get nothing more from their master, though it answers everybody else."""
    for replica in replicas:
        replica.ask("CONFIG", "SET", "masteruser", "nobody", "masterauth", "none")
    master.ask("CLIENT", "KILL", "TYPE", "replica")
    poll(lambda: master.ask("INFO", "replication")["connected_slaves"] == 0, 10)


def reconnect(servers: Sequence[TcpServer]) -> None:
    for server in servers:
        server.ask("CONFIG", "SET", "masteruser", "", "masterauth", "")


def state_of(fleet: Fleet, instance_id: str) -> str:
    state = fleet.client.get_workflow_state(instance_id)
    return "" if state is None else state.runtime_status.name


def is_running(fleet: Fleet, instance_id: str) -> bool:
    return state_of(fleet, instance_id) == "RUNNING"


def has_begun(fleet: Fleet, instance_id: str) -> bool:
    return len(fleet.history(instance_id)) > 1


def check(fleet: Fleet) -> None:
    link = SyncLink(fleet.url)
    report = check_namespace(link, NAMESPACE, quiet=True)
    link.close()
    assert report.ok, str(report)


def test_a_group_that_lost_writes_goes_on_from_what_is_left(
    group: SentinelGroup, sentinel_fleet_for: FleetFor, processes: Processes
) -> None:
    fleet = Fleet(group.url, sentinel_fleet_for(APP).app, processes)
    worker = fleet.worker()
    kept = fleet.client.schedule_new_workflow("waiter", instance_id="kept")
    fleet.client.raise_workflow_event(kept, "first", data=1)
    poll(lambda: len(fleet.history(kept)) > 2, 20)
    old, replicas = group.master, [s for s in group.servers if s is not group.master]
    poll(lambda: old.ask("WAIT", len(replicas), 500) == len(replicas), 20)

    cut_off(old, replicas)
    fleet.client.raise_workflow_event(kept, "second", data=2)
    assert fleet.output(kept) == [1, 2]
    lost = fleet.client.schedule_new_workflow("waiter", instance_id="lost")
    poll(lambda: state_of(fleet, lost) == "RUNNING", 20)
    old.kill()
    group.wait_for_failover(old)
    reconnect(replicas)

    assert poll(lambda: state_of(fleet, kept), 30) == "RUNNING"
    assert state_of(fleet, lost) == ""
    fleet.client.raise_workflow_event(kept, "second", data=3)
    assert fleet.output(kept, 40) == [1, 3]
    again = fleet.client.schedule_new_workflow("waiter", instance_id="lost")
    for name in ("first", "second"):
        fleet.client.raise_workflow_event(again, name, data=name)
    assert fleet.output(again, 40) == ["first", "second"]
    number = NAMESPACE.partition_of("kept")
    assert worker.log().count(f"partition {number} has lost what was committed last") == 1
    assert "Traceback" not in worker.log()
    check(fleet)
    fleet.close()


@pytest.mark.long
def test_a_shard_that_lost_writes_is_reconciled_with_the_others(
    wide: ClusterGroup, cluster_fleet_for: FleetFor, processes: Processes
) -> None:
    fleet = Fleet(wide.url, cluster_fleet_for(APP).app, processes)
    worker = fleet.worker()

    def shard(instance_id: str) -> TcpServer:
        return wide.owner(NAMESPACE.timers(NAMESPACE.partition_of(instance_id)))

    failing = next(node for node in wide.masters if node is not wide.owner(NAMESPACE.meta))
    here = next(f"p{n}" for n in range(99) if shard(f"p{n}") is failing)
    there = next(f"p{n}" for n in range(99) if shard(f"p{n}") is not failing)
    away = [i for i in (f"c{n}" for n in range(99)) if shard(i) is not failing][:2]
    lost = [i for i in (f"d{n}" for n in range(99)) if shard(i) is failing][:2]
    for parent, children in ((here, away), (there, lost)):
        fleet.client.schedule_new_workflow("parent", input=children, instance_id=parent)
        poll(partial(has_begun, fleet, parent), 20)
    lives = [("GET", NAMESPACE.life(number)) for number in range(NAMESPACE.partitions)]
    with closing(SyncLink(fleet.url)) as link:
        poll(lambda: all(link.commands(lives)), 20)
    replica = wide.replicas[wide.masters.index(failing)]
    poll(lambda: failing.ask("WAIT", 1, 500) == 1, 20)

    # One parent forgets its children, the other one's children are forgotten.
    cut_off(failing, [replica])
    for parent in (here, there):
        fleet.client.raise_workflow_event(parent, "begin", data=0)
    for child in (*away, *lost):
        poll(partial(is_running, fleet, child), 20)
        fleet.client.raise_workflow_event(child, "first", data=child)
    failing.kill()
    poll(lambda: replica.role == "master", 30)
    reconnect([replica])

    fleet.client.raise_workflow_event(here, "begin", data=0)
    for child in away:
        fleet.client.raise_workflow_event(child, "second", data=2)
    assert fleet.output(here, 60) == [[child, 2] for child in away]
    for child in lost:
        poll(partial(is_running, fleet, child), 60)
        for name in ("first", "second"):
            fleet.client.raise_workflow_event(child, name, data=name)
    assert fleet.output(there, 60) == [["first", "second"]] * 2
    poll(lambda: "put back" in worker.log(), 30)
    assert worker.log().count("were started again, replaced or emptied") == 1
    assert "Traceback" not in worker.log()
    check(fleet)
    fleet.close()
