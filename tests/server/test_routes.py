"""Every route: what it asks of the client, and how it answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.server.kit import BASE, Api, FakeClient, is_error, with_state
from wfq.errors import (
    InboxFull,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceRunning,
    PayloadTooLarge,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from wfq.management.rerun import SAME_INPUT
from wfq_server.operations import VERSIONS

ORDER = '{"Name":"Paperclips","Quantity":1,"TotalCost":9.95}'


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("component", ["dapr", "any-other"])
def test_the_seeds_start_line_works_as_printed(version: str, component: str) -> None:
    api = Api()
    path = f"{version}/workflows/{component}/OrderProcessingWorkflow/start?instanceID=12345678"

    # What `curl -d` sends.
    headers = {"content-type": "application/x-www-form-urlencoded"}
    response = api.run("POST", path, content=ORDER, headers=headers)

    assert response.status_code == 202
    assert response.text == '{"instanceID":"12345678"}'
    expected = f"http://localhost:3500{version}/workflows/{component}/12345678"
    assert response.headers["location"] == expected
    assert response.headers["retry-after"] == "1"
    order = {"Name": "Paperclips", "Quantity": 1, "TotalCost": 9.95}
    assert api.client.calls == [
        ("start", ("OrderProcessingWorkflow", order, "12345678", None, None))
    ]


def test_a_start_without_body_has_no_input() -> None:
    api = Api()

    response = api.run("POST", f"{BASE}/wf/start")

    assert response.json() == {"instanceID": "made-up"}
    assert api.client.calls == [("start", ("wf", None, None, None, None))]


@pytest.mark.parametrize(
    ("query", "start_at", "app_id"),
    [
        ("startAt=2026-03-01T09:00:00Z", datetime(2026, 3, 1, 9, tzinfo=UTC), None),
        ("startAt=2026-03-01T09:00:00+00:00", datetime(2026, 3, 1, 9, tzinfo=UTC), None),
        ("startAt=2026-03-01T09:00:00", datetime(2026, 3, 1, 9, tzinfo=UTC), None),
        ("delay=90s", timedelta(seconds=90), None),
        ("appID=shop", None, "shop"),
    ],
)
def test_a_start_can_be_delayed_and_be_for_another_application(
    query: str, start_at: object, app_id: str | None
) -> None:
    api = Api()

    api.run("POST", f"{BASE}/wf/start?{query}")

    assert api.client.calls == [("start", ("wf", None, None, start_at, app_id))]


def test_an_idempotency_key_decides_the_id() -> None:
    api = Api()

    ids = [
        api.run("POST", f"{BASE}/{name}/start", headers={"Idempotency-Key": key}).json()
        for name, key in (("wf", "k1"), ("wf", "k1"), ("wf", "k2"), ("other", "k1"))
    ]

    assert ids[0] == ids[1]
    assert len({document["instanceID"] for document in ids}) == 3


@pytest.mark.parametrize(
    ("path", "content", "call"),
    [
        ("raiseEvent/approved", b'{"by":"Jane"}', ("raise", "approved", {"by": "Jane"}, None)),
        ("raiseEvent/approved", None, ("raise", "approved", None, None)),
        ("raiseEvent/a/b%20c", b"1", ("raise", "a/b c", 1, None)),
        ("raiseEvent/approved?eventID=e1", b"1", ("raise", "approved", 1, "e1")),
        ("terminate", None, ("terminate", None, True)),
        ("terminate?recursive=false", b'"stopped"', ("terminate", "stopped", False)),
        ("pause", None, ("pause",)),
        ("resume", None, ("resume",)),
        ("purge", None, ("purge", True)),
        ("purge?recursive=false", None, ("purge", False)),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_verbs_are_passed_on(
    path: str, content: bytes | None, call: tuple[Any, ...], version: str
) -> None:
    api = Api(with_state())

    response = api.run("POST", f"{version}/workflows/dapr/12345678/{path}", content=content)

    assert response.status_code == 202
    assert response.content == b""
    assert api.client.calls == [(call[0], ("12345678", *call[1:]))]


@pytest.mark.parametrize(
    ("query", "content", "call"),
    [
        ("", None, (None, None, SAME_INPUT)),
        ("?fromEvent=3&newInstanceID=again", None, (3, "again", SAME_INPUT)),
        ("", b'{"n":1}', (None, None, {"n": 1})),
        ("", b"null", (None, None, None)),
    ],
)
def test_a_rerun_answers_where_to_look(
    query: str, content: bytes | None, call: tuple[Any, ...]
) -> None:
    api = Api(with_state())

    response = api.run("POST", f"{BASE}/12345678/rerun{query}", content=content)

    assert response.status_code == 202
    assert response.headers["location"].endswith(response.json()["instanceID"])
    assert api.client.calls == [("rerun", ("12345678", *call))]


def test_a_list_passes_its_filters_on() -> None:
    api = Api()
    query = (
        "status=RUNNING,failed&status=PENDING&name=wf&appID=shop&tag=team=a=b&idContains=7"
        "&createdAfter=2026-01-01T00:00:00Z&limit=5&continuationToken=1:a"
    )

    api.run("GET", f"{BASE}?{query}")

    ((_, (filters,)),) = api.client.calls
    assert filters == {
        "status": ["RUNNING", "failed", "PENDING"],
        "name": "wf",
        "app_id": "shop",
        "created_after": datetime(2026, 1, 1, tzinfo=UTC),
        "created_before": None,
        "tags": {"team": "a=b"},
        "id_contains": "7",
        "limit": 5,
        "cursor": "1:a",
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "unknown"),
        ("GET", "unknown/explain"),
        ("GET", "unknown/history"),
        ("GET", "unknown/wait"),
        ("GET", "unknown/events"),
        ("POST", "unknown/raiseEvent/e"),
        ("POST", "unknown/terminate"),
        ("POST", "unknown/pause"),
        ("POST", "unknown/resume"),
        ("POST", "unknown/purge"),
        ("POST", "unknown/rerun"),
    ],
)
def test_an_unknown_instance_is_404_everywhere(method: str, path: str) -> None:
    response = Api().run(method, f"{BASE}/{path}")

    assert is_error(response, 404, "ERR_INSTANCE_ID_NOT_FOUND")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InstanceAlreadyExists("exists", "x"), 409, "ERR_START_WORKFLOW"),
        (PayloadTooLarge("too large"), 413, "ERR_PAYLOAD_TOO_LARGE"),
        (StorageUnavailable("away: secret"), 503, "ERR_STORAGE_UNAVAILABLE"),
        (StorageFull("full: secret"), 503, "ERR_STORAGE_FULL"),
        (StorageError("refused: secret"), 503, "ERR_STORAGE"),
        (RuntimeError("a secret"), 500, "ERR_INTERNAL"),
    ],
)
def test_errors_of_a_start(error: Exception, status: int, code: str) -> None:
    response = Api(FakeClient(error=error)).run("POST", f"{BASE}/wf/start")

    assert is_error(response, status, code)
    assert "secret" not in response.text
    assert ("retry-after" in response.headers) == (status == 503)


@pytest.mark.parametrize(
    ("verb", "error", "status", "code"),
    [
        ("raiseEvent/e", InstanceFinished("ended", "x"), 409, "ERR_RAISE_EVENT_WORKFLOW"),
        ("raiseEvent/e", InboxFull("full", "x"), 429, "ERR_RAISE_EVENT_WORKFLOW"),
        ("terminate", InstanceFinished("ended", "x"), 409, "ERR_TERMINATE_WORKFLOW"),
        ("pause", InstanceFinished("ended", "x"), 409, "ERR_PAUSE_WORKFLOW"),
        ("resume", InstanceFinished("ended", "x"), 409, "ERR_RESUME_WORKFLOW"),
        ("purge", InstanceRunning("runs", "x"), 409, "ERR_PURGE_WORKFLOW"),
    ],
)
def test_conflicts_have_the_code_that_dapr_gives_the_verb(
    verb: str, error: Exception, status: int, code: str
) -> None:
    response = Api(FakeClient(error=error)).run("POST", f"{BASE}/x/{verb}")

    assert is_error(response, status, code)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "a%20b", "ERR_INSTANCE_ID_INVALID"),
        ("GET", "a%0d%0ab", "ERR_INSTANCE_ID_INVALID"),
        ("GET", "%7Bx%7D", "ERR_INSTANCE_ID_INVALID"),
        ("GET", "%C3%A9", "ERR_INSTANCE_ID_INVALID"),
        ("GET", "x" * 1001, "ERR_INSTANCE_ID_TOO_LONG"),
        ("POST", "wf/start?instanceID=a%20b", "ERR_INSTANCE_ID_INVALID"),
        ("POST", "wf/start?instanceID=a~b", "ERR_INSTANCE_ID_INVALID"),
        ("POST", f"wf/start?instanceID={'x' * 201}", "ERR_INSTANCE_ID_TOO_LONG"),
        ("POST", "wf/start?appID=a%20b", "ERR_WORKFLOW_APP_ID_INVALID"),
        ("POST", f"{'w' * 501}/start", "ERR_WORKFLOW_NAME_MISSING"),
        ("POST", "wf/start?startAt=tomorrow", "ERR_MALFORMED_REQUEST"),
        ("POST", "wf/start?delay=soon", "ERR_MALFORMED_REQUEST"),
        ("POST", "wf/start?instanceID=a&instanceID=b", "ERR_MALFORMED_REQUEST"),
        ("POST", "wf/start?instanceID=a&instanceID=a", "ERR_MALFORMED_REQUEST"),
        ("GET", "?pageSize=5&pageSize=6", "ERR_MALFORMED_REQUEST"),
        ("POST", "wf/start?delay=1s&startAt=2026-01-01", "ERR_MALFORMED_REQUEST"),
        ("POST", "x/raiseEvent/", "ERR_WORKFLOW_EVENT_NAME_MISSING"),
        ("POST", "x/terminate?recursive=maybe", "ERR_MALFORMED_REQUEST"),
        ("POST", "x/rerun?fromEvent=-1", "ERR_MALFORMED_REQUEST"),
        ("GET", "x/wait?timeout=-1", "ERR_MALFORMED_REQUEST"),
        ("GET", "?limit=0", "ERR_MALFORMED_REQUEST"),
        ("GET", "?limit=1001", "ERR_MALFORMED_REQUEST"),
        ("GET", "?limit=x", "ERR_MALFORMED_REQUEST"),
        ("GET", "?tag=x", "ERR_MALFORMED_REQUEST"),
        ("GET", "?createdAfter=x", "ERR_MALFORMED_REQUEST"),
    ],
)
def test_bad_parameters_are_400_and_ask_nothing_of_redis(method: str, path: str, code: str) -> None:
    api = Api()

    response = api.run(method, f"{BASE}{'' if path.startswith('?') else '/'}{path}")

    assert is_error(response, 400, code)
    assert api.client.calls == []


def test_a_parameter_that_is_given_twice_is_named() -> None:
    response = Api().run("POST", f"{BASE}/wf/start?instanceID=a&instanceID=b")

    assert response.json()["message"] == "instanceID is given 2 times; give it once"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2.0/workflows/dapr/x", 404),
        ("GET", "/v1.0/workflows", 404),
        ("POST", f"{BASE}/x/nonsense", 404),
        ("DELETE", f"{BASE}/x", 405),
        ("GET", f"{BASE}/wf/start", 405),
        ("GET", f"{BASE}/x/terminate", 405),
        ("GET", f"{BASE}/x/purge", 405),
        ("GET", f"{BASE}/x/raiseEvent/e", 405),
    ],
)
def test_no_get_has_effects_and_unknown_routes_answer_in_json(
    method: str, path: str, status: int
) -> None:
    api = Api()

    response = api.run(method, path)

    assert is_error(response, status)
    assert api.client.calls == []


def test_the_location_is_the_address_that_the_caller_used() -> None:
    api = Api()

    mounted = api.run("POST", f"/wfq{BASE}/wf/start", root_path="/wfq")
    forwarded = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "shop.example.com",
        "X-Forwarded-Prefix": "/engine",
    }
    proxied = api.run("POST", f"{BASE}/wf/start", headers=forwarded)
    forged = api.run("POST", f"{BASE}/wf/start", headers={"X-Forwarded-Host": 'a"b/c'})

    assert mounted.headers["location"] == f"http://localhost:3500/wfq{BASE}/made-up"
    assert proxied.headers["location"] == f"https://shop.example.com/engine{BASE}/made-up"
    assert forged.headers["location"] == f"http://localhost:3500{BASE}/made-up"
