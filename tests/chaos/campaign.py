"""Rounds of faults, and the report over all of them."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.chaos.fleet import ROLES, Fleet, Member, OpenRoad, Way
from tests.chaos.groups import GroupNemesis, make_group
from tests.chaos.ledger import Ledger, read_ledgers
from tests.chaos.load import Load
from tests.chaos.nemesis import KINDS, Fault, Nemesis, draw_plan
from tests.chaos.powercut import PowerCuts, Window
from tests.chaos.shapes import Job, draw_jobs
from tests.chaos.verdict import PASSWORD, Verdict, read_logs, root_of
from tests.faults.proxy import Proxy, ProxyLoop
from tests.servers import Kind, LocalServer
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace
from wfq.storage.preflight import info_of

log = logging.getLogger("chaos")

#: Seconds of faults in one round; then everything is healed and judged.
ROUND_S = 45.0
#: Seconds without any progress after which what has not ended is stuck.
STUCK_S = 40.0
#: Seconds in which the workers are to have reconciled the nodes of a cluster.
RECONCILED_S = 120.0
#: Few partitions on many workers: they move often.
PARTITIONS = 8
#: The server's files lie in memory: what a disk does to them is what the plan says.
MEMORY = Path("/dev/shm")


def append_only(*, lossy: bool) -> tuple[str, ...]:
    """Options of the server: whether it may lose the last second of what it acknowledged.

    With `everysec` it may, even when only its process is killed: while an fsync takes long, on a
    slow disk or a machine with too much to do, writes wait in its memory.
    """
    fsync = "everysec" if lossy else "always"
    file = ("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
    return (*file, "--appendfsync", fsync)


@dataclass(frozen=True, slots=True)
class Options:
    """What one round does; `cores` bounds the processors used by all of it."""

    seed: int = 1
    seconds: float = ROUND_S
    server: Kind = "valkey"
    #: "sentinel" or "cluster" instead of one server: see `tests.chaos.groups`.
    on: str = ""
    per_second: float = 25.0
    kinds: Mapping[str, int] = field(default_factory=lambda: KINDS)
    #: The faults themselves, instead of drawing them.
    plan: Sequence[Fault] = ()
    #: Whether the plan may cut the power: then what was acknowledged last is asked for again.
    lossy: bool = False
    mutation: str = ""
    #: Weights of shapes that are not their own.
    shapes: Mapping[str, int] = field(default_factory=dict)
    cores: int = 2
    #: Seconds without any progress after which what has not ended is stuck.
    stuck_s: float = STUCK_S
    #: Where to keep the logs and ledgers; None: nowhere.
    keep: Path | None = None


@dataclass(slots=True)
class Report:
    """Figures and violations, of one round or of many."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.violations

    def add(self, other: Report) -> None:
        """Take in the report of another round."""
        self.counts.update(other.counts)
        self.faults.update(other.faults)
        self.violations += other.violations
        self.seconds += other.seconds

    @property
    def headline(self) -> str:
        """The figures that matter, in one line."""
        kills = self.counts["SIGKILL"] + self.faults["server kill"]
        return (
            f"{self.seconds:.0f} s, {self.counts['instances']} instances, "
            f"{self.counts['results recorded']} results, {self.counts['executions']} executions "
            f"({self.counts['executions repeated']} repeated), {self.faults.total()} faults, "
            f"{kills} kills, {len(self.violations)} violations"
        )

    def __str__(self) -> str:
        lines = [
            self.headline,
            "faults: " + _told(self.faults),
            "counts: " + _told(self.counts),
        ]
        return "\n".join([*lines, *self.violations[:50]])


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def run(options: Options) -> Report:
    """Run one round in a directory of its own."""
    with ExitStack() as stack:
        parent = MEMORY if os.access(MEMORY, os.W_OK) else None
        directory = Path(tempfile.mkdtemp(prefix="wfq-chaos-", dir=parent))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        if options.keep is not None:
            stack.callback(_keep, directory, options.keep)
        stack.enter_context(_few_cores(options.cores))
        return Round(options, directory, stack).run()


class _few_cores:  # noqa: N801 - used as a statement
    """This process and its children use only so many processors."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._before: set[int] = set()

    def __enter__(self) -> None:
        if hasattr(os, "sched_setaffinity"):
            self._before = os.sched_getaffinity(0)
            os.sched_setaffinity(0, sorted(self._before)[-self._count :])

    def __exit__(self, *_: object) -> None:
        if self._before:
            os.sched_setaffinity(0, self._before)


def _keep(directory: Path, where: Path) -> None:
    shutil.copytree(directory, where, dirs_exist_ok=True)


class Round:
    """One server, one fleet, one plan."""

    def __init__(self, options: Options, directory: Path, stack: ExitStack) -> None:
        self._options = options
        self._directory = directory
        self._ledger_directory = directory / "ledger"
        loop = ProxyLoop()
        stack.callback(loop.close)
        server_options = append_only(lossy=options.lossy)
        self._group = make_group(options.on, server_options) if options.on else None
        if self._group is not None:
            stack.callback(self._group.close)
            url = self._group.url
        else:
            self.server = LocalServer(
                options.server, server_options, password=PASSWORD, parent=directory
            )
            stack.callback(self.server.close)
            url = self.server.url
        self._link = SyncLink(url)
        stack.callback(self._link.close)
        self.namespace: Namespace = open_namespace(self._link, "default", partitions=PARTITIONS)

        def proxy(name: str) -> Way:
            if options.on:
                return OpenRoad(url)
            made = Proxy(loop, self.server.socket, password=PASSWORD, seed=f"{options.seed} {name}")
            stack.callback(made.close)
            return made

        members = {name: Member(name, roles, proxy(name)) for name, roles in ROLES.items()}
        self.fleet = Fleet(directory, self._ledger_directory, members, options.mutation)
        stack.callback(self.fleet.close)
        self._clients = proxy("clients")
        self._ledger = Ledger(self._ledger_directory)
        stack.callback(self._ledger.close)
        lossy = options.lossy and not options.on
        self._power = PowerCuts(self.server, options.seed) if lossy else None
        if self._power is not None:
            stack.callback(self._power.close)
        self.report = Report()

    def run(self) -> Report:
        """Load, faults, healing, quiet, judgement."""
        options, begin = self._options, time.monotonic()
        self.fleet.tend()
        self.fleet.wait_ready()
        load = Load(
            self._clients.url, self._ledger,
            draw_jobs(options.seed, lossy=options.lossy, favour=options.shapes),
            threads=4, per_second=options.per_second,
        )  # fmt: skip
        plan = options.plan or draw_plan(options.seed, options.seconds, options.kinds)
        power = self._power
        nemesis = self._nemesis(plan)
        load.start()
        nemesis.run(options.seconds)
        log.info("healing after %d faults", nemesis.counts.total())
        nemesis.heal()
        violations = self.report.violations
        if not load.finish(60.0):
            violations.append("some requests of clients had no outcome 60 s after the healing")
        violations += load.errors
        if power is not None:
            self._repeat(load.jobs, power.windows)
        if isinstance(nemesis, GroupNemesis):
            self._repeat(load.jobs, nemesis.windows)
        self.fleet.heal()
        self.fleet.wait_ready()
        if options.on == "cluster":
            self._wait_until_reconciled()
        self._wait_for_quiet({job.instance_id for job in load.jobs if job.shape.stays})
        windows = nemesis.windows if isinstance(nemesis, GroupNemesis) else []
        verdict = Verdict(
            self._link, self.namespace, load.jobs, read_ledgers(self._ledger_directory), windows
        )
        findings = verdict.judge()
        violations += findings.violations
        violations += self.fleet.stop()
        violations += read_logs(self.fleet.logs())
        self.report.counts.update(findings.counts)
        self.report.counts.update(self.fleet.counts)
        self.report.faults.update(nemesis.counts)
        self.report.seconds = time.monotonic() - begin
        return self.report

    def _nemesis(self, plan: Sequence[Fault]) -> Nemesis:
        if self._group is not None:
            return GroupNemesis(self._group, self.namespace, self.fleet, self._clients, plan)
        return Nemesis(self.server, self.namespace, self.fleet, self._clients, plan, self._power)

    def _wait_until_reconciled(self) -> None:
        """Wait until the workers have put back what one node has lost and another knows."""
        end = time.monotonic() + RECONCILED_S
        waiting = set(range(self.namespace.partitions))
        while waiting and time.monotonic() < end:
            self.fleet.tend()
            waiting = {number for number in waiting if not self._is_reconciled(number)}
            time.sleep(0.25)
        if waiting:
            self.report.violations.append(f"partitions {sorted(waiting)} were not reconciled")

    def _is_reconciled(self, partition: int) -> bool:
        key = self.namespace.life(partition)
        life = info_of(self._link, key, "replication")["master_replid"]
        return bool(self._link.command("GET", key) == f"{life} 2".encode())

    def _repeat(self, jobs: Sequence[Job], windows: Sequence[Window]) -> None:
        """Ask again for what was acknowledged and may be lost, as an operator would.

        Starts and events carry ids: what did survive is not done twice.
        """
        acks = read_ledgers(self._ledger_directory).acks
        risky = {
            instance_id.removesuffix(".post")
            for (instance_id, _), (_, at) in acks.items()
            if any(window.holds(at) for window in windows)
        }
        self.report.counts["loss windows"] += len(windows)
        self.report.counts["jobs at risk"] += len(risky)
        again = [job for job in jobs if job.instance_id in risky]
        load = Load(self._clients.url, self._ledger, iter(again), threads=2, per_second=500)
        load.start()
        if not load.finish(60.0, all_jobs=True):
            self.report.violations.append("repeated requests had no outcome after 60 s")
        self.report.violations += load.errors

    def _wait_for_quiet(self, staying: set[str]) -> None:
        """Wait until nothing lives and nothing moves, or nothing has moved for long.

        staying: ids of those that never end.
        """
        last, since = "", time.monotonic()
        while time.monotonic() - since < self._options.stuck_s:
            self.fleet.tend()
            now = self._state()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > 3.0 and not self._alive(staying):
                return
            time.sleep(0.25)
        log.warning("%d instances have not ended", self._alive(staying))

    def _alive(self, staying: set[str]) -> int:
        """The number of live instances that are still to end."""
        return sum(
            root_of(member.decode()) not in staying
            for partition in range(self.namespace.partitions)
            for status in ("RUNNING", "PENDING", "SUSPENDED", "STALLED")
            for member in self._link.command(
                "ZRANGE", self.namespace.index(partition, status), 0, -1
            )
        )

    def _state(self) -> str:
        """A text that changes while anything is going on."""
        parts = []
        for partition in range(self.namespace.partitions):
            prefix = self.namespace.prefix(partition)
            for key in ("events:default", "activities:default"):
                info = self._link.command("XLEN", prefix + key)
                parts.append(f"{info}")
            lease = self._link.command("HGET", self.namespace.lease(partition, "default"), "pos")
            parts.append(f"{lease}")
            parts.append(str(self._link.command("ZCARD", self.namespace.timers(partition))))
            parts.append(str(self._link.command("XLEN", self.namespace.outbox(partition))))
        return " ".join(parts)


def run_many(options: Options, seconds: float) -> Report:
    """Run rounds, each with the next seed, until `seconds` have passed."""
    total = Report()
    end = time.monotonic() + seconds
    seed = options.seed
    while time.monotonic() < end:
        report = run(_with_seed(options, seed))
        log.info("seed %d: %s", seed, report.headline)
        for violation in report.violations:
            log.error("seed %d: %s", seed, violation)
        total.add(report)
        seed += 1
    return total


def _with_seed(options: Options, seed: int) -> Options:
    keep = options.keep / str(seed) if options.keep is not None else None
    return replace(options, seed=seed, keep=keep)
