"""``wfq graph``, ``wfq trace`` and ``wfq list --watch``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import wfq as wf
from tests.cli.conftest import Cli
from tests.servers import poll
from wfq_cli.app import cli
from wfq_cli.trace import duration_text

APP = """
import wfq as wf

def order(ctx: wf.WorkflowContext, n: int):
    yield ctx.call_activity(work, input=n)
    yield ctx.call_child_workflow(inner)

def inner(ctx: wf.WorkflowContext):
    yield ctx.wait_for_external_event("go")

def work(n: int):
    return n
"""


@pytest.fixture
def app(wfq: Cli) -> Path:
    path = Path("pictures_app.py")
    path.write_text(APP)
    return path


def test_graph_draws_mermaid_and_svg(wfq: Cli, app: Path) -> None:
    mermaid = wfq.ok("graph", "pictures_app.py:order")
    svg = wfq.ok("graph", "pictures_app.py:order", "-o", "svg")

    assert mermaid.startswith("flowchart TD\n")
    assert '["work"]' in mermaid
    assert '[["inner"]]' in mermaid
    assert svg.startswith("<svg ")
    assert "<style>" in svg


def test_graph_says_which_workflows_there_are(wfq: Cli, app: Path) -> None:
    assert "pictures_app.py:inner, pictures_app.py:order" in wfq.fails(2, "graph", str(app))
    assert "no workflow 'ordre'" in wfq.fails(2, "graph", "pictures_app.py:ordre")


def test_trace_shows_activities_waits_and_children(wfq: Cli) -> None:
    def order(ctx: wf.WorkflowContext, n: int):  # type: ignore[no-untyped-def]
        yield ctx.call_activity(work, input=n)
        yield ctx.call_child_workflow(inner)

    def inner(ctx: wf.WorkflowContext):  # type: ignore[no-untyped-def]
        yield ctx.wait_for_external_event("go")

    def work(n: int) -> int:
        return n

    runtime = wf.WorkflowRuntime(redis_url=wfq.env["WFQ_REDIS_URL"])
    for workflow in (order, inner):
        runtime.register_workflow(workflow)
    runtime.register_activity(work)
    with runtime, wf.WorkflowClient(redis_url=wfq.env["WFQ_REDIS_URL"]) as client:
        client.schedule_new_workflow(order, input=1, instance_id="o-1")
        seen = poll(lambda: _waits(wfq))
        child = seen["spans"][1]["child"]
        client.raise_workflow_event(child["instance_id"], "go")
        picture = wfq.ok("trace", "o-1", "--follow", "-o", "table")

    assert [(s["kind"], s["state"]) for s in seen["spans"]] == [
        ("activity", "done"),
        ("child", "open"),
    ]
    assert picture.splitlines()[-4].startswith("order o-1")
    assert "COMPLETED" in picture.splitlines()[-4]
    assert "✓ work" in picture
    assert "✓ event go" in picture.splitlines()[-1]


def _waits(wfq: Cli) -> Any:
    found = wfq.json("trace", "o-1")
    children = [span["child"] for span in found["spans"] if "child" in span]
    return found if children and children[0]["spans"] else None


def test_trace_of_nothing_says_so(wfq: Cli) -> None:
    assert "no workflow instance 'o-2'" in wfq.fails(5, "trace", "o-2")


def test_list_watch_draws_until_it_is_stopped(wfq: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    wfq.ok("start", "chain", "--id", "c-1")
    beats: list[float] = []

    def stop(seconds: float) -> None:
        beats.append(seconds)
        if len(beats) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("wfq_cli.listing.time.sleep", stop)
    done = CliRunner(env=wfq.env).invoke(cli, ["list", "--watch"])

    assert len(beats) == 2
    assert "1 PENDING" in done.stdout
    assert "c-1" in done.stdout


def test_durations_are_short() -> None:
    shown = [duration_text(ms) for ms in (8, 1234, 250_000, 11_100_000, 200_000_000)]

    assert shown == ["8ms", "1.2s", "4m10s", "3h05m", "2d07h"]
