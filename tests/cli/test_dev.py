"""`wfq dev`: what it starts, and what it does when files change."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_processes import get
from tests.ports import free_port
from tests.servers import Processes, Spawned, poll
from wfq_cli.reload import SourceWatch, syntax_error

APP = """
import wfq as wf
app = wf.WorkflowRuntime()

@app.workflow
def answer(ctx: wf.WorkflowContext):
    return {result}
"""


def write(text: str, path: str = "app.py") -> None:
    """Save a file as an editor does: all of it at once."""
    Path(f"{path}.new").write_text(text)
    Path(f"{path}.new").replace(path)


class Dev:
    """A running `wfq dev app.py`."""

    def __init__(self, wfq: Cli, processes: Processes, *arguments: str) -> None:
        self.wfq = wfq
        self.port = free_port()
        port = ("--port", str(self.port))
        self.process: Spawned = processes.wfq("dev", *arguments, *port, env=wfq.env, cwd=Path.cwd())

    def answer(self) -> object:
        """Run the workflow and return its output."""
        return self.wfq.json("start", "answer", "--wait", "--timeout", "20s")["output"]

    def wait_for_workers(self, other_than: int | None = None) -> int:
        """Return the pid of the worker, once there is one, other than the one given."""

        def pid() -> int | None:
            pids = {int(row["pid"]) for row in self.wfq.rows("workers")} - {other_than}
            return pids.pop() if pids else None

        return poll(pid, 20) or 0


@pytest.mark.processes
def test_a_change_is_picked_up_and_a_mistake_is_not(wfq: Cli, processes: Processes) -> None:
    write(APP.format(result=1))
    dev = Dev(wfq, processes, "app.py")
    first = dev.wait_for_workers()
    assert dev.answer() == 1

    write(APP.format(result="2 +"))
    dev.process.wait_for_log("the old code goes on")
    assert dev.answer() == 1
    write("import nowhere_at_all\n" + APP.format(result=2))
    dev.process.wait_for_log("nowhere_at_all")
    assert dev.answer() == 1
    write(APP.format(result=3))
    dev.wait_for_workers(other_than=first)

    assert dev.answer() == 3
    assert get(f"http://127.0.0.1:{dev.port}/v1.0/workflows/wfq")
    assert dev.process.stop(30) == 0
    assert "Traceback" not in dev.process.log()


@pytest.mark.processes
def test_an_app_that_is_broken_at_first_is_waited_for(wfq: Cli, processes: Processes) -> None:
    write("def broken(:\n")
    dev = Dev(wfq, processes, "app.py")
    dev.process.wait_for_log("waiting for a change")

    write(APP.format(result=4))
    dev.wait_for_workers()

    assert dev.answer() == 4
    assert dev.process.stop(30) == 0


@pytest.mark.processes
def test_a_worker_that_dies_is_started_again(wfq: Cli, processes: Processes) -> None:
    write(APP.format(result=5))
    dev = Dev(wfq, processes, "app.py")
    first = dev.wait_for_workers()

    os.kill(first, signal.SIGKILL)
    dev.wait_for_workers(other_than=first)

    assert dev.answer() == 5
    assert dev.process.stop(30) == 0


@pytest.mark.processes
def test_without_reload_a_broken_app_ends_it(wfq: Cli, processes: Processes) -> None:
    write("def broken(:\n")

    dev = Dev(wfq, processes, "app.py", "--no-reload")

    assert dev.process.wait(20) == 2
    assert "SyntaxError" in dev.process.log()


def test_dev_needs_a_server_to_share(wfq: Cli) -> None:
    said = wfq.fails(2, "dev", "app.py", "--redis-url", "memory://")

    assert "a server that its processes can share" in said


def test_the_watch_sees_what_is_made_changed_and_removed(tmp_path: Path) -> None:
    for folder in (".venv", "node_modules", "flows", "env"):
        (tmp_path / folder).mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "gone.py").touch()
    watch = SourceWatch([tmp_path])
    assert watch.changes() == []

    (tmp_path / "flows" / "new.py").write_text("x = 1")
    (tmp_path / "gone.py").unlink()
    for unseen in (".venv/a.py", "node_modules/a.py", "env/a.py", "notes.txt"):
        (tmp_path / unseen).write_text("x")

    assert watch.changes() == [tmp_path / "flows" / "new.py", tmp_path / "gone.py"]
    assert watch.changes() == []


def test_a_syntax_error_is_one_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("x = 1\n")
    bad.write_text("x = 1\ny = (\n")

    assert syntax_error([good, tmp_path / "removed.py"]) is None
    assert syntax_error([good, bad]) == "bad.py:2: '(' was never closed"


def test_children_end_with_their_parent(wfq: Cli, processes: Processes) -> None:
    write(APP.format(result=6))
    dev = Dev(wfq, processes, "app.py")
    dev.wait_for_workers()

    dev.process.kill()

    poll(lambda: json.dumps(wfq.rows("workers")) == "[]", 20)


@pytest.mark.processes
def test_code_that_replays_cannot_repeat_is_warned_of(wfq: Cli, processes: Processes) -> None:
    write("import time\n" + APP.format(result="time.time()"))

    dev = Dev(wfq, processes, "app.py")

    said = "app.py:8: workflow 'answer' calls time.time(), which a replay cannot repeat; "
    dev.process.wait_for_log(said + "use ctx.current_utc_datetime")
    assert dev.process.stop(30) == 0
