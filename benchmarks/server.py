"""Servers for benchmarks, and what they have spent."""

from __future__ import annotations

from dataclasses import dataclass, field

import redis

from tests.servers import Kind, LocalServer, command_client, find_binary
from wfq.storage.keys import Namespace

#: As in production, except that no rewrite of the append-only file falls into a measurement.
OPTIONS = (
    "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0",
)  # fmt: skip


def choose_kind() -> Kind:
    """redis-server 7 where it is installed, else the Valkey that comes with wfq."""
    return "redis" if find_binary("redis") is not None else "valkey"


def start_server(kind: Kind | None = None) -> LocalServer:
    """Start a server of our own on a unix socket; `close` it."""
    return LocalServer(kind or choose_kind(), OPTIONS)


@dataclass(frozen=True, slots=True)
class RedisUse:
    """What a server has spent: CPU seconds, and calls by command (those in scripts too)."""

    main_s: float = 0.0
    total_s: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)
    micros: dict[str, float] = field(default_factory=dict)

    def since(self, before: RedisUse) -> RedisUse:
        """What was spent after `before` was read."""
        return RedisUse(
            self.main_s - before.main_s,
            self.total_s - before.total_s,
            {k: n - before.calls.get(k, 0) for k, n in self.calls.items()},
            {k: n - before.micros.get(k, 0.0) for k, n in self.micros.items()},
        )


class RedisMeter:
    """Reads what a server has spent, over a connection of its own."""

    def __init__(self, url: str) -> None:
        self._client: redis.Redis = command_client(url)

    def read(self) -> RedisUse:
        cpu = self._client.info("cpu")
        stats = self._client.info("commandstats")
        total = cpu["used_cpu_user"] + cpu["used_cpu_sys"]
        # Not on every platform; the other threads only close files and sync the log.
        user, system = cpu.get("used_cpu_user_main_thread"), cpu.get("used_cpu_sys_main_thread")
        main = total if user is None or system is None else user + system
        names = {key.removeprefix("cmdstat_"): key for key in stats}
        return RedisUse(
            main,
            total,
            {name: int(stats[key]["calls"]) for name, key in names.items()},
            {name: float(stats[key]["usec"]) for name, key in names.items()},
        )

    def count(self, status: str) -> int:
        """How many instances have a status: by plain commands, that cost the least."""
        space = Namespace()
        with self._client.pipeline(transaction=False) as pipe:
            for partition in range(space.partitions):
                pipe.zcard(space.index(partition, status))
            return sum(pipe.execute())

    def backlog(self, queue: str = "default") -> int:
        """Entries that wait for workers, or are with them; 0 = nothing moves."""
        space = Namespace()
        with self._client.pipeline(transaction=True) as pipe:
            for partition in range(space.partitions):
                pipe.xlen(space.events(partition, queue))
                pipe.xlen(space.activities(partition, queue))
            return sum(pipe.execute())

    def memory_bytes(self) -> int:
        """Bytes that data, and nothing else, holds."""
        info = self._client.info("memory")
        return int(info["used_memory_dataset"])

    def version(self) -> str:
        info = self._client.info("server")
        name = info.get("server_name", "redis")
        return f"{name} {info.get('valkey_version', info['redis_version'])}"

    def close(self) -> None:
        self._client.close()
