"""A worker whose thread dies of a bug of wfq ends, instead of holding leases for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import Processes
from wfq_workers.process import STUCK_STATUS

pytestmark = pytest.mark.processes

PROGRAM = """
import logging, sys, threading, time
from wfq_workers.process import run_worker

logging.basicConfig(stream=sys.stderr)

class Loop:
    def start(self):
        threading.Thread(target=self.die, name=sys.argv[1], daemon=True).start()
    def die(self):
        raise ZeroDivisionError("a bug")
    def wait_ready(self, timeout_s):
        return True
    def stop(self, grace_s):
        pass

def ready():
    print("ready", flush=True)

run_worker([Loop()], on_ready=ready)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_a_worker_ends_when_a_thread_of_wfq_dies(program: Path, processes: Processes) -> None:
    worker = processes.python(program, "wfq-turns")

    assert worker.wait() == STUCK_STATUS
    assert "thread wfq-turns died" in worker.log()
    assert "ZeroDivisionError: a bug" in worker.log()


def test_a_thread_of_the_user_may_die(program: Path, processes: Processes) -> None:
    worker = processes.python(program, "of-the-user")
    worker.wait_for_log("ZeroDivisionError: a bug")

    assert worker.stop() == 0, worker.log()
