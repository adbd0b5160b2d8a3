"""Long polls and event streams."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from starlette.types import Message

from tests.server.kit import BASE, Api, is_error, with_state
from wfq.errors import StorageUnavailable
from wfq.management.state import WorkflowStatus
from wfq_server import watching

ONE = f"{BASE}/12345678"

pytestmark = pytest.mark.anyio


def finish(api: Api, status: WorkflowStatus = WorkflowStatus.COMPLETED) -> None:
    state = api.client.states["12345678"]
    changes: dict[str, Any] = {"runtime_status": status, "serialized_output": "1"}
    api.client.states["12345678"] = replace(state, **changes)


async def test_a_long_poll_answers_as_soon_as_the_instance_has_ended() -> None:
    api = Api(with_state())
    asking = asyncio.create_task(api.ask("GET", f"{ONE}/wait?timeout=10s"))
    await asyncio.sleep(0.02)
    assert not asking.done()

    finish(api)

    response = await asyncio.wait_for(asking, 2)
    assert response.status_code == 200
    assert response.json()["properties"]["dapr.workflow.output"] == "1"


async def test_a_long_poll_whose_time_is_over_says_where_to_ask_again() -> None:
    api = Api(with_state())

    response = await api.ask("GET", f"{ONE}/wait?timeout=0.05")

    assert response.status_code == 202
    assert response.json()["runtimeStatus"] == "RUNNING"
    assert response.headers["location"] == f"http://localhost:3500{ONE}"
    assert response.headers["retry-after"] == "1"


async def test_a_long_poll_of_an_ended_instance_does_not_wait() -> None:
    api = Api(with_state(runtime_status=WorkflowStatus.TERMINATED))

    response = await api.ask("GET", f"{ONE}/wait")

    assert response.status_code == 200
    assert [verb for verb, _ in api.client.calls] == ["get"]


async def test_a_long_poll_waits_no_longer_than_proxies_do() -> None:
    api = Api(with_state())
    asking = asyncio.create_task(api.ask("GET", f"{ONE}/wait?timeout=9d"))
    await asyncio.sleep(0.02)
    finish(api)
    await asking

    (waited,) = [details for verb, details in api.client.calls if verb == "wait"]

    assert waited == ("12345678", 600.0)


async def test_a_server_that_stops_answers_its_long_polls() -> None:
    api = Api(with_state())
    asking = asyncio.create_task(api.ask("GET", f"{ONE}/wait?timeout=1h"))
    await asyncio.sleep(0.02)

    api.draining.set()

    response = await asyncio.wait_for(asking, 2)
    assert response.status_code == 202
    assert response.headers["connection"] == "close"


async def test_redis_that_goes_away_ends_a_long_poll_with_503() -> None:
    api = Api(with_state())
    asking = asyncio.create_task(api.ask("GET", f"{ONE}/wait?timeout=1h"))
    await asyncio.sleep(0.02)

    del api.client.states["12345678"]

    assert is_error(await asyncio.wait_for(asking, 2), 404)
    api.client.error = StorageUnavailable("away")
    assert is_error(await api.ask("GET", f"{ONE}/wait"), 503)


async def test_a_client_that_hangs_up_ends_its_wait() -> None:
    api = Api(with_state())
    hung_up = asyncio.Event()
    first = True

    async def receive() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None: ...

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"{ONE}/wait",
        "raw_path": b"",
        "query_string": b"timeout=1h",
        "headers": [(b"host", b"localhost")],
        "root_path": "",
        "scheme": "http",
        "server": ("localhost", 3500),
    }
    asking = asyncio.create_task(api.app(scope, receive, send))
    await asyncio.sleep(0.02)

    hung_up.set()

    await asyncio.wait_for(asking, 2)


def events(text: str) -> list[dict[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(
            line.split(": ", 1) for line in block.splitlines() if line[:1] not in ("", ":")
        )
        if lines:
            found.append({**lines, "data": json.loads(lines["data"])})
    return found


async def test_an_event_stream_tells_every_change_until_the_end() -> None:
    api = Api(with_state())
    asking = asyncio.create_task(api.ask("GET", f"{ONE}/events"))
    await asyncio.sleep(0.03)
    custom = replace(api.client.states["12345678"], serialized_custom_status='"half"')
    api.client.states["12345678"] = custom
    await asyncio.sleep(0.03)

    finish(api)

    response = await asyncio.wait_for(asking, 2)
    assert response.headers["content-type"].startswith("text/event-stream")
    told = [event["data"] for event in events(response.text)]
    assert [document["runtimeStatus"] for document in told] == ["RUNNING", "RUNNING", "COMPLETED"]
    assert told[1]["properties"]["dapr.workflow.custom_status"] == '"half"'


async def test_a_quiet_event_stream_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "HEARTBEAT_S", 0.01)
    api = Api(with_state())
    asking = asyncio.create_task(api.ask("GET", f"{ONE}/events"))
    await asyncio.sleep(0.1)
    finish(api)

    text = (await asyncio.wait_for(asking, 2)).text

    assert text.count(": still here\n\n") >= 2


async def test_an_event_stream_ends_when_the_server_stops() -> None:
    api = Api(with_state())
    asking = asyncio.create_task(api.ask("GET", f"{ONE}/events"))
    await asyncio.sleep(0.02)

    api.draining.set()

    assert (await asyncio.wait_for(asking, 2)).status_code == 200


async def test_an_event_stream_says_that_its_instance_was_purged() -> None:
    api = Api(with_state())
    asking = asyncio.create_task(api.ask("GET", f"{ONE}/events"))
    await asyncio.sleep(0.02)

    del api.client.states["12345678"]

    response = await asyncio.wait_for(asking, 2)
    last = events(response.text)[-1]
    assert last["event"] == "error"
    assert last["data"]["errorCode"] == "ERR_INSTANCE_ID_NOT_FOUND"


async def test_a_browser_that_has_seen_the_end_is_told_to_stop() -> None:
    api = Api(with_state(runtime_status=WorkflowStatus.COMPLETED))
    (last,) = events((await api.ask("GET", f"{ONE}/events")).text)

    again = await api.ask("GET", f"{ONE}/events", headers={"Last-Event-ID": last["id"]})

    assert again.status_code == 204
