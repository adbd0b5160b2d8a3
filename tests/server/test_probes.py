"""What the server says of itself."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.server.kit import BASE, Api, FakeClient, is_error, with_state
from wfq.errors import SchemaMismatch, StorageUnavailable
from wfq.storage.figures import Figures, QueueFigures
from wfq_server import guard, probes, watching
from wfq_server.operations import VERSIONS


def test_a_server_with_redis_is_live_and_ready() -> None:
    api = Api()

    assert api.run("GET", "/livez").json() == {"status": "ok"}
    assert api.run("GET", "/readyz").json() == {"status": "ok"}
    assert api.run("GET", "/v1.0/healthz").status_code == 204
    assert api.run("GET", "/v1.0/healthz/outbound").status_code == 204


def test_without_redis_it_lives_and_is_not_ready() -> None:
    api = Api(FakeClient(error=StorageUnavailable("cannot reach Redis")))

    assert api.run("GET", "/livez").status_code == 200
    for path in ("/readyz", "/v1.0/healthz"):
        response = api.run("GET", path)
        assert is_error(response, 503, "ERR_HEALTH_NOT_READY")
        assert response.headers["retry-after"] == "1"


def test_a_namespace_that_is_too_new_is_told() -> None:
    api = Api(FakeClient(error=SchemaMismatch("namespace 'n' has schema 2; upgrade wfq")))

    response = api.run("GET", "/readyz")

    assert is_error(response, 503, "ERR_HEALTH_NOT_READY")
    assert "upgrade wfq" in response.json()["message"]


def test_a_redis_that_hangs_makes_it_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "READY_TIMEOUT_S", 0.05)

    class Hanging(FakeClient):
        async def check(self) -> None:
            await asyncio.sleep(60)

    assert is_error(Api(Hanging()).run("GET", "/readyz"), 503)


def test_a_server_that_stops_is_not_ready() -> None:
    api = Api()
    api.draining.set()

    response = api.run("GET", "/readyz")

    assert is_error(response, 503)
    assert response.headers["connection"] == "close"


def test_requests_are_counted_by_operation_and_status() -> None:
    api = Api(with_state())
    api.run("GET", f"{BASE}/12345678")
    api.run("GET", f"{BASE}/unknown")
    api.run("GET", "/anything?that=is&typed")

    text = api.run("GET", "/metrics").text

    assert 'wfq_http_requests_total{operation="GetWorkflow",status="200"} 1' in text
    assert 'wfq_http_requests_total{operation="GetWorkflow",status="404"} 1' in text
    assert 'wfq_http_requests_total{operation="none",status="404"} 1' in text
    assert 'wfq_http_request_seconds_bucket{le="+Inf",operation="GetWorkflow"} 2.0' in text
    assert "wfq_http_requests_in_flight 1" in text
    assert "anything" not in text
    for line in text.splitlines():
        assert re.fullmatch(r"# .+|[a-z_]+(\{[^{}]*\})? [0-9.e+-]+", line), line


def test_listeners_are_counted_by_source() -> None:
    counts = {"received": 5, "delivered": 4, "rejected": 1, "cuts": 2, "claimed": 0}
    listener = {"roles": ["listener"], "listener": {'channel "a"\n': counts}}
    client = FakeClient(registered={"w1": listener, "w2": {"roles": ["activity", "scheduler"]}})

    text = Api(client).run("GET", "/metrics").text

    source, worker = r'source="channel \"a\"\n"', 'worker="w1"'
    assert f'wfq_listener_messages_total{{{source},what="rejected",{worker}}} 1.0' in text
    assert f"wfq_listener_subscription_cuts_total{{{source},{worker}}} 2.0" in text
    assert 'wfq_workers{role="activity"} 1' in text
    assert "wfq_redis_up 1" in text


def test_the_namespace_is_told_as_gauges_and_asked_for_at_most_every_few_seconds() -> None:
    queues = {"default": QueueFigures(3, 1.5, 2, 0.25, 1)}
    counted = Figures({"RUNNING": 4, "FAILED": 1}, 2, 0.5, 6, 7, queues)
    client = FakeClient(registered={"w1": {"roles": [], "queues": ["default"]}}, counted=counted)
    api = Api(client)

    text = api.run("GET", "/metrics").text
    api.run("GET", "/metrics")

    shown = dict(re.findall(r"^(wfq_\S+) (\S+)$", text, re.M))
    assert shown['wfq_instances{status="RUNNING"}'] == "4.0"
    assert shown['wfq_queue_events{queue="default"}'] == "3.0"
    assert shown['wfq_queue_events_oldest_seconds{queue="default"}'] == "1.5"
    assert shown['wfq_queue_activities{queue="default"}'] == "2.0"
    assert shown['wfq_queue_activities_running{queue="default"}'] == "1.0"
    assert shown['wfq_queue_workers{queue="default"}'] == "1.0"
    assert shown["wfq_timers"] == "2.0"
    assert shown["wfq_timers_overdue_seconds"] == "0.5"
    assert shown["wfq_outbox_messages"] == "6.0"
    assert shown["wfq_dead_letters"] == "7.0"
    assert [verb for verb, _ in client.calls if verb == "figures"] == ["figures"]


def test_counters_are_there_while_redis_is_away() -> None:
    text = Api(FakeClient(error=StorageUnavailable("away"))).run("GET", "/metrics").text

    assert "wfq_redis_up 0" in text
    assert "wfq_http_requests_in_flight 1" in text


def test_too_many_requests_at_once_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_REQUESTS", 0)

    response = Api(with_state()).run("GET", f"{BASE}/12345678")

    assert is_error(response, 503, "ERR_TOO_MANY_REQUESTS")
    assert response.headers["retry-after"] == "1"


def test_too_many_waits_are_sent_away_and_other_requests_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "MAX_WAITS", 0)
    api = Api(with_state())

    for path in ("wait", "events"):
        response = api.run("GET", f"{BASE}/12345678/{path}")
        assert is_error(response, 503, "ERR_TOO_MANY_REQUESTS")
    assert api.run("GET", f"{BASE}/12345678").status_code == 200


def test_the_openapi_document_lists_every_route() -> None:
    api = Api()
    document = api.run("GET", "/openapi.json").json()

    assert document["openapi"].startswith("3.")
    routes = {path.replace(":path}", "}") for path in (route.path for route in api.app.routes)}  # type: ignore[attr-defined]  # all are Routes
    assert set(document["paths"]) == routes
    for version in VERSIONS:
        start = document["paths"][f"{version}/workflows/{{component}}/{{name}}/start"]["post"]
        assert set(start["responses"]) >= {"202", "400", "401", "403", "408", "409", "413", "415"}
    ids = [op["operationId"] for item in document["paths"].values() for op in item.values()]
    assert len(ids) == len(set(ids))


def test_references_of_the_openapi_document_lead_somewhere() -> None:
    response = Api().run("GET", "/openapi.json")

    schemas = response.json()["components"]["schemas"]
    named = set(re.findall(r'"#/components/schemas/(\w+)"', response.text))
    assert named == set(schemas) - {"Summary"} | {"Summary"}


def test_the_client_is_closed_with_the_application() -> None:
    api = Api()

    async def live() -> None:
        async with api.app.router.lifespan_context(api.app):
            assert not api.client.closed

    asyncio.run(live())

    assert api.client.closed
