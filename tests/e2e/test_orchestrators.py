"""Orchestrators share partitions, survive bad workflow code, and finish large dispatches."""

from __future__ import annotations

from functools import partial

import pytest

from tests.e2e.conftest import FleetFor
from tests.e2e.fleet import Fleet, task_results
from tests.servers import Spawned, poll
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

pytestmark = pytest.mark.processes

NAMESPACE = Namespace("default", 16)

APP = """
import os
import time
import wfq as wf

def quick(ctx: wf.WorkflowContext, n: int):
    total = yield ctx.call_activity(double, input=n)
    return total

def spin(ctx: wf.WorkflowContext, _):
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            pass

def poison(ctx: wf.WorkflowContext, _):
    os._exit(3)

def fan(ctx: wf.WorkflowContext, n: int):
    numbers = yield wf.when_all([ctx.call_activity(double, input=i) for i in range(n)])
    return sum(numbers)

def parent(ctx: wf.WorkflowContext, ids: list):
    results = yield wf.when_all(
        [ctx.call_child_workflow(quick, input=n, instance_id=i) for n, i in enumerate(ids)]
    )
    return results

def waiting_parent(ctx: wf.WorkflowContext, ids: list):
    yield wf.when_all([ctx.call_child_workflow(waiter, instance_id=i) for i in ids])

def waiter(ctx: wf.WorkflowContext):
    yield ctx.wait_for_external_event("never")

def double(ctx: wf.ActivityContext, n: int) -> int:
    return 2 * n
"""


def owners(fleet: Fleet) -> list[str]:
    """The owner of each partition of the default queue; "" where there is none."""
    link = SyncLink(fleet.url)
    found = link.commands([("HGET", NAMESPACE.lease(p, "default"), "owner") for p in range(16)])
    link.close()
    return [owner.decode() if isinstance(owner, bytes) else "" for owner in found]


def test_orchestrators_share_the_partitions_as_they_come_and_go(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    first = fleet.worker("orchestrator")
    poll(lambda: all(owners(fleet)), 10)

    second = fleet.worker("orchestrator")
    poll(lambda: sorted(map(owners(fleet).count, set(owners(fleet)))) == [8, 8], 15)

    assert second.stop() == 0
    poll(lambda: set(map(owners(fleet).count, set(owners(fleet)))) == {16}, 10)
    assert first.alive


def test_a_turn_that_never_yields_is_set_aside_and_the_others_go_on(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    fleet.worker(env={"WFQ_TURN_TIMEOUT_S": "0.5"})

    stuck = fleet.client.schedule_new_workflow("spin", instance_id="stuck")
    # Behind it, in the same partition.
    others = [i for i in map(str, range(400)) if same_partition(i, stuck)][:5]
    for number, instance_id in enumerate(others):
        fleet.client.schedule_new_workflow("quick", input=number, instance_id=instance_id)

    assert [fleet.output(i) for i in others] == [2 * n for n in range(len(others))]
    state = poll(lambda: stalled(fleet, stuck), 20)
    assert "did not come back in time" in state


def test_a_turn_that_never_yields_is_tried_once_for_an_event_and_not_for_ever(
    fleet_for: FleetFor,
) -> None:
    fleet = fleet_for(APP)
    worker = fleet.worker(env={"WFQ_TURN_TIMEOUT_S": "0.5"})
    stuck = fleet.client.schedule_new_workflow("spin", instance_id="stuck")
    poll(lambda: stalled(fleet, stuck), 20)
    others = [i for i in map(str, range(400)) if same_partition(i, stuck)][:3]

    fleet.client.raise_workflow_event(stuck, "knock")
    poll(lambda: worker.log().count("aborting it") > 1, 20)
    for number, instance_id in enumerate(others):
        fleet.client.schedule_new_workflow("quick", input=number, instance_id=instance_id)
        assert fleet.output(instance_id) == 2 * number

    assert worker.log().count("aborting it") == 2


def same_partition(a: str, b: str) -> bool:
    return NAMESPACE.partition_of(a) == NAMESPACE.partition_of(b)


def stalled(fleet: Fleet, instance_id: str) -> str:
    """Why the instance is stalled; "" while it is not."""
    state = fleet.client.get_workflow_state(instance_id)
    assert state is not None
    return (state.stalled_reason or "?") if state.runtime_status.name == "STALLED" else ""


@pytest.mark.long
def test_an_instance_that_kills_its_workers_is_set_aside(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    fleet.worker("activity", "scheduler")
    poison = fleet.client.schedule_new_workflow("poison", instance_id="poison")
    others = [i for i in map(str, range(400)) if same_partition(i, poison)][:5]
    for number, instance_id in enumerate(others):
        fleet.client.schedule_new_workflow("quick", input=number, instance_id=instance_id)

    deaths = 0
    while not stalled(fleet, poison):
        assert deaths < 8, "no end to the killing"
        worker = fleet.start("orchestrator")
        poll(partial(has_ended_or_stalled, fleet, worker, poison), 20)
        deaths += not worker.alive

    assert [fleet.output(i) for i in others] == [2 * n for n in range(len(others))]
    assert "ended their worker process" in stalled(fleet, poison)
    assert deaths >= 3


def has_ended_or_stalled(fleet: Fleet, worker: Spawned, instance_id: str) -> bool:
    return not worker.alive or bool(stalled(fleet, instance_id))


def test_a_dispatch_cut_short_by_a_crash_is_finished_by_the_next_owner(
    fleet_for: FleetFor,
) -> None:
    fleet = fleet_for(APP)
    fleet.worker("activity", "scheduler")
    doomed = fleet.worker("orchestrator", env={"WFQ_FAILPOINTS": "orch.after_commit=kill@1"})
    instance_id = fleet.client.schedule_new_workflow("fan", input=3500)
    poll(lambda: not doomed.alive, 15)

    fleet.worker("orchestrator")

    assert fleet.output(instance_id, 60) == sum(2 * n for n in range(3500))
    assert sorted(task_results(fleet.history(instance_id))) == list(range(3500))


def test_children_with_ids_of_their_own_live_in_other_partitions(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    fleet.worker()
    fleet.worker()
    ids = [f"child-{n}" for n in range(20)]
    assert len({NAMESPACE.partition_of(i) for i in ids}) > 5

    instance_id = fleet.client.schedule_new_workflow("parent", input=ids)

    assert fleet.output(instance_id) == [2 * n for n in range(20)]


def test_a_child_id_that_is_taken_fails_in_the_parent(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    fleet.worker()
    fleet.client.schedule_new_workflow("waiter", instance_id="taken")

    instance_id = fleet.client.schedule_new_workflow("parent", input=["free", "taken"])
    state = fleet.client.wait_for_workflow_completion(instance_id, timeout_in_seconds=20)

    assert state is not None
    assert state.runtime_status.name == "FAILED"
    assert state.failure_details is not None
    assert "taken" in state.failure_details.message


def test_terminating_a_tree_ends_the_children_in_other_partitions(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    fleet.worker()
    ids = [f"leaf-{n}" for n in range(10)]
    parent = fleet.client.schedule_new_workflow("waiting_parent", input=ids)

    def all_are(status: str) -> bool:
        states = [fleet.client.get_workflow_state(i) for i in ids]
        return all(s is not None and s.runtime_status.name == status for s in states)

    poll(lambda: all_are("RUNNING"), 15)

    fleet.client.terminate_workflow(parent)

    poll(lambda: all_are("TERMINATED"), 15)
