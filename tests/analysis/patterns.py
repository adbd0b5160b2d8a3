"""Workflows of the five patterns, to be drawn."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import wfq as wf

app = wf.WorkflowRuntime()


@app.workflow
def task_chain_workflow(ctx: wf.WorkflowContext, wf_input: int):
    """Three steps, and one that cleans up."""
    try:
        result1 = yield ctx.call_activity(step1, input=wf_input)
        result2 = yield ctx.call_activity(step2, input=result1)
        result3 = yield ctx.call_activity(step3, input=result2)
    except Exception as e:
        yield ctx.call_activity(error_handler, input=str(e))
        raise
    return [result1, result2, result3]


@app.activity
def step1(ctx: wf.ActivityContext, given: int) -> int:
    return given + 1


@app.activity
def step2(ctx: wf.ActivityContext, given: int) -> int:
    return given * 2


@app.activity
def step3(ctx: wf.ActivityContext, given: int) -> int:
    return given ^ 2


@app.activity
def error_handler(ctx: wf.ActivityContext, error: str) -> None:
    return None


@app.workflow
def batch_processing_workflow(ctx: wf.WorkflowContext, wf_input: int):
    work_batch = yield ctx.call_activity(get_work_batch, input=wf_input)
    parallel_tasks = [
        ctx.call_activity(process_work_item, input=work_item) for work_item in work_batch
    ]
    outputs = yield wf.when_all(parallel_tasks)
    total = sum(outputs)
    yield ctx.call_activity(process_results, input=total)


@app.activity
def get_work_batch(ctx: wf.ActivityContext, size: int) -> list[int]:
    return list(range(1, size + 1))


@app.activity
def process_work_item(ctx: wf.ActivityContext, item: int) -> int:
    return item * 2


@app.activity
def process_results(ctx: wf.ActivityContext, total: int) -> None:
    return None


@dataclass
class JobStatus:
    job_id: str
    is_healthy: bool


@app.workflow
def status_monitor_workflow(ctx: wf.WorkflowContext, job: JobStatus):
    status = yield ctx.call_activity(check_status, input=job)
    if not ctx.is_replaying:
        ctx.logger.info("Job %s is %s", job.job_id, status)

    if status == "healthy":
        job.is_healthy = True
        next_sleep_interval = 60
    else:
        if job.is_healthy:
            job.is_healthy = False
            ctx.call_activity(send_alert, input=f"Job '{job.job_id}' is unhealthy!")
        next_sleep_interval = 5

    yield ctx.create_timer(
        fire_at=ctx.current_utc_datetime + timedelta(seconds=next_sleep_interval)
    )
    ctx.continue_as_new(job)


@app.activity
def check_status(ctx: wf.ActivityContext, job: JobStatus) -> str:
    return "healthy"


@app.activity
def send_alert(ctx: wf.ActivityContext, message: str) -> None:
    return None


@dataclass
class Order:
    cost: float
    product: str
    quantity: int


@app.workflow
def purchase_order_workflow(ctx: wf.WorkflowContext, order: Order):
    if order.cost < 1000:
        return "Auto-approved"

    yield ctx.call_activity(send_approval_request, input=order)

    approval_event = ctx.wait_for_external_event("approval_received")
    timeout_event = ctx.create_timer(timedelta(hours=24))
    winner = yield wf.when_any([approval_event, timeout_event])
    if winner == timeout_event:
        return "Cancelled"

    yield ctx.call_activity(place_order, input=order)
    return f"Approved by '{approval_event.get_result()['approver']}'"


@app.activity
def send_approval_request(ctx: wf.ActivityContext, order: Order) -> None:
    return None


@app.activity
def place_order(ctx: wf.ActivityContext, order: Order) -> None:
    return None


@app.workflow(name="OrderProcessingWorkflow")
def process_order(ctx: wf.WorkflowContext, order: Order):
    approval = yield ctx.wait_for_external_event("approval_received")
    yield ctx.call_activity(ship, input=order)
    return {"Processed": bool(approval)}


@app.activity
def ship(ctx: wf.ActivityContext, order: Order) -> None:
    return None
