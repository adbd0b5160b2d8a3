"""External system interaction: a purchase order that may need a person.

Small orders are approved at once. A larger one asks for approval and waits for the event
`approval`, from a person or from a system that publishes on a channel; without an answer in
time it is cancelled.

::

    wfq dev examples/purchase_order.py
    wfq start purchase '{"item": "pens", "total": 20}' --wait
    wfq start purchase '{"item": "lathe", "total": 9000, "patience_s": 600}' --id po-7
    wfq raise po-7 approval '{"approved": true, "by": "Ada"}'
    wfq wait po-7

    # or let a listener do it, for everything that is published on a channel:
    wfq listen --channel approvals --event approval --instance-id-from order_id
    redis-cli PUBLISH approvals '{"order_id": "po-7", "approved": true, "by": "Ada"}'
"""

import zlib
from dataclasses import dataclass
from datetime import timedelta

import wfq as wf

app = wf.WorkflowRuntime()

APPROVAL_NEEDED_ABOVE = 1000


@dataclass
class Order:
    item: str
    total: float
    patience_s: float = 3 * 24 * 3600


@app.workflow
def purchase(ctx: wf.WorkflowContext, order: Order):
    approved_by = "nobody: below the limit"
    if order.total > APPROVAL_NEEDED_ABOVE:
        yield ctx.call_activity(ask_for_approval, input=order)
        approval = ctx.wait_for_external_event("approval")
        deadline = ctx.create_timer(timedelta(seconds=order.patience_s))
        first = yield wf.when_any([approval, deadline])
        if first == deadline:
            yield ctx.call_activity(cancel_order, input=order)
            return {"placed": False, "why": "no answer in time"}
        answer = approval.get_result()
        if not answer.get("approved"):
            return {"placed": False, "why": f"rejected by {answer.get('by', 'somebody')}"}
        approved_by = answer.get("by", "somebody")
    number = yield ctx.call_activity(place_order, input=order)
    return {"placed": True, "number": number, "approved_by": approved_by}


@app.activity
def ask_for_approval(ctx: wf.ActivityContext, order: Order) -> None:
    ctx.logger.info("please approve %s for %.2f: %s", order.item, order.total, ctx.workflow_id)


@app.activity
def place_order(ctx: wf.ActivityContext, order: Order) -> str:
    # The key is the same however often this attempt is repeated: a shop can recognise it.
    return f"{order.item}-{zlib.crc32(ctx.idempotency_key.encode()):08x}"


@app.activity
def cancel_order(ctx: wf.ActivityContext, order: Order) -> None:
    ctx.logger.info("cancelled: %s", order.item)
