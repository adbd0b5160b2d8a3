"""New code meets running instances: it stalls what does not fit, and heals by itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import FleetFor
from tests.e2e.fleet import Fleet
from tests.servers import poll
from wfq.management.state import WorkflowState

pytestmark = pytest.mark.processes

#: Missing code is an alarm after so long.
IMPATIENT = {"WFQ_UNKNOWN_GRACE_S": "1"}

ORDER = """
import wfq as wf

def order(ctx: wf.WorkflowContext, n: int):
    first = yield ctx.call_activity({first}, input=n)
    yield ctx.wait_for_external_event("go on")
    second = yield ctx.call_activity(charge, input=first)
    return second

def reserve(ctx: wf.ActivityContext, n: int) -> int:
    return n + 1

def check(ctx: wf.ActivityContext, n: int) -> int:
    return n + 1

def charge(ctx: wf.ActivityContext, n: int) -> int:
    return n * 10
"""


def state_of(fleet: Fleet, instance_id: str) -> WorkflowState[Any]:
    state = fleet.client.get_workflow_state(instance_id)
    assert state is not None
    return state


def is_in(fleet: Fleet, instance_id: str, status: str) -> bool:
    return state_of(fleet, instance_id).runtime_status.name == status


def test_code_that_does_not_fit_stalls_the_instance_until_fitting_code_is_back(
    fleet_for: FleetFor,
) -> None:
    fleet = fleet_for(ORDER.format(first="reserve"))
    old = fleet.worker()
    order = fleet.client.schedule_new_workflow("order", input=1)
    poll(lambda: any(e.name == "go on" for e in fleet.history(order)), 15)
    assert old.stop() == 0

    fleet.app.write_text(ORDER.format(first="check"))
    wrong = fleet.worker()
    fleet.client.raise_workflow_event(order, "go on")
    poll(lambda: is_in(fleet, order, "STALLED"), 15)

    reason = state_of(fleet, order).stalled_reason or ""
    for part in ("check", "reserve", "app.py"):
        assert part in reason
    assert wrong.stop() == 0

    # The event that came while it was stalled is not lost.
    fleet.app.write_text(ORDER.format(first="reserve"))
    fleet.worker()
    assert fleet.output(order) == 20


def test_an_instance_whose_workflow_nobody_has_waits_for_it(fleet_for: FleetFor) -> None:
    fleet = fleet_for(ORDER.format(first="reserve").replace("def order", "def other"))
    without = fleet.worker(env=IMPATIENT)
    order = fleet.client.schedule_new_workflow("order", input=1)
    poll(lambda: is_in(fleet, order, "STALLED"), 15)
    assert "'order'" in (state_of(fleet, order).stalled_reason or "")
    fleet.client.raise_workflow_event(order, "go on")
    assert without.stop() == 0

    fleet.app.write_text(ORDER.format(first="reserve"))
    fleet.worker()

    assert fleet.output(order) == 20


VERSIONED = """
import wfq as wf

app = wf.WorkflowRuntime()

{versions}

@app.activity
def mark(ctx: wf.ActivityContext, text: str) -> str:
    return text
"""

VERSION = """
@app.versioned_workflow(name="order", version_name="{name}", is_latest={latest})
def order_{name}(ctx: wf.WorkflowContext, n: int):
    yield ctx.wait_for_external_event("go")
    return (yield ctx.call_activity(mark, input="{name}"))
"""


def test_an_instance_ends_on_the_version_it_started_with(fleet_for: FleetFor) -> None:
    one = VERSION.format(name="v1", latest=True)
    both = VERSION.format(name="v1", latest=False) + VERSION.format(name="v2", latest=True)
    two = VERSION.format(name="v2", latest=True)
    fleet = fleet_for(VERSIONED.format(versions=one))
    first = fleet.worker()
    old = fleet.client.schedule_new_workflow("order", input=1)
    stranded = fleet.client.schedule_new_workflow("order", input=1)
    for instance_id in (old, stranded):
        poll(lambda i=instance_id: len(fleet.history(i)) > 1, 15)  # type: ignore[misc]  # bound now
    assert first.stop() == 0

    fleet.app.write_text(VERSIONED.format(versions=both))
    second = fleet.worker()
    new = fleet.client.schedule_new_workflow("order", input=1)
    for instance_id in (old, new):
        fleet.client.raise_workflow_event(instance_id, "go")
    assert (fleet.output(old), fleet.output(new)) == ("v1", "v2")
    assert second.stop() == 0

    fleet.app.write_text(VERSIONED.format(versions=two))
    fleet.worker(env=IMPATIENT)
    fleet.client.raise_workflow_event(stranded, "go")
    poll(lambda: is_in(fleet, stranded, "STALLED"), 15)
    assert "'v1'" in (state_of(fleet, stranded).stalled_reason or "")
    # Nobody has its code, yet it can be ended.
    fleet.client.terminate_workflow(stranded, output="given up")
    poll(lambda: is_in(fleet, stranded, "TERMINATED"), 15)
