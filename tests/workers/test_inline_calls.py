"""The shortest way to run an inline activity: what the function gets, whatever it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import wfq as wf
from wfq.core.instance import Instance
from wfq.errors import PayloadError
from wfq.registry import Registry
from wfq_workers.orchestrating.inline import InlineActivities, InlineFacts

BIRTH = ["B", 1_700_000_000_000, "inc1", 2, "flow", None, None, None]


def both(ctx: wf.ActivityContext, x: int) -> list[Any]:
    return [ctx.activity_name, x]


def with_default(ctx: wf.ActivityContext, x: int = 7) -> list[Any]:
    return [ctx.activity_name, x]


def context_only(ctx: wf.ActivityContext) -> str:
    return ctx.idempotency_key


def input_only(x: int) -> int:
    return x + 1


def default_only(x: int = 7) -> int:
    return x + 1


def neither() -> str:
    return "here"


def told(ctx: wf.ActivityContext) -> list[Any]:
    ctx.heartbeat("nobody waits for it")
    return [ctx.workflow_id, ctx.task_id, ctx.attempt, ctx.is_cancelled, ctx.heartbeat_details]


def facts_of(name: str, payload: Any) -> InlineFacts:
    instance = Instance.load("order-7", [BIRTH], Registry())
    return InlineFacts(instance, ["A", 3, name, payload, None])


def run(function: Callable[..., Any], payload: Any) -> Any:
    registry = Registry()
    registry.register_activity(function, inline=True)
    found = InlineActivities.find(registry)
    assert found is not None
    name = function.__name__
    return registry.decode_plain(found.calls[name](facts_of(name, payload), payload))


@pytest.mark.parametrize(
    ("function", "payload", "result"),
    [
        (both, 1, ["both", 1]),
        (both, None, ["both", None]),
        (with_default, 1, ["with_default", 1]),
        (with_default, None, ["with_default", 7]),
        (context_only, None, "order-7:inc1.2:3"),
        (input_only, 1, 2),
        (default_only, None, 8),
        (neither, None, "here"),
        (told, None, ["order-7", 3, 1, False, None]),
    ],
)
def test_every_signature_gets_what_it_takes(
    function: Callable[..., Any], payload: Any, result: Any
) -> None:
    assert run(function, payload) == result


def test_an_input_that_does_not_fit_is_refused_before_the_function_runs() -> None:
    with pytest.raises(PayloadError, match="input of activity 'both'"):
        run(both, "one")


def test_a_result_that_is_not_json_is_refused() -> None:
    def odd(x: Any) -> Any:
        return object()

    with pytest.raises(PayloadError, match="result of activity 'odd'"):
        run(odd, 1)


def test_a_context_that_is_kept_goes_on_telling_of_its_own_task() -> None:
    kept: list[wf.ActivityContext] = []

    def keeps(ctx: wf.ActivityContext, x: int) -> None:
        kept.append(ctx)

    registry = Registry()
    registry.register_activity(keeps, inline=True)
    found = InlineActivities.find(registry)
    assert found is not None
    instance = Instance.load("order-7", [BIRTH], registry)
    for task_id in (1, 2):
        found.calls["keeps"](InlineFacts(instance, ["A", task_id, "keeps", 5, None]), 5)
    instance.discard()

    assert [ctx.task_id for ctx in kept] == [1, 2]
    assert {ctx.idempotency_key for ctx in kept} == {"order-7:inc1.2:1", "order-7:inc1.2:2"}
