"""Traces of real workers on a real server, collected by OpenTelemetry's exporter in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import wfq as wf
from tests.servers import poll
from wfq.registry import Registry
from wfq.settings import load_settings
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace
from wfq_server.app import create_app
from wfq_server.client import ApiClient
from wfq_workers.loops import DEFAULT_ROLES, Job, Place, make_loops

trace = pytest.importorskip("opentelemetry.trace", reason="the extra otel is not installed")
sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra otel is not installed")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
in_memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

HEADER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Town:
    """Workers that trace, in this process."""

    def __init__(self, url: str, registry: Registry) -> None:
        self.url = url
        self.settings = load_settings(redis_url=url)
        link = SyncLink(url)
        self._namespace = open_namespace(link, self.settings.namespace)
        link.close()
        self._job = Job(DEFAULT_ROLES, registry)
        self._loops: list[Any] = []
        self.start()

    def start(self) -> None:
        place = Place(self.settings, self.url, self._namespace)
        self._loops = make_loops(place, self._job, own_process=False)
        for loop in self._loops:
            loop.start()

    def stop(self) -> None:
        for loop in self._loops:
            loop.stop(5.0)


def double(ctx: wf.ActivityContext, n: int) -> int:
    if n < 0:
        raise ValueError("negative")
    return 2 * n


async def halve(ctx: wf.ActivityContext, n: int) -> int:
    return n // 2


def child(ctx: wf.WorkflowContext, n: int) -> Any:
    return (yield ctx.call_activity("double", input=n))


def parent(ctx: wf.WorkflowContext, n: int) -> Any:
    first = yield ctx.call_activity("double", input=n)
    yield ctx.wait_for_external_event("go")
    second = yield ctx.call_child_workflow("child", input=first)
    return (yield ctx.call_activity("halve", input=second))


def failing(ctx: wf.WorkflowContext) -> Any:
    return (yield ctx.call_activity("double", input=-1))


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The exporter of a provider that is set up as a program's own would be."""
    exporter = in_memory.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture
def town(valkey_url: str, spans: Any) -> Iterator[Town]:
    registry = Registry()
    for activity in (double, halve):
        registry.register_activity(activity)
    for workflow in (child, parent, failing):
        registry.register_workflow(workflow)
    made = Town(valkey_url, registry)
    yield made
    made.stop()


def finished(spans: Any, number: int) -> dict[str, Any]:
    """Return the spans by name, in the order of their ends, once there are so many."""
    poll(lambda: len(spans.get_finished_spans()) >= number)
    found = spans.get_finished_spans()
    assert len(found) == number, [span.name for span in found]
    return {f"{span.name} {n}": span for n, span in enumerate(found)}


def ids(span: Any) -> tuple[str, str]:
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def under(span: Any) -> str:
    return f"{span.parent.span_id:016x}" if span.parent else ""


def test_one_trace_holds_an_instance_with_its_activities_and_children_over_replays(
    town: Town, spans: Any
) -> None:
    with wf.WorkflowClient(redis_url=town.url) as client:
        instance_id = client.schedule_new_workflow("parent", input=3)
        poll(lambda: len(spans.get_finished_spans()) == 1)
        # Other workers go on with it: its history is replayed.
        town.stop()
        town.start()
        client.raise_workflow_event(instance_id, "go")
        state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=30)

    assert state.serialized_output == "6"
    found = finished(spans, 5)
    assert list(found) == [
        "activity double 0",
        "activity double 1",
        "workflow child 2",
        "activity halve 3",
        "workflow parent 4",
    ]
    whole, below = found["workflow parent 4"], found["workflow child 2"]
    assert {ids(span)[0] for span in found.values()} == {ids(whole)[0]}
    assert under(whole) == ""
    assert under(found["activity double 0"]) == ids(whole)[1]
    assert under(found["activity halve 3"]) == ids(whole)[1]
    assert under(below) == ids(whole)[1]
    assert under(found["activity double 1"]) == ids(below)[1]
    assert len({ids(span)[1] for span in found.values()}) == 5
    first = found["activity double 0"]
    assert whole.start_time <= first.start_time + 50_000_000
    assert whole.end_time >= first.end_time - 50_000_000
    assert first.attributes["wfq.instance_id"] == instance_id
    assert first.attributes["wfq.attempt"] == 1


def test_failures_are_told(town: Town, spans: Any) -> None:
    with wf.WorkflowClient(redis_url=town.url) as client:
        instance_id = client.schedule_new_workflow("failing")
        client.wait_for_workflow_completion(instance_id, timeout_in_seconds=30)

    found = finished(spans, 2)
    activity, workflow = found["activity double 0"], found["workflow failing 1"]
    assert activity.status.status_code is trace.StatusCode.ERROR
    assert activity.events[0].attributes["exception.type"] == "ValueError"
    assert workflow.status.status_code is trace.StatusCode.ERROR
    assert "negative" in workflow.status.description


def test_a_start_within_a_span_belongs_to_its_trace(town: Town, spans: Any) -> None:
    tracer = trace.get_tracer("shop")
    with (
        wf.WorkflowClient(redis_url=town.url) as client,
        tracer.start_as_current_span("checkout") as checkout,
    ):
        instance_id = client.schedule_new_workflow("child", input=1)
        client.wait_for_workflow_completion(instance_id, timeout_in_seconds=30)

    found = finished(spans, 3)
    (workflow,) = (span for name, span in found.items() if name.startswith("workflow"))
    assert ids(workflow)[0] == ids(checkout)[0]
    assert under(workflow) == ids(checkout)[1]


def test_a_header_decides_the_trace_of_an_instance(town: Town, spans: Any) -> None:
    async def start() -> httpx.Response:
        app = create_app(town.settings, ApiClient(settings=town.settings))
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
        ):
            return await http.post(
                "/v1.0/workflows/dapr/child/start?instanceID=h-1",
                json=1,
                headers={"traceparent": HEADER},
            )

    assert asyncio.run(start()).status_code == 202

    found = finished(spans, 2)
    workflow = found["workflow child 1"]
    assert ids(workflow)[0] == HEADER[3:35]
    assert under(workflow) == HEADER[36:52]


def test_a_trace_that_nobody_keeps_is_not_kept_anywhere(town: Town, spans: Any) -> None:
    dropped = HEADER[:-1] + "0"
    with wf.WorkflowClient(redis_url=town.url) as client:
        from wfq.tracing import incoming

        with incoming(dropped):
            quiet = client.schedule_new_workflow("child", input=1)
        client.wait_for_workflow_completion(quiet, timeout_in_seconds=30)
        loud = client.schedule_new_workflow("child", input=1)
        client.wait_for_workflow_completion(loud, timeout_in_seconds=30)

    found = finished(spans, 2)
    assert {span.attributes["wfq.instance_id"] for span in found.values()} == {loud}


def test_spans_of_others_keep_ids_of_their_own(town: Town, spans: Any) -> None:
    tracer = trace.get_tracer("shop")
    seen: list[int] = []
    for _ in range(3):
        with tracer.start_as_current_span("own") as span:
            seen.append(span.get_span_context().span_id)

    assert len(set(seen)) == 3
