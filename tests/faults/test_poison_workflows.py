"""Workflow code that ends, or never gives back, the process that runs it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.e2e.conftest import FleetFor
from tests.e2e.fleet import Fleet
from tests.servers import Spawned, poll
from wfq.storage.keys import Namespace

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

NAMESPACE = Namespace("default", 16)

#: `flag` is a file; what a workflow does depends on whether it is there.
APP = """
import os
import time
import wfq as wf

FLAG = {flag!r}

def quick(ctx: wf.WorkflowContext, n: int):
    total = yield ctx.call_activity(double, input=n)
    return total

def poison(ctx: wf.WorkflowContext):
    if os.path.exists(FLAG):
        os._exit(3)
    found = yield ctx.wait_for_external_event("go")
    return found

def spin(ctx: wf.WorkflowContext):
    while os.path.exists(FLAG):
        try:
            time.sleep(0.01)
        except BaseException:
            pass
    found = yield ctx.wait_for_external_event("go")
    return found

def spin_in_loading(ctx: wf.WorkflowContext):
    while os.path.exists(FLAG):
        time.sleep(0.01)
    found = yield ctx.wait_for_external_event("go")
    return found

def innocent(ctx: wf.WorkflowContext):
    first = yield ctx.wait_for_external_event("go")
    second = yield ctx.call_activity(double, input=first)
    return second

def double(ctx: wf.ActivityContext, n: int) -> int:
    return 2 * n
"""


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    return tmp_path / "flag"


@pytest.fixture
def fleet(fleet_for: FleetFor, flag: Path) -> Fleet:
    fleet = fleet_for(APP.format(flag=str(flag)))
    fleet.worker("activity", "scheduler")
    return fleet


def stalled(fleet: Fleet, instance_id: str) -> str:
    """Why the instance is stalled; "" while it is not."""
    state = fleet.client.get_workflow_state(instance_id)
    assert state is not None
    return (state.stalled_reason or "?") if state.runtime_status.name == "STALLED" else ""


def waits(fleet: Fleet, instance_id: str) -> bool:
    """Whether the instance has had its first turn."""
    state = fleet.client.get_workflow_state(instance_id)
    return state is not None and state.runtime_status.name == "RUNNING"


def neighbours(instance_id: str, count: int) -> list[str]:
    """Ids that live in the partition of `instance_id`."""
    home = NAMESPACE.partition_of(instance_id)
    ids = (f"n{n}" for n in range(10_000))
    return [i for i in ids if NAMESPACE.partition_of(i) == home][:count]


def burn_workers(fleet: Fleet, instance_id: str) -> Spawned:
    """Start orchestrators until the instance is set aside; return the one that lives."""
    for _ in range(8):
        worker = fleet.start("orchestrator")
        poll(partial(_ended_or_stalled, fleet, worker, instance_id), 20)
        if worker.alive:
            return worker
    raise AssertionError("no end to the killing")


def _ended_or_stalled(fleet: Fleet, worker: Spawned, instance_id: str) -> bool:
    return not worker.alive or bool(stalled(fleet, instance_id))


def serve(fleet: Fleet, ids: list[str]) -> None:
    for number, instance_id in enumerate(ids):
        fleet.client.schedule_new_workflow("quick", input=number, instance_id=instance_id)
    assert [fleet.output(i) for i in ids] == [2 * n for n in range(len(ids))]


@pytest.mark.long
def test_an_instance_that_kills_its_workers_kills_no_later_owner(fleet: Fleet, flag: Path) -> None:
    flag.touch()
    fleet.client.schedule_new_workflow("poison", instance_id="poison")
    first = burn_workers(fleet, "poison")
    assert "ended their worker process" in stalled(fleet, "poison")

    # Its partition changes hands, in good order and by a crash.
    second = fleet.worker("orchestrator")
    serve(fleet, neighbours("poison", 3))
    first.kill()
    serve(fleet, neighbours("poison", 6)[3:])
    third = fleet.worker("orchestrator")
    assert second.stop() == 0
    serve(fleet, neighbours("poison", 9)[6:])

    assert third.alive
    assert "ended their worker process" in stalled(fleet, "poison")


def test_a_set_aside_instance_is_tried_again_when_somebody_resumes_it(
    fleet: Fleet, flag: Path
) -> None:
    flag.touch()
    fleet.client.schedule_new_workflow("poison", instance_id="poison")
    burn_workers(fleet, "poison")

    flag.unlink()
    fleet.client.raise_workflow_event("poison", "go", data="went")
    fleet.client.resume_workflow("poison")

    assert fleet.output("poison") == "went"


@pytest.mark.long
def test_an_instance_that_kills_whoever_loads_it_is_found_out(fleet: Fleet, flag: Path) -> None:
    before = fleet.worker("orchestrator")
    fleet.client.schedule_new_workflow("poison", instance_id="poison")
    poll(lambda: waits(fleet, "poison"), 15)
    before.kill()
    # As after a deploy: the code now dies in a part that was run before.
    flag.touch()
    fleet.client.raise_workflow_event("poison", "go", data="went")

    survivor = burn_workers(fleet, "poison")
    serve(fleet, neighbours("poison", 3))

    assert survivor.alive
    assert "ended their worker process" in stalled(fleet, "poison")


def test_an_innocent_instance_is_not_blamed_for_one_crash(fleet: Fleet) -> None:
    ids = neighbours("poison", 6)
    for instance_id in ids:
        fleet.client.schedule_new_workflow("innocent", instance_id=instance_id)
    # Two owners in a row die with events to work on and without a commit, for no fault of theirs.
    for point in ("orch.after_read", "orch.after_load"):
        doomed = fleet.start("orchestrator", env={"WFQ_FAILPOINTS": f"{point}=kill@1"})
        poll(partial(_is_dead, doomed), 20)

    fleet.worker("orchestrator")

    for instance_id in ids:
        poll(partial(waits, fleet, instance_id), 15)
        fleet.client.raise_workflow_event(instance_id, "go", data=21)
    assert [fleet.output(i) for i in ids] == [42] * 6


def _is_dead(worker: Spawned) -> bool:
    return not worker.alive


@pytest.mark.parametrize("name", [pytest.param("spin", marks=pytest.mark.long), "spin_in_loading"])
def test_code_that_never_gives_back_does_not_hold_its_partition(
    fleet: Fleet, flag: Path, name: str
) -> None:
    before = fleet.worker("orchestrator")
    fleet.client.schedule_new_workflow(name, instance_id="spin")
    poll(lambda: waits(fleet, "spin"), 15)
    before.kill()
    flag.touch()
    fleet.client.raise_workflow_event("spin", "go", data="went")

    # It may end its worker, which cannot stop it otherwise; its supervisor starts another.
    ids = neighbours("spin", 3)
    for number, instance_id in enumerate(ids):
        fleet.client.schedule_new_workflow("quick", input=number, instance_id=instance_id)
    for _ in range(8):
        worker = fleet.start("orchestrator", env={"WFQ_TURN_TIMEOUT_S": "0.5"})
        poll(partial(_ended_or_stalled, fleet, worker, "spin"), 30)
        if worker.alive:
            break
    assert [fleet.output(i) for i in ids] == [0, 2, 4]
    assert stalled(fleet, "spin")
