"""Breaks things, by a plan that a seed determines, and heals what it broke."""

from __future__ import annotations

import heapq
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import redis

from tests.chaos.fleet import ROLES, Fleet, Way
from tests.chaos.powercut import PowerCuts
from tests.faults.proxy import CLEAR, Weather
from tests.servers import LocalServer, command_client, poll, runs
from wfq.storage.keys import Namespace

#: Mean seconds between faults.
EVERY_S = 0.7
#: What the plan draws from: kind -> weight.
KINDS: Mapping[str, int] = {
    "kill": 18,
    "failpoint": 10,
    "freeze": 10,
    "drain": 5,
    "server kill": 5,
    "server restart": 2,
    "server freeze": 3,
    "script flush": 5,
    "destroy events group": 3,
    "destroy activities group": 3,
    "client kill": 5,
    "cut": 6,
    "hold": 5,
    "refuse": 3,
    "delay": 5,
    "drop reply": 5,
    "drop request": 3,
    "swallow": 3,
    "tear": 3,
}
#: Faults that lose what was acknowledged in the last second (see `powercut`).
LOSSY: Mapping[str, int] = {**KINDS, "server kill": 0, "server power": 12}
#: Failpoints by role.
POINTS: Mapping[str, Sequence[str]] = {
    "orchestrator": ("orch.after_read", "orch.after_load", "orch.after_inline", "orch.after_run",
                     "orch.after_commit"),
    "activity": ("act.after_read", "act.before_exec", "act.after_exec", "act.before_report",
                 "act.after_report"),
    "scheduler": ("sched.after_read", "sched.after_fire", "sched.before_deliver",
                  "sched.after_deliver", "sched.after_trim"),
}  # fmt: skip
#: Where clients connect: a way of their own through a proxy.
CLIENTS = "clients"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when (seconds into the round), what, against whom, how long or how hard."""

    at_s: float
    kind: str
    target: str
    seconds: float = 0.0
    number: int = 0
    #: Of "failpoint": what is armed in the next lives, instead of drawing it.
    lives: Sequence[str] = ()


def draw_plan(seed: int, seconds: float, kinds: Mapping[str, int] = KINDS) -> list[Fault]:
    """Return the faults of a round; the same ones for the same seed."""
    rng = Random(f"nemesis {seed}")
    names, weights = list(kinds), list(kinds.values())
    plan: list[Fault] = []
    at_s = 0.0
    while True:
        at_s += rng.expovariate(1 / EVERY_S)
        if at_s >= seconds:
            return plan
        kind = rng.choices(names, weights)[0]
        # A third of the wire's faults strikes the clients.
        target = CLIENTS if kind in WEATHER and rng.random() < 0.3 else rng.choice(list(ROLES))
        length = rng.choice((0.1, 0.5, rng.uniform(0.5, 2.0), rng.uniform(2.0, 5.0)))
        plan.append(Fault(at_s, kind, target, length, rng.randrange(1_000_000)))


#: Faults of the wire: what the weather becomes while they last.
WEATHER: Mapping[str, Weather] = {
    "cut": CLEAR,
    "hold": Weather(hold=True),
    "refuse": Weather(refuse=True),
    "delay": Weather(delay_s=0.15),
    "drop reply": Weather(drop_reply=0.03),
    "drop request": Weather(drop_request=0.03),
    "swallow": Weather(swallow=0.01),
    "tear": Weather(tear=0.03),
}


class Nemesis:
    """Carries out a plan. Everything happens in the calling thread."""

    def __init__(
        self,
        server: LocalServer | None,
        namespace: Namespace,
        fleet: Fleet,
        clients: Way,
        plan: Sequence[Fault],
        power: PowerCuts | None = None,
    ) -> None:
        if server is not None:
            self._server = server
        self._power = power
        self._namespace = namespace
        self._fleet = fleet
        self._proxies: dict[str, Way] = {
            CLIENTS: clients,
            **{m.name: m.proxy for m in fleet.members.values()},
        }
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._server_runs = True
        self.counts: Counter[str] = Counter()
        self._begin = time.monotonic()
        for fault in plan:
            self._push(fault.at_s, self._striking(fault))

    def run(self, seconds: float) -> None:
        """Strike for so long."""
        self._begin = time.monotonic()
        for _ in self._ticks(seconds):
            self._fleet.tend()

    def heal(self) -> None:
        """Undo every fault: afterwards server, ways and workers are as good as new."""
        self._later.clear()
        if not self._server_runs:
            self._start_server()
        os.kill(self._server.pid, signal.SIGCONT)
        for proxy in self._proxies.values():
            proxy.set(CLEAR)
        self._fleet.heal()

    def _ticks(self, seconds: float) -> Iterator[None]:
        while (now := time.monotonic() - self._begin) < seconds:
            while self._later and self._later[0][0] <= now:
                heapq.heappop(self._later)[2]()
            yield
            soon = self._later[0][0] - now if self._later else 0.05
            time.sleep(max(0.0, min(0.05, soon)))

    def _push(self, at_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._later, (at_s, next(self._order), act))

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._push(time.monotonic() - self._begin + seconds, act)

    def _striking(self, fault: Fault) -> Callable[[], None]:
        def strike() -> None:
            if fault.kind in WEATHER:
                self._change_weather(fault)
            elif fault.kind.startswith("server"):
                self._strike_server(fault)
            elif fault.kind in self._WORKERS:
                self._WORKERS[fault.kind](self, fault)
            else:
                self._strike_data(fault)

        return strike

    # --- the wire

    def _change_weather(self, fault: Fault) -> None:
        proxy = self._proxies[fault.target]
        self.counts[fault.kind] += 1
        if fault.kind == "cut":
            proxy.cut()
            return
        proxy.set(WEATHER[fault.kind])
        self._after(fault.seconds, lambda: proxy.set(CLEAR))

    # --- workers

    def _kill(self, fault: Fault) -> None:
        self._fleet.kill(fault.target, fault.seconds / 4)
        self.counts["kill"] += 1

    def _failpoint(self, fault: Fault) -> None:
        self._fleet.kill(fault.target, 0.0, fault.lives or (self._draw_points(fault),))
        self.counts["failpoint"] += 1

    def _draw_points(self, fault: Fault) -> str:
        rng = Random(fault.number)
        role = rng.choice(ROLES[fault.target].split(","))
        point = rng.choice(POINTS[role])
        nth = rng.choice((1, 2, 3, 10, 50))
        action = rng.choice(("kill", "kill", "raise", f"sleep:{fault.seconds:.1f}"))
        if point.endswith("exec") and action == "raise":
            # It would be the activity's own failure.
            action = "kill"
        return f"{point}={action}@{nth}"

    def _freeze(self, fault: Fault) -> None:
        self._fleet.freeze(fault.target)
        self.counts["freeze"] += 1
        self._after(fault.seconds, lambda: self._fleet.thaw(fault.target))

    def _drain(self, fault: Fault) -> None:
        self._fleet.drain(fault.target)
        self.counts["drain"] += 1

    _WORKERS: Mapping[str, Callable[[Nemesis, Fault], None]] = {
        "kill": _kill,
        "failpoint": _failpoint,
        "freeze": _freeze,
        "drain": _drain,
    }

    # --- the server

    def _strike_server(self, fault: Fault) -> None:
        if not self._server_runs:
            return
        self.counts[fault.kind] += 1
        if fault.kind == "server freeze":
            os.kill(self._server.pid, signal.SIGSTOP)
            pid = self._server.pid
            self._after(min(fault.seconds, 3.0), lambda: self._thaw_server(pid))
            return
        self._server_runs = False
        os.kill(self._server.pid, signal.SIGCONT)
        if fault.kind == "server restart":
            os.kill(self._server.pid, signal.SIGTERM)
            poll(lambda: not runs(self._server.pid), 20)
        if fault.kind == "server power" and self._power is not None:
            self._power.cut()
        self._server.kill()
        self._after(fault.seconds / 3, self._start_server)

    def _thaw_server(self, pid: int) -> None:
        if self._server.pid == pid and self._server_runs:
            os.kill(pid, signal.SIGCONT)

    def _start_server(self) -> None:
        if not self._server_runs:
            self._server.start()
            self._server_runs = True

    # --- what the server holds

    def _strike_data(self, fault: Fault) -> None:
        if not self._server_runs:
            return
        try:
            with command_client(self._server.url) as client:
                client.connection_pool.connection_kwargs["socket_timeout"] = 2
                self._command(fault, client)
        except redis.RedisError:
            return
        self.counts[fault.kind] += 1

    def _command(self, fault: Fault, client: redis.Redis) -> None:
        partition = fault.number % self._namespace.partitions
        if fault.kind == "script flush":
            client.script_flush()
        elif fault.kind == "client kill":
            kind = ("normal", "pubsub")[fault.number // 1000 % 2]
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        elif fault.kind == "destroy activities group":
            stream = self._namespace.activities(partition, "default")
            client.execute_command("XGROUP", "DESTROY", stream, "activities")
        else:
            token = client.hget(self._namespace.lease(partition, "default"), "token")
            if token:
                stream = self._namespace.events(partition, "default")
                client.execute_command("XGROUP", "DESTROY", stream, token)
