"""The workflows of ``wfq demo``: a day in a small bakery, one workflow for each pattern.

A program of your own looks just like this; `examples/` has one file per pattern to start from.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import wfq as wf

bakery = wf.WorkflowRuntime()

Steps = Generator[wf.Task[Any], Any, Any]

#: Where the demo's activities note what they began, so that the demo can tell what a killed
#: worker had in its hands.
NOTES_VARIABLE = "BAKERY_NOTES"


# --- Task chaining, with compensation ---------------------------------------------------------


@dataclass
class Cake:
    name: str
    layers: int


@bakery.workflow
def deliver_cake(ctx: wf.WorkflowContext, cake: Cake) -> Steps:
    """Each step takes the result of the one before; a failure undoes what was done."""
    price = yield ctx.call_activity(price_cake, input=cake)
    receipt = yield ctx.call_activity(charge, input=price)
    try:
        van = yield ctx.call_activity(load_van, input=cake)
    except wf.TaskFailedError as error:
        refund = yield ctx.call_activity(give_back, input=receipt)
        ctx.set_custom_status({"refunded": refund, "because": error.details.message})
        raise
    return {"receipt": receipt, "van": van}


@bakery.activity
def price_cake(cake: Cake) -> int:
    return 12 + 8 * cake.layers


@bakery.activity
def charge(price: int) -> str:
    return f"paid {price}"


@bakery.activity
def load_van(cake: Cake) -> str:
    if cake.layers > 5:
        raise wf.NonRetryableError(f"a cake of {cake.layers} layers does not fit into the van")
    return f"van 2, {cake.name}"


@bakery.activity
def give_back(receipt: str) -> int:
    return int(receipt.removeprefix("paid "))


# --- Fan-out and fan-in -----------------------------------------------------------------------


@bakery.workflow
def bake_orders(ctx: wf.WorkflowContext, trays: int) -> Steps:
    """All trays go in at once, on whatever worker is free; the sum waits for the last one."""
    names = yield ctx.call_activity(list_trays, input=trays)
    baked = yield wf.when_all([ctx.call_activity(bake_tray, input=name) for name in names])
    return {"loaves": sum(tray["loaves"] for tray in baked), "trays": baked}


@bakery.activity
def list_trays(count: int) -> list[str]:
    return [f"tray-{number:02d}" for number in range(1, count + 1)]


@bakery.activity
def bake_tray(ctx: wf.ActivityContext, name: str) -> dict[str, Any]:
    notes = os.environ.get(NOTES_VARIABLE)
    if notes:
        with Path(notes).open("a", encoding="utf-8") as file:
            file.write(f"{name} {os.getpid()}\n")
    time.sleep(0.3)
    return {"tray": name, "loaves": 10, "worker": os.getpid()}


# --- Monitor ----------------------------------------------------------------------------------


@dataclass
class Oven:
    """What the monitor carries from one round to the next."""

    calm_s: float
    alarm_s: float
    hot: bool = True
    alerts: int = 0
    pauses: list[float] = field(default_factory=list)


@bakery.workflow
def watch_oven(ctx: wf.WorkflowContext, oven: Oven) -> Steps:
    """Look seldom while all is well, often while it is not; begin anew after each round."""
    degrees = yield ctx.call_activity(read_thermometer, input=ctx.continued_as_new_count)
    if degrees is None:
        return {"rounds": len(oven.pauses), "alerts": oven.alerts, "pauses": oven.pauses}
    was_hot, oven.hot = oven.hot, degrees >= 200
    if was_hot and not oven.hot:
        oven.alerts += 1
        yield ctx.call_activity(call_baker, input=f"the oven has only {degrees} degrees")
    ctx.set_custom_status({"degrees": degrees, "round": len(oven.pauses) + 1})
    pause_s = oven.calm_s if oven.hot else oven.alarm_s
    oven.pauses.append(pause_s)
    yield ctx.create_timer(timedelta(seconds=pause_s))
    ctx.continue_as_new(oven)
    return None


@bakery.activity
def read_thermometer(round_number: int) -> int | None:
    """The oven cools down in rounds three to five; after round six the day is over."""
    script = [230, 225, 180, 150, 190, 220]
    return script[round_number] if round_number < len(script) else None


@bakery.activity
def call_baker(ctx: wf.ActivityContext, message: str) -> None:
    ctx.logger.debug("calling the baker: %s", message)


# --- External system interaction --------------------------------------------------------------


@dataclass
class FlourOrder:
    sacks: int
    patience_s: float = 30.0


@bakery.workflow
def order_flour(ctx: wf.WorkflowContext, order: FlourOrder) -> Steps:
    """Small orders go out at once; large ones need the owner's word in time."""
    if order.sacks > 10:
        ctx.set_custom_status("waiting for the owner")
        answer = ctx.wait_for_external_event("owner-answered")
        deadline = ctx.create_timer(timedelta(seconds=order.patience_s))
        first = yield wf.when_any([answer, deadline])
        if first == deadline:
            yield ctx.call_activity(cancel_flour, input=order.sacks)
            return "cancelled: no answer in time"
        said = answer.get_result()
        if not said["approved"]:
            return f"rejected by {said['by']}"
        yield ctx.call_activity(send_order, input=order.sacks)
        return f"ordered, approved by {said['by']}"
    yield ctx.call_activity(send_order, input=order.sacks)
    return "ordered, no approval needed"


@bakery.activity
def send_order(sacks: int) -> str:
    return f"{sacks} sacks are on their way"


@bakery.activity
def cancel_flour(sacks: int) -> str:
    return f"{sacks} sacks are not coming"


# --- Async HTTP API ---------------------------------------------------------------------------


@bakery.workflow
async def print_catalogue(ctx: wf.WorkflowContext, pages: int) -> dict[str, int]:
    """Long enough that whoever asked over HTTP has to come back for the result."""
    printed = 0
    for page in range(1, pages + 1):
        printed += await ctx.call_activity(print_page, input=page)
        ctx.set_custom_status(f"{printed} of {pages} pages")
    return {"pages": printed}


@bakery.activity
def print_page(number: int) -> int:
    time.sleep(0.2)
    return 1
