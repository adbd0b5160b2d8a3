"""The API with real workers: the seed's lines, the whole life of an instance, a listener."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import LocalServer, Processes, Spawned, command_client, poll

PROGRAM = Path(__file__).with_name("program.py")
ORDER = {"Name": "Paperclips", "Quantity": 1, "TotalCost": 9.95}

pytestmark = pytest.mark.processes


class Town:
    """A worker, a server, and whatever else a test starts."""

    def __init__(self, processes: Processes, redis_url: str) -> None:
        self._processes = processes
        self.env = {"WFQ_REDIS_URL": redis_url}
        self.worker = self.wfq("worker", PROGRAM)
        self.server = self.wfq("server", "--port", "0")
        log = self.server.wait_for_log("HTTP API on http", 30)
        self.url = re.findall(r"HTTP API on (http://\S+)", log)[0]
        self.api = httpx.Client(base_url=f"{self.url}/v1.0/workflows/dapr", timeout=30)
        self.worker.wait_for_log("ready as", 30)

    def wfq(self, *arguments: str | Path) -> Spawned:
        return self._processes.wfq(*arguments, env=self.env)

    def status(self, instance_id: str) -> dict[str, Any]:
        document: dict[str, Any] = self.api.get(f"/{instance_id}").json()
        return document

    def listed(self, **query: Any) -> list[str]:
        """Every id that a list names, page by page."""
        found: list[str] = []
        while True:
            page = httpx.get(f"{self.url}/v1.0/workflows/dapr", params=query).json()
            found += [workflow["instanceID"] for workflow in page["workflows"]]
            if "continuationToken" not in page:
                return found
            query["continuationToken"] = page["continuationToken"]

    def wait_for(self, instance_id: str, status: str) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            document = self.status(instance_id)
            return document if document["runtimeStatus"] == status else None

        found = poll(reached, 20)
        assert found is not None
        return found


@pytest.fixture
def town(processes: Processes, valkey_url: str) -> Iterator[Town]:
    made = Town(processes, valkey_url)
    yield made
    made.api.close()


def curl(line: str, url: str) -> str:
    """Run a line of the seed against `url`, as printed but for the address."""
    assert "http://localhost:3500" in line
    command = line.replace("http://localhost:3500", url)
    done = subprocess.run(
        ["/bin/sh", "-c", f"curl -sS {command.removeprefix('curl')}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on PATH")
def test_the_seeds_curl_lines_work_as_printed(town: Town) -> None:
    seed = Path(__file__).parents[3] / "shared" / "seed" / "workflow-patterns.md"
    if not seed.exists():
        pytest.skip("the seed's page is not beside this checkout")
    lines = re.findall(r"^curl .*$", seed.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == 2

    assert curl(lines[0], town.url) == '{"instanceID":"12345678"}'

    town.wait_for("12345678", "RUNNING")
    running = json.loads(curl(lines[1], town.url))
    stamp = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
    assert re.fullmatch(stamp, running.pop("createdAt"))
    assert re.fullmatch(stamp, running.pop("lastUpdatedAt"))
    assert running == {
        "instanceID": "12345678",
        "workflowName": "OrderProcessingWorkflow",
        "runtimeStatus": "RUNNING",
        "properties": {
            "dapr.workflow.custom_status": '"checking"',
            "dapr.workflow.input": '{"Name":"Paperclips","Quantity":1,"TotalCost":9.95}',
        },
    }

    town.api.post("/12345678/raiseEvent/Approval_Received", json=True)
    town.api.get("/12345678/wait")
    completed = json.loads(curl(lines[1], town.url))
    assert completed["runtimeStatus"] == "COMPLETED"
    assert completed["properties"]["dapr.workflow.output"] == '{"Processed":true}'


def test_request_and_reply_without_a_line_of_user_code(town: Town) -> None:
    started = town.api.post("/OrderProcessingWorkflow/start", json=ORDER)
    where = started.headers["location"]
    assert started.status_code == 202
    instance_id = started.json()["instanceID"]

    with town.api.stream("GET", f"{where}/events") as stream:
        lines = stream.iter_lines()
        next(line for line in lines if "checking" in line)
        town.api.post(f"{where}/raiseEvent/approval_received", json={"by": "Jane Doe"})
        told = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

    assert told[-1]["runtimeStatus"] == "COMPLETED"
    assert town.api.get(f"{where}/wait").json() == town.status(instance_id) == told[-1]
    types = [e["type"] for e in town.api.get(f"{where}/history").json()["events"]]
    assert types[0] == "ExecutionStarted"
    assert types[-1] == "ExecutionCompleted"
    assert types.count("TaskCompleted") == 1


def test_the_life_of_an_instance(town: Town) -> None:
    town.api.post("/OrderProcessingWorkflow/start?instanceID=a", json=ORDER)
    town.wait_for("a", "RUNNING")

    assert town.api.post("/a/pause").status_code == 202
    town.wait_for("a", "SUSPENDED")
    town.api.post("/a/raiseEvent/approval_received", json=True)
    assert town.api.post("/a/purge").status_code == 409
    assert town.api.post("/a/resume").status_code == 202
    town.wait_for("a", "COMPLETED")
    for verb in ("pause", "resume", "terminate", "raiseEvent/e"):
        assert town.api.post(f"/a/{verb}").status_code == 409

    town.api.post("/OrderProcessingWorkflow/start?instanceID=b", json=ORDER)
    assert town.api.post("/b/terminate", json="stopped").status_code == 202
    ended = town.wait_for("b", "TERMINATED")
    assert ended["properties"]["dapr.workflow.output"] == '"stopped"'

    assert town.api.post("/a/rerun?newInstanceID=c").json() == {"instanceID": "c"}
    assert town.wait_for("c", "RUNNING")["workflowName"] == "OrderProcessingWorkflow"
    assert set(town.listed()) == {"a", "b", "c"}
    assert town.listed(status="COMPLETED,TERMINATED", limit=1) == ["b", "a"]

    assert town.api.post("/b/purge").status_code == 202
    assert town.api.get("/b").status_code == 404
    assert town.api.post("/b/purge").status_code == 404


def test_a_failure_is_told_in_the_properties(town: Town) -> None:
    town.api.post("/failing/start?instanceID=f")

    properties = town.wait_for("f", "FAILED")["properties"]

    assert properties["dapr.workflow.failure.error_type"] == "ValueError"
    assert properties["dapr.workflow.failure.error_message"] == "no stock"
    assert "raise ValueError" in properties["dapr.workflow.failure.stack_trace"]
    assert "dapr.workflow.output" not in properties


def test_a_start_can_be_repeated_after_the_instance_went_on(town: Town) -> None:
    path = "/count_down/start?instanceID=c"
    town.api.post(path, json=3)
    town.api.post("/c/raiseEvent/next")
    poll(lambda: town.status("c")["properties"].get("dapr.workflow.input") == "2", 20)

    assert town.api.post(path, json=3).status_code == 202
    assert town.api.post(path, json=2).status_code == 409

    for _ in range(2):
        town.api.post("/c/raiseEvent/next")
    town.wait_for("c", "COMPLETED")
    assert town.api.post(path, json=3).status_code == 202
    assert town.status("c")["runtimeStatus"] == "COMPLETED"


def test_a_start_whose_server_was_killed_before_its_answer_is_repeated(town: Town) -> None:
    town.env["WFQ_FAILPOINTS"] = "api.after_start=kill"
    doomed = town.wfq("server", "--port", "0")
    log = doomed.wait_for_log("HTTP API on http", 30)
    lost = re.findall(r"HTTP API on (http://\S+)", log)[0]
    path, key = "/OrderProcessingWorkflow/start", {"Idempotency-Key": "order 17"}

    with pytest.raises(httpx.TransportError):
        httpx.post(f"{lost}/v1.0/workflows/dapr{path}", json=ORDER, headers=key, timeout=30)
    assert doomed.wait() == -signal.SIGKILL
    (kept,) = town.listed()

    again = town.api.post(path, json=ORDER, headers=key)
    assert (again.status_code, again.json()) == (202, {"instanceID": kept})
    assert town.api.post(path, json={}, headers=key).status_code == 409
    assert town.listed() == [kept]


def test_sigterm_ends_the_server_in_order(town: Town) -> None:
    town.api.post("/OrderProcessingWorkflow/start?instanceID=a", json=ORDER)

    assert town.server.stop() == 0

    assert "Traceback" not in town.server.log()


@pytest.mark.long
def test_a_listener_that_is_killed_in_mid_flight_loses_nothing(town: Town, valkey_url: str) -> None:
    town.api.post("/OrderProcessingWorkflow/start?instanceID=o", json=ORDER)
    listen = [
        "listen", "--stream", "approvals", "--event", "approval_received",
        "--instance-id-from", "$.order",
    ]  # fmt: skip
    town.env["WFQ_FAILPOINTS"] = "listen.before_ack=kill"
    doomed = town.wfq(*listen)
    doomed.wait_for_log("ready as", 30)
    with command_client(valkey_url) as client:
        client.xadd("approvals", {"data": '{"order":"o","by":"Jane"}'})
        assert doomed.wait() == -signal.SIGKILL
        pending: Any = client.xpending("approvals", "wfq")
        assert pending["pending"] == 1

        del town.env["WFQ_FAILPOINTS"]
        heirs = [town.wfq(*listen) for _ in range(2)]

        def nothing_pending() -> bool:
            found: Any = client.xpending("approvals", "wfq")
            return bool(found["pending"] == 0)

        assert poll(nothing_pending, 40)
    town.wait_for("o", "COMPLETED")
    events = town.api.get("/o/history").json()["events"]
    assert [e["type"] for e in events].count("EventRaised") == 1
    counted = r'wfq_listener_messages_total\{source="stream approvals",what="claimed",.*\} 1'
    poll(lambda: re.findall(counted, httpx.get(f"{town.url}/metrics").text), 15)
    for heir in heirs:
        assert heir.stop() == 0


def test_the_api_says_503_while_redis_is_away_and_goes_on_after(
    request: pytest.FixtureRequest,
    processes: Processes,
    start_server: Callable[..., LocalServer],
) -> None:
    redis_server = start_server("valkey", "--appendonly", "yes", "--appendfsync", "always")
    town = Town(processes, redis_server.url)
    request.addfinalizer(town.api.close)
    town.api.post("/OrderProcessingWorkflow/start?instanceID=a", json=ORDER)
    town.wait_for("a", "RUNNING")

    redis_server.kill()

    away = town.api.get("/a")
    assert away.status_code == 503
    assert away.json()["errorCode"] == "ERR_STORAGE_UNAVAILABLE"
    assert away.headers["retry-after"] == "1"
    assert httpx.get(f"{town.url}/readyz").status_code == 503
    redis_server.start()
    assert poll(lambda: town.api.get("/a").status_code == 200)
    assert "Traceback" not in town.server.log()
    town.api.close()
