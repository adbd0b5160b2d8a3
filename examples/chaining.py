"""Task chaining: set up a customer step by step, and undo what was done when a step fails.

::

    wfq dev examples/chaining.py
    wfq start set_up_customer '{"name": "acme", "plan": "team"}' --wait
    wfq start set_up_customer '{"name": "acme", "plan": "unpaid"}' --wait      # fails, undone
"""

from dataclasses import dataclass
from datetime import timedelta

import wfq as wf

app = wf.WorkflowRuntime()

#: Tries three times: after 100 ms, then 200 ms. A bill that nobody pays is not tried again.
PATIENT = wf.RetryPolicy(
    first_retry_interval=timedelta(milliseconds=100),
    max_number_of_attempts=3,
    backoff_coefficient=2.0,
)


@dataclass
class Customer:
    name: str
    plan: str


@app.workflow
def set_up_customer(ctx: wf.WorkflowContext, customer: Customer):
    undo = []
    try:
        database = yield ctx.call_activity(
            create_database, input=customer.name, retry_policy=PATIENT
        )
        undo.append((drop_database, database))
        address = yield ctx.call_activity(publish_address, input=database, retry_policy=PATIENT)
        undo.append((withdraw_address, address))
        invoice = yield ctx.call_activity(send_invoice, input=customer, retry_policy=PATIENT)
    except wf.TaskFailedError:
        # What was done last is undone first.
        for activity, value in reversed(undo):
            yield ctx.call_activity(activity, input=value, retry_policy=PATIENT)
        raise
    return {"database": database, "address": address, "invoice": invoice}


@app.activity
def create_database(ctx: wf.ActivityContext, name: str) -> str:
    ctx.logger.info("creating a database for %s", name)
    return f"db-{name}"


@app.activity
def drop_database(ctx: wf.ActivityContext, database: str) -> None:
    ctx.logger.info("dropping %s", database)


@app.activity
def publish_address(ctx: wf.ActivityContext, database: str) -> str:
    # The first attempt fails, as a name server does now and then.
    if ctx.attempt == 1:
        raise ConnectionError("the name server did not answer")
    return f"{database.removeprefix('db-')}.example.com"


@app.activity
def withdraw_address(ctx: wf.ActivityContext, address: str) -> None:
    ctx.logger.info("withdrawing %s", address)


@app.activity
def send_invoice(ctx: wf.ActivityContext, customer: Customer) -> str:
    if customer.plan == "unpaid":
        raise wf.NonRetryableError(f"{customer.name} has no means of payment")
    return f"invoice-{customer.name}-{customer.plan}"
