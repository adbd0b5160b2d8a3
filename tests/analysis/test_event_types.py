"""The types of events, as annotations in a workflow's source tell them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

import wfq as wf
from wfq.analysis.describing import describe_workflows
from wfq.analysis.event_types import event_types

called: list[str] = []


@dataclass
class Approval:
    by: str
    amount: int = 0


def kind_of() -> type:
    called.append("kind_of")
    return int


def workflow(ctx: Any):  # type: ignore[no-untyped-def]
    first: Approval = yield ctx.wait_for_external_event("approved")
    second: list[Approval] | None = yield ctx.wait_for_external_event(name="Many")
    third = yield ctx.wait_for_external_event("plain")
    fourth: Unknown = yield ctx.wait_for_external_event("unknown")  # type: ignore[name-defined]  # noqa: F821
    fifth: kind_of() = yield ctx.wait_for_external_event("run")  # type: ignore[valid-type]
    sixth: int = yield ctx.call_activity("approved")
    return first, second, third, fourth, fifth, sixth


async def in_async(ctx: Any) -> Any:
    said: "Approval" = await ctx.wait_for_external_event("approved")  # noqa: UP037
    return said


def test_annotated_waits_tell_their_types_and_nothing_is_run() -> None:
    assert event_types(workflow) == {"approved": Approval, "Many": list[Approval] | None}
    assert event_types(in_async) == {"approved": Approval}
    assert called == []


def test_a_function_without_a_source_tells_nothing() -> None:
    assert event_types(len) == {}
    assert event_types(eval("lambda ctx: None")) == {}


def test_descriptions_have_the_schemas_of_events() -> None:
    runtime = wf.WorkflowRuntime()
    runtime.register_workflow(workflow)

    (text,) = describe_workflows(runtime.registry).values()

    schemas = orjson.loads(text)["event_schemas"]
    assert schemas["approved"]["required"] == ["by"]
    assert set(schemas) == {"approved", "Many"}
