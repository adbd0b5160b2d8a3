"""Sentinel groups and clusters under faults: failover, split brain, moving slots, lost nodes.

The rounds of the campaign take most of a minute and are a step of their own in CI, as those of
`test_campaign` are; the rest runs with every run of the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.chaos.campaign import Options, run
from tests.chaos.groups import SAFE
from tests.chaos.nemesis import Fault
from tests.e2e.conftest import FleetFor
from tests.e2e.fleet import Fleet
from tests.groups import ClusterGroup, SentinelGroup
from tests.servers import WHY_SKIPPED, Processes, find_binary, poll
from wfq.checker.namespace import check_namespace
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

NAMESPACE = Namespace("default", 16)
AOF = ("--appendonly", "yes")

APP = """
import wfq as wf

def chain(ctx: wf.WorkflowContext, steps: int):
    total = 0
    for step in range(steps):
        total = yield ctx.call_activity(add, input=[total, step])
    return total

def waiter(ctx: wf.WorkflowContext):
    return (yield ctx.wait_for_external_event("go"))

def parent(ctx: wf.WorkflowContext, ids: list):
    return (yield wf.when_all([ctx.call_child_workflow(waiter, instance_id=i) for i in ids]))

def family(ctx: wf.WorkflowContext, ids: list):
    kids = [ctx.call_child_workflow(chain, input=3, instance_id=i) for i in ids]
    for i in ids:
        ctx.send_event("collector", "hello", i)
    return (yield wf.when_all(kids))

def collector(ctx: wf.WorkflowContext, count: int):
    found = []
    for _ in range(count):
        found.append((yield ctx.wait_for_external_event("hello")))
    return sorted(found)

def add(ctx: wf.ActivityContext, pair: list):
    return pair[0] + pair[1]
"""


def needs_valkey() -> None:
    if find_binary("valkey") is None:
        pytest.skip(WHY_SKIPPED["valkey"])


@pytest.fixture
def lone_cluster() -> Iterator[ClusterGroup]:
    """Three masters of this test's own, without replicas."""
    needs_valkey()
    group = ClusterGroup(options=AOF)
    yield group
    group.close()


@pytest.fixture
def own_group() -> Iterator[SentinelGroup]:
    """A Sentinel group of this test's own, set up as docs/scaling.md says."""
    needs_valkey()
    group = SentinelGroup(options=[*AOF, *SAFE], replicas=2)
    yield group
    group.close()


def on(url: str, like: Fleet, processes: Processes) -> Fleet:
    """The same app on another server."""
    return Fleet(url, like.app, processes)


def test_work_goes_on_at_the_promoted_replica(
    own_group: SentinelGroup, sentinel_fleet_for: FleetFor, processes: Processes
) -> None:
    fleet = on(own_group.url, sentinel_fleet_for(APP), processes)
    worker = fleet.worker()
    waiting = fleet.client.schedule_new_workflow("waiter", instance_id="waits")
    assert fleet.output(fleet.client.schedule_new_workflow("chain", input=3)) == 3
    old = own_group.master
    poll(lambda: old.ask("WAIT", 2, 500) == 2, 20)

    old.kill()
    own_group.wait_for_failover(old)
    old.start()  # as an operator's supervisor would; it becomes the replica

    fleet.client.raise_workflow_event(waiting, "go", data=5)
    assert fleet.output(waiting, 40) == 5
    assert fleet.output(fleet.client.schedule_new_workflow("chain", input=5), 40) == 10
    assert worker.alive
    assert "Traceback" not in worker.log()
    fleet.close()


@pytest.mark.long
def test_a_node_without_a_replica_holds_up_only_its_own_partitions(
    lone_cluster: ClusterGroup, cluster_fleet_for: FleetFor, processes: Processes
) -> None:
    cluster = lone_cluster
    fleet = on(cluster.url, cluster_fleet_for(APP), processes)
    worker = fleet.worker()
    # The node that holds what the namespace has in common may be missing, too.
    lost = cluster.owner(NAMESPACE.meta)
    ids = [f"i{n}" for n in range(60)]
    node = {i: cluster.owner(NAMESPACE.timers(NAMESPACE.partition_of(i))) for i in ids}
    assert fleet.output(fleet.client.schedule_new_workflow("chain", input=3)) == 3
    for i in ids:
        fleet.client.schedule_new_workflow("waiter", instance_id=i)

    lost.kill()

    here = [i for i in ids if node[i] is not lost]
    there = [i for i in ids if node[i] is lost]
    assert here
    assert there
    for i in here:
        fleet.client.raise_workflow_event(i, "go", data=i)
    assert [fleet.output(i, 40) for i in here] == here
    lost.start()
    cluster.wait_healed()
    for i in there:
        fleet.client.raise_workflow_event(i, "go", data=i)
    assert [fleet.output(i, 40) for i in there] == there
    assert worker.alive
    assert "Traceback" not in worker.log()
    fleet.close()


@pytest.mark.parametrize("point", ["before_deliver", "after_deliver", "after_trim"])
def test_a_forwarder_that_dies_at_any_step_loses_and_doubles_nothing(
    cluster: ClusterGroup, cluster_fleet_for: FleetFor, point: str
) -> None:
    fleet = cluster_fleet_for(APP)
    fleet.worker("orchestrator", "activity")
    doomed = fleet.worker("scheduler", env={"WFQ_FAILPOINTS": f"sched.{point}=kill@2"})
    ids = [f"{point}-{n}" for n in range(12)]
    nodes = {cluster.owner(NAMESPACE.timers(NAMESPACE.partition_of(i))).port for i in ids}
    assert len(nodes) == 3

    collector = fleet.client.schedule_new_workflow(
        "collector", input=len(ids), instance_id="collector"
    )
    family = fleet.client.schedule_new_workflow("family", input=ids)
    poll(lambda: not doomed.alive, 20)
    fleet.worker("scheduler")

    assert fleet.output(family, 40) == [3] * len(ids)
    assert fleet.output(collector, 40) == sorted(ids)
    link = SyncLink(fleet.url)
    report = check_namespace(link, NAMESPACE)
    link.close()
    assert report.ok, report.violations


def test_a_tree_over_all_nodes_is_terminated_and_purged_as_a_whole(
    cluster: ClusterGroup, cluster_fleet_for: FleetFor
) -> None:
    fleet = cluster_fleet_for(APP)
    fleet.worker()
    ids = [f"leaf-{n}" for n in range(10)]
    parent = fleet.client.schedule_new_workflow("parent", input=ids)

    def all_are(status: str) -> bool:
        states = [fleet.client.get_workflow_state(i) for i in ids]
        return all(state is not None and state.runtime_status.name == status for state in states)

    poll(lambda: all_are("RUNNING"), 20)
    fleet.client.terminate_workflow(parent)
    poll(lambda: all_are("TERMINATED"), 20)
    fleet.client.wait_for_workflow_completion(parent, timeout_in_seconds=20)
    fleet.client.purge_workflow(parent)

    assert [fleet.client.get_workflow_state(i) for i in [parent, *ids]] == [None] * 11


def test_a_child_whose_shard_was_emptied_is_started_again(
    cluster: ClusterGroup, cluster_fleet_for: FleetFor
) -> None:
    # The worst rollback of one shard while the others went on: to nothing. Nobody repairs it by
    # hand: the workers notice.
    fleet = cluster_fleet_for(APP)
    worker = fleet.worker()
    home = cluster.owner(NAMESPACE.timers(NAMESPACE.partition_of("parent")))
    child = next(
        f"child-{n}" for n in range(100)
        if cluster.owner(NAMESPACE.timers(NAMESPACE.partition_of(f"child-{n}")))
        not in (home, cluster.owner(NAMESPACE.meta))
    )  # fmt: skip
    fleet.client.schedule_new_workflow("parent", input=[child], instance_id="parent")
    link = SyncLink(fleet.url)
    # Born, and its first turn committed: only then is there a position to lose.
    poll(lambda: link.command("LLEN", NAMESPACE.history(child)) == 2, 20)

    cluster.owner(NAMESPACE.timers(NAMESPACE.partition_of(child))).flush()
    assert fleet.client.get_workflow_state(child) is None
    report = check_namespace(link, NAMESPACE)
    assert [v.invariant for v in report.violations] == ["W5"]

    poll(lambda: fleet.client.get_workflow_state(child) is not None, 60)
    fleet.client.raise_workflow_event(child, "go", data=7)
    assert fleet.output("parent", 30) == [7]
    after = check_namespace(link, NAMESPACE)
    link.close()
    assert after.ok, str(after)
    number = NAMESPACE.partition_of(child)
    assert worker.log().count(f"partition {number} has lost what was committed last") == 1


def strikes(*kinds: str, every_s: float = 5.0, seconds: float = 2.0) -> tuple[Fault, ...]:
    """Faults of these kinds in turn, on servers of different partitions."""
    return tuple(
        Fault(2.0 + every_s * n, kind, "", seconds, 3 * n + 1) for n, kind in enumerate(kinds)
    )


ROUNDS = {
    "sentinel: failover under load": Options(
        seed=5, seconds=14.0, on="sentinel", plan=strikes("node kill", "node kill", every_s=7.0)
    ),
    "sentinel: the old master comes back": Options(
        seed=5, seconds=16.0, on="sentinel", plan=strikes("node freeze", seconds=3.0)
    ),
    "cluster: failover under load": Options(
        seed=5, seconds=14.0, on="cluster", plan=strikes("node kill", "node kill", every_s=7.0)
    ),
    "cluster: the old master comes back": Options(
        seed=5, seconds=16.0, on="cluster", plan=strikes("node freeze", seconds=3.0)
    ),
    "cluster: slots move under load": Options(
        seed=5, seconds=14.0, on="cluster", plan=strikes(*["slot move"] * 8, every_s=1.3)
    ),
}


@pytest.mark.campaign
@pytest.mark.parametrize("name", ROUNDS)
def test_a_group_under_faults_keeps_every_invariant(name: str) -> None:
    needs_valkey()
    options = ROUNDS[name]

    report = run(replace(options, lossy=True, per_second=15.0))

    assert report.ok, str(report)
    assert report.counts["instances"] > 60
    assert sum(n for kind, n in report.faults.items() if "(" not in kind) > 0, report.faults
