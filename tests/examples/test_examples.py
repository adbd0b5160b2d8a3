"""Every example runs on two real worker processes and gives the answer that it promises."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

import wfq as wf
from tests.ports import free_port
from tests.servers import ROOT, Processes, clean_env, poll
from wfq.storage import membership
from wfq.storage.link import SyncLink

EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.processes


class Example:
    """One example file, served by worker processes of its own."""

    def __init__(self, name: str, url: str, processes: Processes) -> None:
        self.env = {"WFQ_REDIS_URL": url}
        self.processes = processes
        self.client = wf.WorkflowClient(redis_url=url)
        self.link = SyncLink(url)
        self.namespace = membership.open_namespace(self.link, "default")
        for _ in range(2):
            processes.wfq("worker", EXAMPLES / f"{name}.py", env=self.env)
        poll(lambda: len(membership.live_workers(self.link, self.namespace)) >= 2, 20)

    def run(self, workflow: str, given: Any, instance_id: str | None = None) -> Any:
        """Run a workflow to its end and return its state."""
        started = self.client.schedule_new_workflow(workflow, input=given, instance_id=instance_id)
        return self.client.wait_for_workflow_completion(started, timeout_in_seconds=30)

    def close(self) -> None:
        self.client.close()
        self.link.close()


@pytest.fixture
def serve(valkey_url: str, processes: Processes) -> Iterator[Callable[[str], Example]]:
    """Serve an example by name."""
    started: list[Example] = []

    def start(name: str) -> Example:
        started.append(Example(name, valkey_url, processes))
        return started[-1]

    yield start
    for example in started:
        example.close()


def test_every_example_is_tested() -> None:
    here = Path(__file__).read_text()

    for path in EXAMPLES.glob("*.py"):
        name = path.name if path.stem.startswith("test_") else f'serve("{path.stem}")'
        assert name in here, path.name


def test_the_example_of_tests_passes(tmp_path: Path) -> None:
    installed = any(point.value == "wfq.pytest_plugin" for point in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "wfq.pytest_plugin"]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey", *plugin,
         "-c", "/dev/null", "--rootdir", str(tmp_path), str(EXAMPLES / "test_purchase_order.py")],
        cwd=tmp_path, env=clean_env(), capture_output=True, text=True,
    )  # fmt: skip

    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_a_chain_passes_results_on(serve: Callable[[str], Example]) -> None:
    example = serve("chaining")

    state = example.run("set_up_customer", {"name": "acme", "plan": "team"})

    assert state.output() == {
        "database": "db-acme",
        "address": "acme.example.com",
        "invoice": "invoice-acme-team",
    }


def test_a_chain_that_fails_is_undone_backwards(serve: Callable[[str], Example]) -> None:
    example = serve("chaining")

    state = example.run("set_up_customer", {"name": "acme", "plan": "unpaid"}, "c-1")

    assert state.runtime_status.name == "FAILED"
    assert "no means of payment" in state.failure_details.message
    events = [event.to_json() for event in example.client.get_workflow_history("c-1")]
    done = [event["name"] for event in events if event["type"] == "TaskCompleted"]
    assert done == ["create_database", "publish_address", "withdraw_address", "drop_database"]
    retried = [e for e in events if e.get("name") == "publish_address" and "attempts" in e]
    assert [event["attempts"] for event in retried] == [2]


def test_a_fan_out_adds_up(serve: Callable[[str], Example]) -> None:
    example = serve("fan_out")

    state = example.run("stocktaking", "north")

    assert state.output() == {"shelves": 12, "items": 10 * sum(range(1, 13))}


def test_a_bounded_fan_out_keeps_its_bound_and_its_order(serve: Callable[[str], Example]) -> None:
    example = serve("bounded_fan_out")

    state = example.run("crawl", {"pages": 14, "at_once": 3}, "crawl-1")

    assert state.output() == [1000 + page for page in range(14)]
    events = [event.to_json() for event in example.client.get_workflow_history("crawl-1")]
    open_tasks, most = 0, 0
    for event in events:
        open_tasks += {"TaskScheduled": 1, "TaskCompleted": -1}.get(event["type"], 0)
        most = max(most, open_tasks)
    assert most == 3


def test_a_monitor_goes_on_in_two_rhythms_until_the_service_is_gone(
    serve: Callable[[str], Example],
) -> None:
    example = serve("monitor")

    state = example.run("watch", {"service": "shop", "calm_s": 0.3, "alarm_s": 0.05}, "watch-1")

    assert state.output() == {"rounds": 6}
    assert state.custom_status() == {"service": "shop", "answer": "gone", "rounds": 6}
    assert state.generation == 5
    # The last generation alone: an eternal workflow does not grow.
    assert len(example.client.get_workflow_history("watch-1")) < 10


def test_a_small_order_needs_nobody(serve: Callable[[str], Example]) -> None:
    example = serve("purchase_order")

    output = example.run("purchase", {"item": "pens", "total": 20}).output()

    assert output["placed"]
    assert output["approved_by"] == "nobody: below the limit"


@pytest.mark.parametrize(
    ("answer", "placed"),
    [({"approved": True, "by": "Ada"}, True), ({"approved": False, "by": "Bob"}, False)],
)
def test_a_large_order_waits_for_its_answer(
    serve: Callable[[str], Example], answer: dict[str, Any], placed: bool
) -> None:
    example = serve("purchase_order")
    order = {"item": "lathe", "total": 9000, "patience_s": 60}

    example.client.schedule_new_workflow("purchase", input=order, instance_id="po-7")
    example.client.raise_workflow_event("po-7", "Approval", data=answer)
    state = example.client.wait_for_workflow_completion("po-7", timeout_in_seconds=20)

    output: Any = state.output()
    assert output["placed"] is placed
    assert answer["by"] in json.dumps(output)


def test_an_order_without_an_answer_is_cancelled(serve: Callable[[str], Example]) -> None:
    example = serve("purchase_order")

    state = example.run("purchase", {"item": "lathe", "total": 9000, "patience_s": 0.2})

    assert state.output() == {"placed": False, "why": "no answer in time"}


def test_a_report_is_exported_over_http(
    serve: Callable[[str], Example], capsys: pytest.CaptureFixture[str]
) -> None:
    example = serve("async_http")
    port = free_port()
    server = example.processes.wfq("server", "--port", str(port), env=example.env)
    poll(lambda: _accepts(port), 20)
    assert server.alive

    output = _load("async_http").export(f"http://127.0.0.1:{port}", "2026-03")

    assert output == {"file": "report-2026-03.csv", "rows": 3}
    said = capsys.readouterr().out
    assert "202 accepted" in said
    assert "200 RUNNING" in said
    assert said.splitlines()[-1] == "200 COMPLETED"


def test_an_application_serves_the_api_among_its_own_pages(
    serve: Callable[[str], Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = serve("mounted_api")
    monkeypatch.setenv("WFQ_REDIS_URL", example.env["WFQ_REDIS_URL"])
    web = _load("mounted_api").web

    async def ask() -> tuple[str, httpx.Response, Any]:
        transport = httpx.ASGITransport(web)
        async with (
            web.router.lifespan_context(web),
            httpx.AsyncClient(transport=transport, base_url="http://shop.example") as session,
        ):
            home = await session.get("/")
            path = "/engine/v1.0/workflows/wfq/greet/start"
            started = await session.post(path, json="Ada")
            ended = await session.get(f"{started.headers['location']}/wait?timeout=20s")
            return home.text, started, ended.json()

    home, started, ended = asyncio.run(ask())

    assert "greet" in home
    assert started.headers["location"].startswith("http://shop.example/engine/v1.0/workflows/wfq/")
    assert ended["properties"]["dapr.workflow.output"] == '"hello Ada"'


def _accepts(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
