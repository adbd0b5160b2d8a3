"""Worker processes, started the way users start them: ``wfq worker APP --only ROLES``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers import Processes, Spawned, poll
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

APP = Path(__file__).parent / "app.py"

#: Roles of one process, as `--only` takes them.
ALL = "orchestrator,activity,scheduler"

#: Seconds for workers to start and to share the partitions among them.
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Worker processes: the roles of each. `concurrency`: activities at once in one process."""

    name: str
    roles: tuple[str, ...]
    concurrency: int | None = None

    @property
    def orchestrators(self) -> int:
        return sum("orchestrator" in roles for roles in self.roles)


ONE = Layout("one process", (ALL,))
TWO_AND_TWO = Layout(
    "2 + 2", ("orchestrator,scheduler", "orchestrator,scheduler", "activity", "activity")
)


class Fleet:
    """The worker processes of one layout."""

    def __init__(self, url: str, layout: Layout, directory: Path, app: Path = APP) -> None:
        self.url = url
        self.layout = layout
        self.app = app
        self._processes = Processes(directory)
        self.workers: list[tuple[str, Spawned]] = []

    def start(self) -> None:
        """Start all processes; returns once they work and have shared the partitions."""
        for roles in self.layout.roles:
            arguments = ["worker", str(self.app), "--only", roles]
            if self.layout.concurrency is not None:
                arguments += ["--concurrency", str(self.layout.concurrency)]
            worker = self._processes.wfq(*arguments, env={"WFQ_REDIS_URL": self.url})
            self.workers.append((_label(roles), worker))
        for _, worker in self.workers:
            worker.wait_for_log("ready", START_S)
        if self.layout.orchestrators:
            poll(self._shared, START_S)

    def _shared(self) -> bool:
        """Whether every partition is owned, and the orchestrators own about as many."""
        namespace = Namespace()
        link = SyncLink(self.url)
        leases = [namespace.lease(number, "default") for number in range(namespace.partitions)]
        owners = Counter(link.commands([("HGET", lease, "owner") for lease in leases]))
        link.close()
        share = -(-namespace.partitions // self.layout.orchestrators)
        # One more: an orchestrator may keep what it adopted while another was slow to start.
        return None not in owners and max(owners.values()) <= share + 1

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds that living processes have used, by their roles."""
        used: dict[str, float] = {}
        for label, worker in self.workers:
            if worker.alive:
                used[label] = used.get(label, 0.0) + process_cpu_s(worker.pid)
        return used

    def memory_bytes(self) -> int:
        """Resident bytes of all processes."""
        return sum(resident_bytes(worker.pid) for _, worker in self.workers if worker.alive)

    def pids(self) -> list[tuple[str, int]]:
        return [(label, worker.pid) for label, worker in self.workers]

    def stop(self) -> None:
        """Drain all processes, at the same time."""
        for _, worker in self.workers:
            worker.popen.terminate()
        end = time.monotonic() + START_S
        for _, worker in self.workers:
            try:
                worker.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                sys.stderr.write(f"worker {worker.pid} does not end; see {worker.log_path}\n")
        self.kill()

    def kill(self) -> None:
        """End all processes at once."""
        self._processes.close()
        self.workers = []

    def logs(self) -> str:
        """What the processes have said of trouble."""
        lines = [
            f"{worker.log_path.name}: {line}"
            for _, worker in self.workers
            for line in worker.log().splitlines()
            if '"level": "info"' not in line
        ]
        return "\n".join(lines[-40:])


def _label(roles: str) -> str:
    named = [role for role in roles.split(",") if role != "scheduler"]
    return "both roles" if len(named) > 1 else (named or ["scheduler"])[0]


def process_cpu_s(pid: int) -> float:
    """CPU seconds of a process, all threads."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return _clock(_ps(pid, "time"))


def resident_bytes(pid: int) -> int:
    """Bytes of memory that a process occupies."""
    return int(_ps(pid, "rss") or 0) * 1024


def _ps(pid: int, column: str) -> str:
    command: Sequence[str] = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _clock(text: str) -> float:
    """Seconds of ``[[days-]hours:]minutes:seconds``."""
    days, _, rest = text.rpartition("-")
    seconds = 0.0
    for part in rest.split(":"):
        seconds = seconds * 60 + float(part or 0)
    return seconds + int(days or 0) * 86_400
