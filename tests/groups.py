"""Groups of servers for tests: a Sentinel group, and a Cluster of masters with replicas.

They listen on loopback, on ports that were free a moment ago, and end with the session like
every `LocalServer`. Timeouts are short: a failover takes two or three seconds.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import redis

from tests.ports import free_ports
from tests.servers import Kind, LocalServer, command_client, poll, runs

SERVICE = "wfq"
#: Milliseconds after which a silent master is taken for dead.
DOWN_MS = 1_000
SLOTS = 16_384


class TcpServer(LocalServer):
    """A server that listens on a port of 127.0.0.1, too; `url` is its unix socket."""

    def __init__(self, kind: Kind, options: Sequence[str] = (), *, ports: int = 1) -> None:
        self.port, *self.more_ports = free_ports(ports)
        self.frozen = False
        super().__init__(kind, options)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _arguments(self) -> list[str]:
        network = ["--port", str(self.port), "--bind", "127.0.0.1", "--protected-mode", "no"]
        return [*super()._arguments(), *network, *self._more()]

    def _more(self) -> list[str]:
        return []

    def ask(self, *words: str | int | bytes) -> Any:
        """Run one command."""
        with command_client(self.url) as client:
            return client.execute_command(*words)

    def freeze(self) -> None:
        """Stop it where it is: it keeps its connections and answers nothing."""
        self.frozen = True
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.frozen = False
        if runs(self.pid):
            os.kill(self.pid, signal.SIGCONT)

    @property
    def answers(self) -> bool:
        """Whether it can be asked."""
        return not self.frozen and runs(self.pid)

    def has_replica(self) -> bool:
        """Whether a replica is in step with this master."""
        with command_client(self.url) as client:
            info: Any = client.info("replication")
            state = info.get("slave0")
            return bool(info["role"] == "master" and state and state["state"] == "online")

    @property
    def role(self) -> str:
        """`master` or `slave`, as it says itself."""
        with command_client(self.url) as client:
            return str(client.info("replication")["role"])


class _Sentinel(TcpServer):
    def __init__(self, kind: Kind, master: int) -> None:
        self._master = master
        super().__init__(kind)

    def _arguments(self) -> list[str]:
        conf = Path(self.directory, "sentinel.conf")
        if not conf.exists():
            conf.write_text(
                f"port {self.port}\nbind 127.0.0.1\nprotected-mode no\ndir {self.directory}\n"
                f"unixsocket {self.socket}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self._master} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_MS}\n"
                f"sentinel failover-timeout {SERVICE} {4 * DOWN_MS}\n"
            )
        return [str(conf), "--sentinel"]


class SentinelGroup:
    """A master, replicas, and three sentinels that watch them."""

    def __init__(self, kind: Kind = "valkey", options: Sequence[str] = (), replicas: int = 1):
        self.servers: list[TcpServer] = []
        self.sentinels: list[_Sentinel] = []
        try:
            first = TcpServer(kind, options)
            self.servers.append(first)
            for _ in range(replicas):
                of = ("--replicaof", f"127.0.0.1 {first.port}")
                fast = ("--repl-diskless-sync-delay", "0")
                self.servers.append(TcpServer(kind, [*options, *of, *fast]))
            for server in self.servers:
                server.ask("CONFIG", "SET", "repl-diskless-sync-delay", 0)
            self.sentinels += [_Sentinel(kind, first.port) for _ in range(3)]
            self.wait_ready()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def wait_ready(self) -> None:
        """Wait until every sentinel knows the others, and a replica that is in step."""
        for sentinel in self.sentinels:
            with command_client(sentinel.url) as client:
                poll(partial(self._complete, client), 30)
        poll(lambda: self.master.ask("WAIT", len(self.servers) - 1, 200), 20)

    def _complete(self, client: redis.Redis) -> bool:
        state: Any = client.sentinel_master(SERVICE)
        replicas = int(state["num-slaves"])
        return state["num-other-sentinels"] == 2 and replicas >= len(self.servers) - 1

    @property
    def master(self) -> TcpServer:
        """The master, as the sentinels tell."""
        for sentinel in self.sentinels:
            with command_client(sentinel.url) as client:
                _, port = client.sentinel_get_master_addr_by_name(SERVICE)
            return next(server for server in self.servers if server.port == port)
        raise AssertionError("no sentinel")

    def wait_for_failover(self, old: TcpServer, deadline_s: float = 30.0) -> TcpServer:
        """Wait until another server is master, and return it."""
        return poll(
            lambda: (
                self.master if self.master is not old and self.master.role == "master" else None
            ),
            deadline_s,
        )

    def wait_healed(self) -> None:
        """Wait until there is a master, and every other server follows it."""
        poll(lambda: self.master.role == "master", 30)
        rest = len(self.servers) - 1
        poll(lambda: self.master.ask("WAIT", rest, 200) == rest, 30)

    def flush(self) -> None:
        self.master.flush()

    def close(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.close()


class _Node(TcpServer):
    def __init__(self, kind: Kind, options: Sequence[str] = ()) -> None:
        super().__init__(kind, options, ports=2)

    def _more(self) -> list[str]:
        return [
            "--cluster-enabled", "yes", "--cluster-port", str(self.more_ports[0]),
            "--cluster-node-timeout", str(DOWN_MS), "--cluster-require-full-coverage", "no",
            "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0",
            "--cluster-announce-ip", "127.0.0.1",
        ]  # fmt: skip

    @property
    def id(self) -> str:
        return bytes(self.ask("CLUSTER", "MYID")).decode()


class ClusterGroup:
    """Three masters, each with `replicas` replicas."""

    def __init__(
        self,
        kind: Kind = "valkey",
        options: Sequence[str] = (),
        *,
        masters: int = 3,
        replicas: int = 0,
    ) -> None:
        self.masters: list[_Node] = []
        self.replicas: list[_Node] = []
        try:
            self.masters += [_Node(kind, options) for _ in range(masters)]
            self.replicas += [_Node(kind, options) for _ in range(masters * replicas)]
            self._join()
        except BaseException:
            self.close()
            raise

    @property
    def nodes(self) -> list[_Node]:
        return [*self.masters, *self.replicas]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(node.address for node in self.nodes)

    def _join(self) -> None:
        first, count = self.masters[0], len(self.masters)
        for n, node in enumerate(self.masters):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
            begin, end = SLOTS * n // count, SLOTS * (n + 1) // count - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", begin, end)
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, first.more_ports[0])
        for node in self.nodes:
            poll(partial(self._knows_all, node), 20)
        for n, node in enumerate(self.replicas):
            node.ask("CLUSTER", "REPLICATE", self.masters[n % count].id)
        for node in self.nodes:
            poll(partial(self._is_ok, node), 20)
        for node in self.replicas:
            poll(partial(self._in_step, node), 20)

    def _knows_all(self, node: _Node) -> bool:
        lines = bytes(node.ask("CLUSTER", "NODES")).splitlines()
        return sum(b"handshake" not in line for line in lines) == len(self.nodes)

    def _is_ok(self, node: _Node) -> bool:
        lines = bytes(node.ask("CLUSTER", "NODES")).splitlines()
        replicas = sum(b"slave" in line for line in lines)
        state = bytes(node.ask("CLUSTER", "INFO"))
        return b"cluster_state:ok" in state and replicas == len(self.replicas)

    def _in_step(self, node: _Node) -> bool:
        with command_client(node.url) as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    def owner(self, key: str, *, among: Sequence[_Node] = ()) -> _Node:
        """The node that serves a key's slot, as the nodes tell."""
        for node in among or self.nodes:
            if not node.answers:
                continue
            slot = int(node.ask("CLUSTER", "KEYSLOT", key))
            for begin, end, (_, port, *_), *_ in node.ask("CLUSTER", "SLOTS"):
                if begin <= slot <= end:
                    return next(n for n in self.nodes if n.port == port)
        raise AssertionError(f"nobody serves {key}")

    def wait_healed(self) -> None:
        """Wait until all nodes see each other, and every replica is in step."""
        for node in self.nodes:
            poll(partial(self._is_ok, node), 30)
            if node.role != "master":
                poll(partial(self._in_step, node), 30)

    def move(self, key: str, target: _Node) -> int:
        """Move the slot of a key to another master, key by key; returns how many keys it held."""
        source = self.owner(key)
        slot = int(source.ask("CLUSTER", "KEYSLOT", key))
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        return self.finish_move(slot, source, target)

    def finish_move(self, slot: int, source: _Node, target: _Node) -> int:
        """Move what is left of a slot that is on the move; returns how many keys that were."""
        count = 0
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 20):
            words = ["127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys]
            source.ask("MIGRATE", *words)
            count += len(keys)
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)
        return count

    def flush(self) -> None:
        for node in self.nodes:
            if node.answers and node.role == "master":
                node.flush()

    def close(self) -> None:
        for node in self.nodes:
            node.close()
