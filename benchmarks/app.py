"""The program under test: what workers of the benchmarks run.

Payloads are plain JSON (`Any`) except in W7, which compares them with typed ones.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import wfq as wf

app = wf.WorkflowRuntime()

Steps = Generator[wf.Task[Any], Any, Any]


@app.activity
def add_one(ctx: wf.ActivityContext, x: Any) -> Any:
    return x + 1


@app.activity
def pass_on(ctx: wf.ActivityContext, value: Any) -> Any:
    return value


@app.activity(inline=True)
def add_one_inline(ctx: wf.ActivityContext, x: Any) -> Any:
    return x + 1


@app.workflow
def chain(ctx: wf.WorkflowContext, x: Any) -> Steps:
    """W1: three activities in a row."""
    for _ in range(3):
        x = yield ctx.call_activity(add_one, input=x)
    return x


@app.workflow
def inline_chain(ctx: wf.WorkflowContext, x: Any) -> Steps:
    """W1 with inline activities."""
    for _ in range(3):
        x = yield ctx.call_activity(add_one_inline, input=x)
    return x


@app.workflow
def fan_out(ctx: wf.WorkflowContext, count: int) -> Steps:
    """W2: activities in parallel, and their sum."""
    results = yield wf.when_all([ctx.call_activity(add_one, input=n) for n in range(count)])
    return sum(results)


@app.workflow
def empty(ctx: wf.WorkflowContext, x: Any) -> Any:
    """W4: nothing to wait for."""
    return x


@app.workflow
def parked(ctx: wf.WorkflowContext, _: int) -> Steps:
    """W5: waits for an event that is raised by nobody, or much later."""
    value = yield ctx.wait_for_external_event("go")
    return value


@app.workflow
def sleeping(ctx: wf.WorkflowContext, due_ms: int) -> Steps:
    """W5: sleeps until a moment, and returns by how many milliseconds it woke up late."""
    due = datetime.fromtimestamp(due_ms / 1000, UTC)
    yield ctx.create_timer(due)
    return _late_ms(ctx, due)


@app.workflow
def napping(ctx: wf.WorkflowContext, nap_ms: int) -> Steps:
    """W5: sleeps for a while, and returns by how many milliseconds it woke up late."""
    due = ctx.current_utc_datetime.replace(tzinfo=UTC) + timedelta(milliseconds=nap_ms)
    yield ctx.create_timer(due)
    return _late_ms(ctx, due)


def _late_ms(ctx: wf.WorkflowContext, due: datetime) -> float:
    late = ctx.current_utc_datetime.replace(tzinfo=UTC) - due
    return late.total_seconds() * 1000


@app.workflow
def long_chain(ctx: wf.WorkflowContext, steps: int) -> Steps:
    """W6: many activities in a row."""
    x = 0
    for _ in range(steps):
        x = yield ctx.call_activity(add_one, input=x)
    return x


@app.workflow
def long_then_parked(ctx: wf.WorkflowContext, steps: int) -> Steps:
    """W6: many activities in a row, then an event, for a worker that has nothing in memory."""
    x = 0
    for _ in range(steps):
        x = yield ctx.call_activity(add_one, input=x)
    yield ctx.wait_for_external_event("go")
    return x


@app.workflow
def generations(ctx: wf.WorkflowContext, left: int) -> Steps:
    """W6: one activity a generation."""
    yield ctx.call_activity(add_one, input=left)
    if left > 1:
        ctx.continue_as_new(left - 1)
        return None
    return "done"


@app.workflow
def payload_chain(ctx: wf.WorkflowContext, value: Any) -> Steps:
    """W7: a payload handed through three activities."""
    for _ in range(3):
        value = yield ctx.call_activity(pass_on, input=value)
    return value


@dataclass(frozen=True)
class Line:
    """Part of an order."""

    sku: str
    quantity: int
    price: float


@dataclass(frozen=True)
class Order:
    """W7: what programs hand around."""

    number: str
    customer: str
    placed: datetime
    lines: list[Line]
    paid: bool = False


@app.activity
def pass_order(ctx: wf.ActivityContext, order: Order) -> Order:
    return order


@app.workflow
def typed_chain(ctx: wf.WorkflowContext, order: Order) -> Steps:
    """W7: a dataclass handed through three activities."""
    for _ in range(3):
        order = yield ctx.call_activity(pass_order, input=order)
    return order
