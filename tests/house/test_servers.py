"""The test servers themselves: everything else stands on them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import ROOT, LocalServer, Processes, command_client, poll, runs


def test_a_real_server_starts_empty(real_redis_url: str) -> None:
    with command_client(real_redis_url) as client:
        assert client.dbsize() == 0

        client.set("left", "behind")


def test_poll_says_what_it_saw_last() -> None:
    with pytest.raises(AssertionError, match="last answer: 0"):
        poll(lambda: 0, 0.05)


def test_a_killed_server_comes_back_with_its_append_only_file(
    start_server: Callable[..., LocalServer],
) -> None:
    server = start_server("valkey", "--appendonly", "yes", "--appendfsync", "always")
    with command_client(server.url) as client:
        client.set("kept", "yes")
    first = server.pid

    server.restart()

    with command_client(server.url) as client:
        assert client.get("kept") == b"yes"
    assert server.pid != first


def test_a_process_that_was_left_ends_with_its_children(processes: Processes) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('child', child.pid)\n"
        "time.sleep(60)\n"
    )
    parent = processes.python("-c", code)
    log = parent.wait_for_log("\n")
    child = int(log.split()[1])

    processes.close()

    assert parent.popen.returncode == -signal.SIGKILL
    poll(lambda: not runs(child))


def test_a_server_ends_when_its_test_session_is_killed() -> None:
    code = (
        "import os, signal\n"
        "from tests.servers import LocalServer\n"
        "server = LocalServer('valkey')\n"
        "print(server.pid, server.directory, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert ended.returncode == -signal.SIGKILL, ended.stderr
    pid, directory = ended.stdout.split()
    poll(lambda: not runs(int(pid)))
    poll(lambda: not Path(directory).exists())


def test_a_process_ends_when_its_test_session_is_killed(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("a parent's death is told on Linux only")
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.servers import Processes\n"
        "child = Processes(Path(sys.argv[1])).python('-c', 'import time; time.sleep(60)')\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT
    )

    assert ended.returncode == -signal.SIGKILL, ended.stderr
    poll(lambda: not runs(int(ended.stdout)))
