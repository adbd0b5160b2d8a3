"""Long and wide lives: many generations, many children, suspend, terminate, reuse, purge."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

import wfq as wf
from tests.e2e.conftest import FleetFor
from tests.e2e.fleet import Fleet
from tests.servers import poll
from wfq.checker.namespace import check_namespace
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

pytestmark = pytest.mark.processes

NAMESPACE = Namespace("default", 16)

APP = """
import wfq as wf

def countdown(ctx: wf.WorkflowContext, n: int):
    if n == 0:
        return ctx.continued_as_new_count
    if n % 100 == 0:
        yield ctx.call_activity(step, input=n)
    ctx.continue_as_new(n - 1)

def wide(ctx: wf.WorkflowContext, n: int):
    results = yield wf.when_all([ctx.call_child_workflow(leaf, input=i) for i in range(n)])
    return sum(results)

def deep(ctx: wf.WorkflowContext, levels: int):
    if levels == 0:
        return [ctx.instance_id]
    below = yield ctx.call_child_workflow(deep, input=levels - 1)
    return [ctx.instance_id, *below]

def leaf(ctx: wf.WorkflowContext, n: int):
    return n

async def gather(ctx: wf.WorkflowContext, names: list):
    return [await ctx.wait_for_external_event(name) for name in names]

def step(ctx: wf.ActivityContext, n: int) -> int:
    return n
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_thousand_generations_keep_history_and_memory_flat(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    worker = fleet.worker()
    fleet.output(fleet.client.schedule_new_workflow("countdown", input=1000), 60)
    memory = resident_kib(worker.pid)

    instance_id = fleet.client.schedule_new_workflow("countdown", input=10_000)

    assert fleet.output(instance_id, 150) == 10_000
    link = SyncLink(fleet.url)
    assert link.command("LLEN", NAMESPACE.history(instance_id)) <= 3
    link.close()
    assert fleet.client.count_workflows()[wf.WorkflowStatus.COMPLETED] == 2
    # Ten thousand generations of a few KiB each would show.
    assert resident_kib(worker.pid) < memory + 16 * 1024


def status_of(fleet: Fleet, instance_id: str) -> str:
    state = fleet.client.get_workflow_state(instance_id)
    return "" if state is None else state.runtime_status.name


def resident_kib(pid: int) -> int:
    """Memory of a process that is in use, in KiB."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("memory of another process is read from /proc")
    return int(status.read_text().partition("VmRSS:")[2].split()[0])


def test_a_thousand_children_report_to_their_parent(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    fleet.worker()
    fleet.worker()

    instance_id = fleet.client.schedule_new_workflow("wide", input=1000)

    assert fleet.output(instance_id, 50) == sum(range(1000))


def test_children_of_children_live_beside_their_root(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    fleet.worker()

    ids = fleet.output(fleet.client.schedule_new_workflow("deep", input=4))

    assert isinstance(ids, list)
    assert len(set(ids)) == 5
    assert len({NAMESPACE.partition_of(i) for i in ids}) == 1


def test_events_raised_early_late_and_while_suspended_are_taken_in_order(
    fleet_for: FleetFor,
) -> None:
    fleet = fleet_for(APP)
    client = fleet.client
    instance_id = client.schedule_new_workflow("gather", input=["a", "b", "a", "c"])
    client.raise_workflow_event(instance_id, "A", data=1, event_id="first")
    client.raise_workflow_event(instance_id, "a", data=99, event_id="first")
    fleet.worker()
    client.wait_for_workflow_start(instance_id, timeout_in_seconds=15)

    client.pause_workflow(instance_id)
    poll(lambda: client.get_workflow_state(instance_id).runtime_status.name == "SUSPENDED", 15)  # type: ignore[union-attr]  # it exists
    client.raise_workflow_event(instance_id, "a", data=2)
    client.raise_workflow_event(instance_id, "B", data=3)
    client.raise_workflow_event(instance_id, "c")
    client.resume_workflow(instance_id)

    assert fleet.output(instance_id) == [1, 3, 2, None]


def test_a_delayed_start_that_was_suspended_and_resumed_is_pending_again(
    fleet_for: FleetFor,
) -> None:
    fleet = fleet_for(APP)
    client = fleet.client
    delays = {
        "far": timedelta(hours=1),
        "near": timedelta(seconds=2),
        "past": timedelta(seconds=0.3),
    }
    for name, delay in delays.items():
        client.schedule_new_workflow("leaf", input=7, instance_id=name, start_at=delay)
        client.pause_workflow(name)
    fleet.worker()
    link = SyncLink(fleet.url)
    for name in delays:
        poll(lambda name=name: status_of(fleet, name) == "SUSPENDED", 20)  # type: ignore[misc]
    past = NAMESPACE.timers(NAMESPACE.partition_of("past"))
    poll(lambda: not any(b" past " in one for one in link.command("ZRANGE", past, 0, -1)), 20)

    for name in delays:
        client.resume_workflow(name)

    poll(lambda: status_of(fleet, "far") == "PENDING", 20)
    assert "far" in [one.instance_id for one in client.list_workflows(status="PENDING").items]
    assert [fleet.output(name) for name in ("past", "near")] == [7, 7]
    assert check_namespace(link, NAMESPACE).ok
    client.pause_workflow("far")
    poll(lambda: status_of(fleet, "far") == "SUSPENDED", 20)
    client.resume_workflow("far")
    poll(lambda: status_of(fleet, "far") == "PENDING", 20)
    client.terminate_workflow("far")
    poll(lambda: status_of(fleet, "far") == "TERMINATED", 20)
    after = check_namespace(link, NAMESPACE)
    link.close()
    assert after.ok, str(after)


def test_a_finished_id_can_be_used_again_and_a_live_one_cannot(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    client = fleet.client
    fleet.worker()
    client.schedule_new_workflow("leaf", input=1, instance_id="order-7")
    assert fleet.output("order-7") == 1

    client.schedule_new_workflow("gather", input=["go"], instance_id="order-7")
    with pytest.raises(wf.InstanceAlreadyExists, match="order-7"):
        client.schedule_new_workflow("leaf", input=2, instance_id="order-7")
    client.raise_workflow_event("order-7", "go", data="x")
    assert fleet.output("order-7") == ["x"]

    with pytest.raises(wf.InstanceFinished, match="order-7"):
        client.raise_workflow_event("order-7", "go")
    client.purge_workflow("order-7")
    assert client.get_workflow_state("order-7") is None
    with pytest.raises(wf.InstanceNotFound, match="order-7"):
        client.raise_workflow_event("order-7", "go")


FAILING = """
import wfq as wf

def broken(ctx: wf.WorkflowContext, n: int):
    yield ctx.call_activity(step, input=n)
    raise ValueError("no\\nway")

def step(ctx: wf.ActivityContext, n: int) -> int:
    return n
"""


def test_a_workflow_that_fails_is_one_line_of_the_log(fleet_for: FleetFor) -> None:
    fleet = fleet_for(FAILING)
    worker = fleet.worker()

    fleet.client.schedule_new_workflow("broken", input=1, instance_id="order-7")
    fleet.client.wait_for_workflow_completion("order-7", timeout_in_seconds=30)

    said = worker.wait_for_log("instance order-7 failed: ValueError: no way")
    assert [line for line in said.splitlines() if "order-7" in line] == [
        line for line in said.splitlines() if "failed: ValueError" in line
    ]
