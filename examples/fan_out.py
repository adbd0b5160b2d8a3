"""Fan-out and fan-in: count every shelf of a warehouse at the same time, then add up.

How many shelves there are is known only when the workflow runs.

::

    wfq dev examples/fan_out.py
    wfq start stocktaking '"north"' --wait
"""

import time

import wfq as wf

app = wf.WorkflowRuntime()


@app.workflow
def stocktaking(ctx: wf.WorkflowContext, warehouse: str):
    shelves = yield ctx.call_activity(list_shelves, input=warehouse)
    counts = yield wf.when_all([ctx.call_activity(count_shelf, input=shelf) for shelf in shelves])
    total = sum(counts)
    yield ctx.call_activity(book_stock, input={"warehouse": warehouse, "items": total})
    return {"shelves": len(shelves), "items": total}


@app.activity
def list_shelves(warehouse: str) -> list[str]:
    return [f"{warehouse}-{number:02d}" for number in range(1, 13)]


@app.activity
def count_shelf(shelf: str) -> int:
    time.sleep(0.05)
    return int(shelf.rpartition("-")[2]) * 10


@app.activity
def book_stock(ctx: wf.ActivityContext, booking: dict) -> None:
    ctx.logger.info("%s holds %s items", booking["warehouse"], booking["items"])
