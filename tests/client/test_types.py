"""What type checkers infer: mypy reads this file, pytest runs it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, assert_type

import wfq as wf
from tests.client.kit import Hand
from wfq.management.ids import InstanceId


@dataclass
class Receipt:
    number: int


def as_generator(ctx: wf.WorkflowContext, cost: float) -> Generator[Any, Any, Receipt]:
    yield ctx.call_activity("charge", input=cost)
    return Receipt(1)


async def as_coroutine(ctx: wf.WorkflowContext) -> Receipt:
    return Receipt(2)


def as_function(ctx: wf.WorkflowContext) -> Receipt:
    return Receipt(3)


def test_results_of_clients_are_inferred(client: wf.WorkflowClient, hand: Hand) -> None:
    one = client.schedule_new_workflow(as_generator, input=1.0)
    assert_type(one, InstanceId[Receipt])
    assert_type(client.schedule_new_workflow(as_coroutine), InstanceId[Receipt])
    assert_type(client.schedule_new_workflow(as_function), InstanceId[Receipt])
    assert_type(client.schedule_new_workflow("by name"), InstanceId[Any])
    hand.complete(one, {"number": 7})

    state = client.wait_for_workflow_completion(one)
    assert_type(state, wf.WorkflowState[Receipt])
    assert_type(state.output(), Receipt)
    assert_type(state.input(float), float)
    assert_type(client.get_workflow_state(one), wf.WorkflowState[Receipt] | None)

    assert state.output() == Receipt(7)


def test_decorators_keep_the_function_type() -> None:
    wfr = wf.WorkflowRuntime()

    @wfr.workflow
    def flow(ctx: wf.WorkflowContext, cost: float) -> Receipt:
        return Receipt(1)

    @wfr.activity(name="charge", inline=True)
    def charge(cost: float) -> str:
        return "paid"

    assert_type(charge(1.0), str)
    assert charge(1.0) == "paid"
    assert flow.__name__ == "flow"


async def check_the_async_client(client: wf.aio.WorkflowClient) -> None:
    """Never run: read by mypy alone."""
    one = await client.schedule_new_workflow(as_generator, input=1.0)
    assert_type(one, InstanceId[Receipt])
    state = await client.wait_for_workflow_completion(one)
    assert_type(state.output(), Receipt)
    await client.schedule_new_workflow(as_generator, inputs=1)  # type: ignore[call-overload]  # misspelt
    await client.list_workflows(nome="x")  # type: ignore[call-arg]  # no such filter
    await client.schedule_new_workflow(7)  # type: ignore[call-overload]  # neither function nor name
