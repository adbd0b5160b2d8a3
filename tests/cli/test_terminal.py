"""What commands write to a real (pseudo-)terminal, and to one that wants no escape codes."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

import wfq as wf
from tests.servers import clean_env

ESCAPE = "\x1b"
#: What the followed workflow's history has, in its order.
KINDS = (
    "ExecutionStarted",
    "TaskScheduled",
    "TaskCompleted",
    "EventAwaited",
    "EventRaised",
    "ExecutionFailed",
)

pytestmark = pytest.mark.processes


class Terminal:
    """One command whose stdin, stdout and stderr are a pseudo-terminal."""

    def __init__(self, url: str, directory: Path, *arguments: str, env: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "wfq_cli", *arguments],
            cwd=directory,
            env=clean_env({"WFQ_REDIS_URL": url, "TERM": "xterm", "COLUMNS": "100", **env}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def until(self, pattern: str, deadline_s: float = 20.0) -> None:
        """Read until the pattern is there."""
        end = time.monotonic() + deadline_s
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, f"{pattern!r} is not in {self.text!r}"
            self._read()

    def end(self, deadline_s: float = 20.0) -> int:
        """Read to the end and return the exit code."""
        end = time.monotonic() + deadline_s
        while self._read():
            assert time.monotonic() < end, self.text
        os.close(self._ours)
        return self._process.wait(10)

    def close(self) -> None:
        """End the command if it has not."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 0.5)[0]:
            return True
        try:
            part = os.read(self._ours, 65536)
        except OSError:  # EIO: how Linux says that nobody writes any more
            return False
        self.text += part.decode(errors="replace")
        return bool(part)


def run(url: str, directory: Path, *arguments: str, **env: str) -> tuple[int, str]:
    terminal = Terminal(url, directory, *arguments, env=env)
    try:
        return terminal.end(), terminal.text
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("get", "order-7"), {"NO_COLOR": "1"}),
        (("list",), {"NO_COLOR": "1"}),
        (("start", "order"), {"NO_COLOR": "1"}),
        (("get", "nothing"), {"TERM": "dumb"}),
    ],
    ids=str,
)
def test_there_are_no_escape_codes_where_none_are_wanted(
    valkey_url: str, tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    with wf.WorkflowClient(redis_url=valkey_url) as client:
        client.schedule_new_workflow("order", instance_id="order-7")

    _, plain = run(valkey_url, tmp_path, *arguments, **env)

    assert plain
    assert ESCAPE not in plain


def test_a_terminal_gets_emphasis(valkey_url: str, tmp_path: Path) -> None:
    code, text = run(valkey_url, tmp_path, "get", "nothing")

    assert code == 5
    assert text.startswith(f"{ESCAPE}[31m{ESCAPE}[1mwfq:{ESCAPE}[0m no workflow instance")


def test_follow_shows_events_while_they_come(valkey_url: str, tmp_path: Path) -> None:
    wfr = wf.WorkflowRuntime(redis_url=valkey_url)
    gate = threading.Event()

    @wfr.activity
    def first() -> None:
        gate.wait(20)

    @wfr.workflow
    def order(ctx: wf.WorkflowContext) -> object:
        yield ctx.call_activity(first)
        data = yield ctx.wait_for_external_event("approval")
        raise ValueError(f"refused by {data}")

    with wfr, wf.WorkflowClient(redis_url=valkey_url) as client:
        arguments = ("start", "order", "--id", "o-1", "--follow", "-o", "table")
        terminal = Terminal(valkey_url, tmp_path, *arguments, env={"NO_COLOR": "1"})
        try:
            terminal.until("TaskScheduled.*first")
            assert "TaskCompleted" not in terminal.text
            gate.set()
            terminal.until("EventAwaited.*approval")
            assert "ExecutionFailed" not in terminal.text
            client.raise_workflow_event("o-1", "approval", data="Ada")
            code = terminal.end()
        finally:
            gate.set()
            terminal.close()

    assert code == 3
    shown = [terminal.text.index(kind) for kind in KINDS]
    assert shown == sorted(shown)
    assert re.search(r"status +FAILED", terminal.text)
    assert re.search(r"failure +ValueError: refused by Ada", terminal.text)
    assert ESCAPE not in terminal.text
