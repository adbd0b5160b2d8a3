"""The Python of the Dapr document, as printed but for its imports, on real worker processes."""

from __future__ import annotations

import re
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from tests.e2e.conftest import FleetFor
from tests.servers import poll

SEED = Path(__file__).parents[2].parent / "shared" / "seed" / "workflow-patterns.md"

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not SEED.exists(), reason=f"the document is not here: {SEED.name}"),
]


@cache
def block(containing: str) -> str:
    """The one Python block with this text, its import lines changed to wfq's."""
    found = [
        b for b in re.findall(r"```python\n(.*?)```", SEED.read_text(), re.S) if containing in b
    ]
    assert len(found) == 1
    source: str = found[0].replace("import dapr.ext.workflow as wf", "import wfq as wf")
    return source.replace(
        "from dapr.clients import DaprClient", "from wfq.compat import DaprClient"
    )


def code(containing: str) -> CodeType:
    """A block compiled as a program of its own, without this module's `__future__`."""
    return compile(block(containing), "workflow-patterns.md", "exec", dont_inherit=True)


def test_task_chaining_gives_43_86_84(fleet_for: FleetFor) -> None:
    fleet = fleet_for(block("task_chain_workflow"))
    workers = [fleet.worker(), fleet.worker()]

    instance_id = fleet.client.schedule_new_workflow("task_chain_workflow", input=42)

    assert fleet.output(instance_id) == [43, 86, 84]
    said = "".join(worker.log() for worker in workers)
    for line in ("Step 1: Received input: 42.", "Step 2: Received input: 43.",
                 "Step 3: Received input: 86."):  # fmt: skip
        assert said.count(line) == 1


def test_a_failing_chain_runs_its_error_handler_and_fails(fleet_for: FleetFor) -> None:
    fleet = fleet_for(block("task_chain_workflow").replace("activity_input * 2", "1 // 0"))
    worker = fleet.worker()

    instance_id = fleet.client.schedule_new_workflow("task_chain_workflow", input=42)
    state = fleet.client.wait_for_workflow_completion(instance_id, timeout_in_seconds=30)

    assert state is not None
    assert state.runtime_status.name == "FAILED"
    assert state.failure_details is not None
    assert "step2" in state.failure_details.message
    assert worker.log().count("Executing error handler: ") == 1


def test_fan_out_adds_up_all_items(fleet_for: FleetFor) -> None:
    # The document's work items take five seconds each; here they take a hundredth of that.
    fleet = fleet_for(block("batch_processing_workflow").replace("sleep(5)", "sleep(0.05)"))
    workers = [fleet.worker(), fleet.worker()]

    instance_id = fleet.client.schedule_new_workflow("batch_processing_workflow", input=10)
    fleet.output(instance_id)

    said = "".join(worker.log() for worker in workers)
    assert said.count("Final result: 110.") == 1
    assert said.count("processed. Result: ") == 10


def test_the_monitor_continues_as_new_with_both_intervals(fleet_for: FleetFor) -> None:
    source = block("status_monitor_workflow")
    # Two answers in turn instead of chance; seconds become hundredths.
    source = source.replace("timedelta(seconds=", "timedelta(milliseconds=10*")
    source = source.replace(
        'return random.choice(["healthy", "unhealthy"])',
        'return "unhealthy" if _["is_healthy"] else "healthy"',
    )
    fleet = fleet_for(source)
    workers = [fleet.worker(), fleet.worker()]

    job = {"job_id": "job-1", "is_healthy": True}
    instance_id = fleet.client.schedule_new_workflow("status_monitor_workflow", input=job)

    def said() -> str:
        return "".join(worker.log() for worker in workers)

    poll(lambda: said().count("*** Alert: Job 'job-1' is unhealthy!") >= 3, 30)
    assert said().count("Job 'job-1' is healthy.") >= 2
    state = fleet.client.get_workflow_state(instance_id)
    assert state is not None
    assert state.runtime_status.name == "RUNNING"
    fleet.client.terminate_workflow(instance_id)
    fleet.client.wait_for_workflow_completion(instance_id, timeout_in_seconds=10)


def order(cost: float) -> dict[str, Any]:
    return {"cost": cost, "product": "paperclips", "quantity": 3}


def test_a_small_order_is_approved_automatically(fleet_for: FleetFor) -> None:
    fleet = fleet_for(block("purchase_order_workflow"))
    fleet.worker()

    instance_id = fleet.client.schedule_new_workflow("purchase_order_workflow", input=order(999))

    assert fleet.output(instance_id) == "Auto-approved"


def test_a_large_order_waits_for_the_documents_client_to_approve(
    fleet_for: FleetFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = fleet_for(block("purchase_order_workflow"))
    workers = [fleet.worker(), fleet.worker()]
    instance_id = fleet.client.schedule_new_workflow("purchase_order_workflow", input=order(1000))
    poll(lambda: "*** Sending approval request for order: paperclips (3)"
         in "".join(worker.log() for worker in workers), 15)  # fmt: skip

    # The document's client code runs where `Approval` and `instance_id` are known.
    monkeypatch.setenv("WFQ_REDIS_URL", fleet.url)
    program: dict[str, Any] = {"__name__": "client"}
    exec(code("purchase_order_workflow"), program)
    program["instance_id"] = instance_id
    exec(code("d.raise_workflow_event"), program)

    assert fleet.output(instance_id) == "Approved by 'Jane Doe'"
    assert asdict(program["Approval"]("x")) == {"approver": "x"}
    assert "".join(worker.log() for worker in workers).count("*** Placing order: ") == 1


def test_a_large_order_is_cancelled_when_nobody_answers(fleet_for: FleetFor) -> None:
    source = block("purchase_order_workflow").replace("hours=24", "milliseconds=300")
    fleet = fleet_for(source)
    fleet.worker()

    instance_id = fleet.client.schedule_new_workflow("purchase_order_workflow", input=order(1000))

    assert fleet.output(instance_id) == "Cancelled"
