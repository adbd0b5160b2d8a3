"""The program of the dashboard's pictures: orders that may need a manager."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

import wfq as wf

app = wf.WorkflowRuntime()

RETRY = wf.RetryPolicy(first_retry_interval=timedelta(seconds=0.4), max_number_of_attempts=3)


@dataclass
class Order:
    product: str = "lathe"
    quantity: int = 2
    cost: float = 9000.0


@app.workflow
def purchase_order(ctx: wf.WorkflowContext, order: Order):
    """Orders of 1000 or more need a manager's approval within a day."""
    yield ctx.call_activity(check_stock, input=order)
    if order.cost >= 1000:
        yield ctx.call_activity(ask_for_approval, input=order)
        approval = ctx.wait_for_external_event("approval_received")
        deadline = ctx.create_timer(timedelta(hours=24))
        first = yield wf.when_any([approval, deadline])
        if first == deadline:
            return "cancelled"
    yield ctx.call_activity(charge, input=order, retry_policy=RETRY)
    parcels = [ctx.call_activity(pack, input=number) for number in range(order.quantity)]
    yield wf.when_all(parcels)
    yield ctx.call_child_workflow(deliver, input=order.quantity)
    return {"placed": True}


@app.workflow
def deliver(ctx: wf.WorkflowContext, parcels: int):
    """One van takes all parcels of an order."""
    # Single parcels are the couriers', whose workers serve a queue of their own.
    queue = "couriers" if parcels == 1 else None
    yield ctx.call_activity(load_van, input=parcels, queue=queue)
    yield ctx.create_timer(timedelta(seconds=1))


@app.activity
def check_stock(order: Order) -> bool:
    time.sleep(0.5)
    return True


@app.activity
def ask_for_approval(order: Order) -> str:
    time.sleep(0.4)
    return "asked the manager"


@app.activity
def charge(ctx: wf.ActivityContext, order: Order) -> str:
    time.sleep(0.3)
    if order.product == "anvil":
        raise ValueError("the card was declined")
    if ctx.attempt == 1:
        raise ConnectionError("the bank did not answer")
    return "paid"


@app.activity
def pack(number: int) -> str:
    time.sleep(0.4 + 0.3 * number)
    return f"parcel {number + 1}"


@app.activity
def load_van(parcels: int) -> str:
    time.sleep(0.5)
    return "van 2"
