"""The campaign on a Sentinel group or a cluster: masters die, freeze and hand over slots.

There is no proxy on the way: what breaks here are servers and workers. A master that dies or
freezes is replaced; what it acknowledged and had not replicated yet is lost, so each such fault
opens a loss window (see `powercut`), and what was acknowledged in it is asked for again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random

import redis

from tests.chaos.fleet import Fleet, Way
from tests.chaos.nemesis import Fault, Nemesis
from tests.chaos.powercut import Window
from tests.groups import ClusterGroup, SentinelGroup, TcpServer
from tests.servers import command_client
from wfq.storage.keys import Namespace

Group = SentinelGroup | ClusterGroup

_WORKERS = {"kill": 10, "failpoint": 8, "freeze": 6, "drain": 4}
_NODES = {"node kill": 6, "node freeze": 3, "script flush": 3, "client kill": 4}
#: What the plan draws from, by kind of group.
KINDS = {
    "sentinel": {**_WORKERS, **_NODES},
    "cluster": {**_WORKERS, **_NODES, "slot move": 6},
}
#: What docs/scaling.md asks of a Sentinel group. Without it a master that comes back before the
#: sentinels have told everybody of the new one acknowledges for seconds what nobody will keep.
SAFE = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
#: Seconds before a fault from which on a replica may lack what was acknowledged.
LAG_S = 3.0
#: Seconds within which another server is promoted and the others follow it. A dead master is not
#: started before: with a replica that still follows it, it would acknowledge what nobody will
#: keep until the sentinels turn it into a replica, some ten seconds later.
PROMOTED_S = 6.0


class GroupNemesis(Nemesis):
    """Strikes the servers of a group instead of the only one."""

    def __init__(
        self,
        group: Group,
        namespace: Namespace,
        fleet: Fleet,
        clients: Way,
        plan: Sequence[Fault],
    ) -> None:
        self.group = group
        self.windows: list[Window] = []
        super().__init__(None, namespace, fleet, clients, plan)

    def _servers(self) -> Sequence[TcpServer]:
        group = self.group
        return group.servers if isinstance(group, SentinelGroup) else group.nodes

    def _master_of(self, fault: Fault) -> TcpServer | None:
        """The master of a partition, if it can be done without: a replica is in step."""
        key = self._namespace.timers(fault.number % self._namespace.partitions)
        group = self.group
        try:
            found = group.master if isinstance(group, SentinelGroup) else group.owner(key)
            if all(server.answers for server in self._servers()) and found.has_replica():
                return found
        except (redis.RedisError, AssertionError, OSError):
            pass
        return None

    def _strike_data(self, fault: Fault) -> None:
        master = self._master_of(fault)
        if master is None:
            self.counts[f"{fault.kind} (not now)"] += 1
            return
        match fault.kind:
            case "node kill":
                self._lose(master.kill, PROMOTED_S)
                self._after(PROMOTED_S, lambda: self._start(master))
            case "node freeze":
                frozen_s = 3.0 + fault.seconds
                self._lose(master.freeze, frozen_s + LAG_S)
                self._after(frozen_s, master.thaw)
            case "slot move":
                if not self._move(fault):
                    return
            case _:
                with command_client(master.url) as client:
                    self._command(fault, client)
        self.counts[fault.kind] += 1

    def _lose(self, strike: Callable[[], None], seconds: float) -> None:
        begin = time.time() - LAG_S
        strike()
        self.windows.append(Window(begin, time.time() + seconds))

    def _move(self, fault: Fault) -> bool:
        group = self.group
        assert isinstance(group, ClusterGroup)
        key = self._namespace.timers(fault.number % self._namespace.partitions)
        source = group.owner(key)
        others = [n for n in group.nodes if n is not source and n.role == "master"]
        try:
            group.move(key, Random(fault.number).choice(others))
        except redis.RedisError:
            # The nodes do not all know of each other's last change yet.
            self.counts["slot move (half done)"] += 1
            self._settle(key)
            return False
        return True

    def _settle(self, key: str) -> None:
        for node in self._servers():
            if node.answers:
                slot = node.ask("CLUSTER", "KEYSLOT", key)
                try:
                    node.ask("CLUSTER", "SETSLOT", slot, "STABLE")
                except redis.RedisError:
                    pass

    def _start(self, server: TcpServer) -> None:
        if not server.answers:
            server.start()

    def heal(self) -> None:
        """Undo every fault, and wait until every server has its part again."""
        self._later.clear()
        for server in self._servers():
            if server.frozen:
                server.thaw()
            self._start(server)
        self.group.wait_healed()
        self._fleet.heal()


def make_group(kind: str, options: Sequence[str]) -> Group:
    """Start a group: with two replicas, or one for each master of a cluster."""
    if kind == "sentinel":
        return SentinelGroup(options=[*options, *SAFE], replicas=2)
    return ClusterGroup(options=options, replicas=1)
