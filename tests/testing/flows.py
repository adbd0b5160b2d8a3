"""Workflows of all kinds, for the tests of the testing kit."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import wfq as wf

Flow = Generator[Any, Any, Any]
RETRIES = wf.RetryPolicy(
    first_retry_interval=timedelta(minutes=1), max_number_of_attempts=4, backoff_coefficient=2.0
)

app = wf.WorkflowRuntime()


@dataclass
class Order:
    item: str
    cost: int
    by: datetime | None = None


@dataclass
class Receipt:
    order: Order
    number: int


@app.activity
def charge(ctx: wf.ActivityContext, order: Order) -> Receipt:
    return Receipt(order, 100 + ctx.attempt)


@app.activity
def refund(receipt: Receipt) -> None: ...


@app.activity
def mail(text: str) -> str:
    return text


@app.activity
async def look_up(name: str) -> dict[str, Any]:
    return {"name": name, "age": 36}


@app.workflow
def trial(ctx: wf.WorkflowContext, user: str) -> Flow:
    yield ctx.call_activity(mail, input=f"welcome {user}")
    for day in range(30):
        ctx.set_custom_status(f"day {day}")
        yield ctx.create_timer(timedelta(days=1))
    yield ctx.call_activity(mail, input=f"goodbye {user}", retry_policy=RETRIES)
    return "ended"


@app.workflow
def purchase(ctx: wf.WorkflowContext, order: Order) -> Flow:
    receipt = yield ctx.call_activity(charge, input=order, timeout=timedelta(minutes=10))
    approval = ctx.wait_for_external_event("approval")
    late = ctx.create_timer(timedelta(hours=24))
    winner = yield wf.when_any([approval, late])
    if winner == late:
        yield ctx.call_activity(refund, input=receipt)
        return "refunded"
    return f"{receipt.number} approved by {approval.get_result()}"


@app.workflow
async def family(ctx: wf.WorkflowContext, names: list[str]) -> list[Any]:
    children = [ctx.call_child_workflow(person, input=name) for name in names]
    return await wf.when_all(children)


@app.workflow
async def person(ctx: wf.WorkflowContext, name: str) -> dict[str, Any]:
    found = await ctx.call_activity(look_up, input=name)
    await ctx.create_timer(timedelta(days=len(name)))
    return found


@app.workflow
def counter(ctx: wf.WorkflowContext, total: int) -> Flow:
    if total >= 3:
        return total
    total += yield ctx.wait_for_external_event("add")
    ctx.continue_as_new(total, save_events=True)


@app.workflow
def monitor(ctx: wf.WorkflowContext, beats: int) -> Flow:
    yield ctx.call_activity(mail, input=f"beat {beats}")
    yield ctx.create_timer(timedelta(hours=1))
    ctx.continue_as_new(beats + 1)


@app.versioned_workflow(name="onboard", version_name="v1")
def onboard_v1(ctx: wf.WorkflowContext) -> Flow:
    yield ctx.call_activity(mail, input="letter")
    return ctx.version


@app.versioned_workflow(name="onboard", version_name="v2", is_latest=True)
def onboard_v2(ctx: wf.WorkflowContext) -> Flow:
    if ctx.is_patched("greet"):
        yield ctx.call_activity(mail, input="hello")
    yield ctx.call_activity(mail, input="mail")
    return ctx.version
