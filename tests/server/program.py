"""The workflows of the end-to-end tests: the seed's order, and one that waits."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import wfq as wf

app = wf.WorkflowRuntime()


@app.workflow(name="OrderProcessingWorkflow")
def process_order(ctx: wf.WorkflowContext, order: dict[str, Any]) -> Generator[Any, Any, Any]:
    ctx.set_custom_status("checking")
    approval = yield ctx.wait_for_external_event("approval_received")
    yield ctx.call_activity(ship, input=order)
    return {"Processed": bool(approval)}


@app.workflow
def count_down(ctx: wf.WorkflowContext, left: int) -> Generator[Any, Any, Any]:
    yield ctx.wait_for_external_event("next")
    if left <= 1:
        return "done"
    ctx.continue_as_new(left - 1)
    return None


@app.workflow
def failing(ctx: wf.WorkflowContext) -> None:
    raise ValueError("no stock")


@app.activity
def ship(ctx: wf.ActivityContext, order: dict[str, Any]) -> str:
    return str(order["Name"])
