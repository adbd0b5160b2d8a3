"""The worker processes of a campaign: killed, frozen and drained, and started again."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.faults.proxy import Weather
from tests.servers import ROOT, Processes, Spawned, poll

#: Short leases, so that what a dead process held moves within a round.
SETTINGS = {
    "WFQ_LEASE_S": "1.5",
    "WFQ_TASK_LEASE_S": "2",
    "WFQ_CONCURRENCY": "16",
    # A nemesis may strike the same attempt several times: none of them is poison.
    "WFQ_MAX_DELIVERIES": "1000",
    "WFQ_DRAIN_S": "5",
}
#: Roles of the processes, by name.
ROLES: Mapping[str, str] = {
    "orchestrator-1": "orchestrator",
    "orchestrator-2": "orchestrator",
    "activity-1": "activity",
    "activity-2": "activity",
    "scheduler-1": "scheduler",
    "all-1": "orchestrator,activity,scheduler",
}
START_S = 60.0


class Way(Protocol):
    """A way to the server, on which things may break."""

    @property
    def url(self) -> str: ...

    def set(self, weather: Weather) -> None:
        """Change what happens on it."""

    def cut(self) -> None:
        """Cut every connection."""

    def close(self) -> None:
        """Close it for good."""


class OpenRoad:
    """A way on which nothing breaks."""

    def __init__(self, url: str) -> None:
        self.url = url

    def set(self, weather: Weather) -> None:
        """There is no weather here."""

    def cut(self) -> None:
        """Nor anything to cut."""

    def close(self) -> None:
        """Nothing to close."""


@dataclass(slots=True)
class Member:
    """One process of the fleet, and its way to the server."""

    name: str
    roles: str
    proxy: Way
    process: Spawned | None = None
    frozen: bool = False
    #: Monotonic seconds before which it is not started again.
    rests_until: float = 0.0
    #: Failpoints of its next lives, and whether its present one has some.
    failpoints: Sequence[str] = ()
    armed: bool = False
    starts: int = 0


@dataclass(slots=True)
class Fleet:
    """All members. Driven by one thread."""

    directory: Path
    ledger: Path
    members: dict[str, Member]
    mutation: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    processes: Processes = field(init=False)

    def __post_init__(self) -> None:
        self.processes = Processes(self.directory / "logs")

    def start(self, member: Member) -> None:
        """Start a member that does not run."""
        env = {
            **SETTINGS,
            "WFQ_REDIS_URL": member.proxy.url,
            "CHAOS_LEDGER": str(self.ledger),
            "CHAOS_MUTATION": self.mutation,
        }
        if member.failpoints:
            env["WFQ_FAILPOINTS"] = member.failpoints[0]
        member.armed, member.failpoints = bool(member.failpoints), member.failpoints[1:]
        member.process = self.processes.python(
            "-m", "tests.chaos.worker", "worker", "tests.chaos.app", "--only", member.roles,
            env=env, cwd=ROOT, name=f"{member.name}-{member.starts}",
        )  # fmt: skip
        member.starts += 1
        member.frozen = False

    def tend(self) -> None:
        """Start again what has ended and rested."""
        for member in self.members.values():
            process = member.process
            if process is None or (not process.alive and time.monotonic() >= member.rests_until):
                if process is not None:
                    self.counts["starts after a death"] += 1
                self.start(member)

    def kill(self, name: str, rest_s: float = 0.0, failpoints: Sequence[str] = ()) -> None:
        """SIGKILL a member; it starts again after `rest_s`. failpoints: of its next lives."""
        member = self.members[name]
        member.rests_until = time.monotonic() + rest_s
        member.failpoints = failpoints
        if member.process is not None and member.process.alive:
            member.process.kill()
            self.counts["SIGKILL"] += 1

    def freeze(self, name: str) -> None:
        """SIGSTOP a member."""
        member = self.members[name]
        if member.process is not None and member.process.alive and not member.frozen:
            member.process.send(signal.SIGSTOP)
            member.frozen = True
            self.counts["SIGSTOP"] += 1

    def thaw(self, name: str) -> None:
        """SIGCONT a member."""
        member = self.members[name]
        if member.frozen and member.process is not None and member.process.alive:
            member.process.send(signal.SIGCONT)
        member.frozen = False

    def drain(self, name: str) -> None:
        """SIGTERM a member; it starts again once it has ended."""
        member = self.members[name]
        if member.process is not None and member.process.alive and not member.frozen:
            member.process.send(signal.SIGTERM)
            self.counts["SIGTERM"] += 1

    def heal(self) -> None:
        """Thaw everything, and have every member run without failpoints."""
        for member in self.members.values():
            self.thaw(member.name)
            member.failpoints = ()
            if member.armed:
                self.kill(member.name)
            member.rests_until = 0.0
        self.tend()

    def wait_ready(self) -> None:
        """Wait until every member works. Raises: AssertionError."""
        for member in self.members.values():
            assert member.process is not None
            member.process.wait_for_log("ready as ", START_S)

    def stop(self) -> list[str]:
        """Drain every member; returns the names of those that did not end in order."""
        running = [m for m in self.members.values() if m.process is not None and m.process.alive]
        for member in running:
            assert member.process is not None
            self.thaw(member.name)
            member.process.send(signal.SIGTERM)
        late = []
        for member in running:
            process = member.process
            assert process is not None
            try:
                poll(lambda p=process: not p.alive, 30)  # type: ignore[misc]
            except AssertionError:
                late.append(f"{member.name} did not end within 30 s of SIGTERM")
                continue
            if process.popen.returncode:
                late.append(f"{member.name} ended with {process.popen.returncode}")
        return late

    def close(self) -> None:
        """End all processes at once."""
        self.processes.close()

    def logs(self) -> list[Path]:
        """The output of every process that ever ran."""
        return sorted((self.directory / "logs").glob("*.log"))
