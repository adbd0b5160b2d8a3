"""`wfq demo` as a newcomer runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import Processes, clean_env, poll, runs
from wfq_cli.demo.command import activation

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(120)]


def test_every_pattern_gives_the_right_answer(tmp_path: Path) -> None:
    began = time.monotonic()

    done = subprocess.run(
        [sys.executable, "-m", "wfq_cli", "demo"],
        cwd=tmp_path,
        env=clean_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert time.monotonic() - began < 30
    assert "\x1b" not in done.stdout
    for pattern in ("Task chaining", "Fan-out", "SIGKILL", "Monitor", "by pub/sub", "POST: 202"):
        assert pattern in done.stdout
    assert "WRONG" not in done.stdout
    assert len(max(done.stdout.splitlines(), key=len)) <= 110
    # What it says to look at next is there.
    listed = subprocess.run(
        [sys.executable, "-m", "wfq_cli", "list", "--namespace", "demo", "-o", "ids"],
        cwd=tmp_path,
        env=clean_env(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert len(listed.stdout.split()) == 8


def test_an_interrupt_leaves_nothing_behind(processes: Processes, tmp_path: Path) -> None:
    demo = processes.wfq("demo", cwd=tmp_path)
    demo.wait_for_log("Starting", 20)
    children = _children(demo.pid)
    assert len(children) >= 4

    demo.send(signal.SIGINT)

    assert demo.wait(30) == 130
    assert demo.log().splitlines()[-1] == "wfq: interrupted"
    poll(lambda: not any(runs(pid) for pid in children), 10)


def test_a_demo_that_is_killed_takes_its_processes_along(
    processes: Processes, tmp_path: Path
) -> None:
    demo = processes.wfq("demo", cwd=tmp_path)
    demo.wait_for_log("Starting", 20)
    children = _children(demo.pid)

    demo.kill()

    poll(lambda: not any(runs(pid) for pid in children), 20)


def test_it_says_how_to_reach_the_command_where_it_is_not_on_the_path(tmp_path: Path) -> None:
    script = tmp_path / ".venv" / "bin" / "activate"
    script.parent.mkdir(parents=True)
    script.touch()

    assert activation(tmp_path / ".venv", tmp_path)[0][0] == ". .venv/bin/activate"
    assert activation(tmp_path / ".venv", Path("/elsewhere"))[0][0] == f". {script}"
    assert activation(tmp_path, tmp_path) == []


def _children(pid: int) -> set[int]:
    """Return the processes whose parent is `pid`."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    rows = [line.split() for line in table.stdout.splitlines()]
    return {int(child) for child, parent in rows if int(parent) == pid}
