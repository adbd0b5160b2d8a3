"""The pytest plugin as users meet it: installed, unused or used, in projects of their own."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.servers import clean_env

APP = """
import wfq as wf
from datetime import timedelta
wfr = wf.WorkflowRuntime()

@wfr.workflow
def sleeper(ctx: wf.WorkflowContext, days: int):
    yield ctx.create_timer(timedelta(days=days))
    return (yield ctx.call_activity(wake, input=days))

@wfr.activity
def wake(days: int) -> str:
    return f"awake after {days}"
"""


def run_pytest(directory: Path, test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a project of its own, with the plugin as if it was installed."""
    (directory / "app.py").write_text(APP)
    (directory / "test_it.py").write_text(test)
    installed = any(point.value == "wfq.pytest_plugin" for point in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "wfq.pytest_plugin"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey",
         *plugin, *arguments],
        cwd=directory, env=clean_env(), capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.processes
def test_an_unused_plugin_imports_nothing_of_wfq(tmp_path: Path) -> None:
    test = """
import sys
def test_nothing_is_there():
    there = [m for m in sys.modules if m.startswith(("wfq.", "redis", "pydantic", "wfq_"))]
    assert there == ["wfq.pytest_plugin"]
"""
    done = run_pytest(tmp_path, test, "--strict-markers")

    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.processes
def test_a_project_of_its_own_uses_the_fixtures(tmp_path: Path) -> None:
    test = """
import pytest
from app import sleeper, wfr

def test_found_by_import(wfq_env):
    started = wfq_env.start(sleeper, 30)
    wfq_env.skip(days=30)
    assert started.output == "awake after 30"

@pytest.mark.wfq(skip_time=True)
async def nothing(): ...

@pytest.fixture
def wfq_app():
    return "app.py"

@pytest.mark.wfq(skip_time=True)
def test_found_by_fixture(wfq_env, tmp_path, assert_replays):
    import wfq.testing
    wfq_env.mock("wake", "mocked")
    started = wfq_env.start("sleeper", 3)
    assert started.result() == "mocked"
    wfq.testing.write_history(started.saved, tmp_path)
    assert_replays(tmp_path)
"""
    done = run_pytest(tmp_path, test, "--strict-markers", "-W", "error")

    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.processes
def test_a_replay_test_fails_with_the_difference(tmp_path: Path) -> None:
    test = """
import wfq as wf
from app import wfr
from wfq.testing import Env, write_history

def test_it(assert_replays, tmp_path):
    with Env(wfr) as env:
        write_history(env.start("sleeper", 3).saved, tmp_path)
    other = wf.WorkflowRuntime()
    @other.workflow(name="sleeper")
    def changed(ctx, days):
        yield ctx.call_activity("wake", input=days)
    assert_replays(tmp_path, app=other)
"""
    done = run_pytest(tmp_path, test)

    assert "1 failed" in done.stdout
    assert "expected  CreateTimer (task 0)" in done.stdout
    assert "found     ScheduleTask 'wake' (task 0)" in done.stdout
    assert "test_it.py:12 in changed" in done.stdout
