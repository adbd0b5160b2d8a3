"""The supervisor of several worker processes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.servers import Processes, Spawned, poll, runs
from wfq_workers.supervisor import FIRST_DELAY_S, STEADY_S, WorkerChild

pytestmark = pytest.mark.processes

#: A worker that tells its id and does what its file says once there is one.
CHILD = """
import os, sys, time
from wfq_workers.process import new_worker_id, run_worker
worker_id = new_worker_id()
class Idle:
    def start(self): pass
    def wait_ready(self, timeout_s): return True
    def stop(self, grace_s): open(sys.argv[1] + ".stopped", "a").write(worker_id + "\\n")
with open(sys.argv[1], "a") as log:
    log.write(worker_id + "\\n")
if os.path.exists(sys.argv[1] + ".usage"):
    sys.exit(2)
sys.exit(run_worker([Idle()]))
"""

SUPERVISOR = """
import logging, sys
from wfq_workers.supervisor import Supervisor
logging.basicConfig(level=logging.INFO)
def release(worker_id):
    open(sys.argv[1] + ".released", "a").write(worker_id + "\\n")
command = [sys.executable, "-c", open(sys.argv[2]).read(), sys.argv[1]]
sys.exit(Supervisor(command, int(sys.argv[3]), grace_s=5, release=release).run())
"""


class Supervised:
    def __init__(self, processes: Processes, tmp_path: Path, count: int = 2) -> None:
        self.log = tmp_path / "log"
        program = tmp_path / "child.py"
        program.write_text(CHILD)
        self.process: Spawned = processes.python("-c", SUPERVISOR, self.log, program, str(count))

    def ids(self, kind: str = "") -> list[str]:
        path = Path(f"{self.log}{kind}")
        return path.read_text().splitlines() if path.exists() else []

    def pids(self) -> list[int]:
        return [int(worker_id.split("-")[-2]) for worker_id in self.ids()]


def test_children_run_stop_and_end_together(processes: Processes, tmp_path: Path) -> None:
    supervised = Supervised(processes, tmp_path, count=3)
    poll(lambda: len(supervised.ids()) == 3)

    status = supervised.process.stop()

    assert status == 0
    assert sorted(supervised.ids(".stopped")) == sorted(supervised.ids())
    assert supervised.ids(".released") == []
    assert not any(runs(pid) for pid in supervised.pids())


def test_a_child_that_died_is_released_and_replaced(processes: Processes, tmp_path: Path) -> None:
    supervised = Supervised(processes, tmp_path)
    poll(lambda: len(supervised.ids()) == 2)
    victim = supervised.ids()[0]

    os.kill(supervised.pids()[0], signal.SIGKILL)
    poll(lambda: len(supervised.ids()) == 3)

    poll(lambda: supervised.ids(".released") == [victim])
    assert "SIGKILL" in supervised.process.log()
    assert len(set(supervised.ids())) == 3
    assert supervised.process.stop() == 0


def test_children_end_when_the_supervisor_is_killed(processes: Processes, tmp_path: Path) -> None:
    supervised = Supervised(processes, tmp_path)
    poll(lambda: len(supervised.ids()) == 2)

    supervised.process.kill()

    poll(lambda: not any(runs(pid) for pid in supervised.pids()))
    assert sorted(supervised.ids(".stopped")) == sorted(supervised.ids())


def test_a_child_that_cannot_run_as_asked_ends_them_all(
    processes: Processes, tmp_path: Path
) -> None:
    Path(tmp_path / "log.usage").touch()

    supervised = Supervised(processes, tmp_path)

    assert supervised.process.wait() == 2
    assert not any(runs(pid) for pid in supervised.pids())


def test_a_crash_in_a_row_waits_longer_and_a_long_life_forgives() -> None:
    child = WorkerChild(0)
    child.started_at = float("inf")  # crashes at once

    delays = [child.note_end() for _ in range(4)]
    child.started_at = float("-inf")
    after = child.note_end()

    assert delays == [FIRST_DELAY_S * 2**n for n in range(4)]
    assert after == FIRST_DELAY_S
    assert STEADY_S > 0
    assert sys.executable
