"""The commands of the compose file as plain processes: one order, approved over a channel."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.house.test_compose import OURS, command
from tests.ports import free_port
from tests.servers import ROOT, Processes, command_client, poll

pytestmark = pytest.mark.processes

TOKEN = "compose-test"


def caller(port: int) -> Callable[..., dict[str, Any]]:
    """Return a function that calls the API: method, path, body -> document."""

    def call(method: str, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1.0/workflows/dapr{path}",
            method=method,
            data=json.dumps(body).encode() if method == "POST" else None,
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                document: dict[str, Any] = json.loads(answer.read() or b"{}")
                return document
        except urllib.error.HTTPError as exc:
            # It is an open connection too.
            exc.close()
            raise

    return call


def test_the_services_run_an_order_together(valkey_url: str, processes: Processes) -> None:
    port = free_port()
    env = {
        "WFQ_REDIS_URL": valkey_url,
        "WFQ_APP": "purchase_order.py",
        "WFQ_LOG_FORMAT": "json",
        "WFQ_API_TOKEN": TOKEN,
    }
    # Not on every address: this is no container.
    inside = {"0.0.0.0": "127.0.0.1", "3500": str(port)}
    services = {
        name: processes.wfq(
            *(inside.get(word, word) for word in command(name)), env=env, cwd=ROOT / "examples"
        )
        for name in OURS
    }
    call = caller(port)

    order = {"item": "lathe", "total": 9000, "patience_s": 600}
    started = poll(lambda: call("POST", "/purchase/start?instanceID=po-7", order), 20)
    with command_client(valkey_url) as client:
        message = json.dumps({"order_id": "po-7", "approved": True, "by": "Ada"})
        # Until the listener has subscribed nobody hears it.
        poll(lambda: client.publish("approvals", message), 20)
    ended = poll(lambda: _if_ended(call("GET", "/po-7")), 20)

    assert started == {"instanceID": "po-7"}
    assert ended["runtimeStatus"] == "COMPLETED"
    assert json.loads(ended["properties"]["dapr.workflow.output"])["approved_by"] == "Ada"
    assert {name: process.stop() for name, process in services.items()} == dict.fromkeys(OURS, 0)


def _if_ended(document: dict[str, Any]) -> dict[str, Any] | None:
    running = document["runtimeStatus"] in ("RUNNING", "PENDING")
    return None if running else document
