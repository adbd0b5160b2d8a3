"""Running commands on the nodes of a cluster: each where its key is, all nodes at once."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
import redis.asyncio

from wfq.errors import StorageError, StorageUnavailable
from wfq.storage.opening import open_async_node, open_node, shown
from wfq.storage.refusals import is_missing_script, translate
from wfq.storage.scripts import Argument, Call
from wfq.storage.slots import key_of, table_of
from wfq.urls import Address

#: Seconds before each further attempt: the first redirection costs no wait, the last waits
#: are long enough for a failover of a second or two.
RETRY_DELAYS_S = (0.0, 0.05, 0.25, 0.5, 1.0, 2.0)
#: The same for those who do not wait: a redirection is followed, and that is all.
HASTY_DELAYS_S = RETRY_DELAYS_S[:2]


@dataclass(frozen=True, slots=True)
class Request:
    """A command, where it goes, and what to send instead where its script is not known."""

    command: tuple[Argument, ...]
    key: str | bytes | None
    full: Call[Any] | None = None

    @classmethod
    def of_call(cls, call: Call[Any]) -> Request:
        return cls(call.command(), call.keys[0], call)

    @classmethod
    def of_command(cls, command: tuple[Argument, ...]) -> Request:
        return cls(command, key_of(command))


class _Round:
    """Requests that are to be sent, and what has come back. Errors are replies, too."""

    def __init__(self, url: str, requests: Sequence[Request]) -> None:
        self.server = shown(url)
        self.table = table_of(url)
        self.requests = list(requests)
        self.replies: list[Any] = [None] * len(requests)
        self.todo = list(range(len(requests)))
        #: Requests that a node did not answer in time.
        self.silent: set[int] = set()

    def by_node(self) -> dict[Address, list[int]]:
        """What is to be sent where; a request that nobody serves has its reply at once."""
        groups: dict[Address, list[int]] = {}
        for n in self.todo:
            try:
                groups.setdefault(self.table.address(self.requests[n].key), []).append(n)
            except StorageError as exc:
                self.replies[n] = exc
        return groups

    def command(self, n: int) -> tuple[Argument, ...]:
        request = self.requests[n]
        if request.full is not None and is_missing_script(self.replies[n]):
            return request.full.full_command()
        return request.command

    def failed(self, address: Address, numbers: Sequence[int], error: Exception) -> None:
        """Note that a node gave no answer."""
        self.table.learn(error)
        if isinstance(error, (redis.TimeoutError, TimeoutError)):
            self.silent.update(numbers)
        found = translate(error, f"{address[0]}:{address[1]} of {self.server}")
        for n in numbers:
            self.replies[n] = found

    def sort_out(self) -> None:
        """Keep to be done what another attempt may answer."""
        again = []
        for n in self.todo:
            reply = self.replies[n]
            if not isinstance(reply, Exception):
                continue
            if is_missing_script(reply) and self.requests[n].full is not None:
                again.append(n)
                continue
            if not isinstance(reply, StorageError):
                error = translate(reply, self.server)
                if isinstance(error, StorageUnavailable):
                    self.table.learn(reply)
                self.replies[n] = error
            if isinstance(self.replies[n], StorageUnavailable):
                again.append(n)
        self.todo = again

    def outcome(self) -> list[Any]:
        return [
            translate(r, self.server) if isinstance(r, redis.RedisError) else r
            for r in self.replies
        ]


class Nodes:
    """The nodes of a cluster, each with its pool of connections. Safe to share by threads."""

    def __init__(self, url: str, *, timeout_s: float | None, patient: bool) -> None:
        self._url = url
        self._patient = patient
        self._timeout_s = timeout_s
        self._table = table_of(url)
        self._clients: dict[Address, redis.Redis] = {}
        self._failing: dict[Address, float] = {}
        self._lock = threading.Lock()

    def client(self, address: Address) -> redis.Redis:
        """The client of one node."""
        with self._lock:
            found = self._clients.get(address)
            if found is None:
                found = open_node(self._table.group, address, timeout_s=self._timeout_s)
                self._clients[address] = found
            return found

    def any(self) -> redis.Redis:
        """The client of one of the masters. Raises: StorageUnavailable."""
        return self.client(self._table.address(None))

    def masters(self) -> list[redis.Redis]:
        """The clients of all masters. Raises: StorageUnavailable."""
        return [self.client(address) for address in self._table.masters()]

    def run(self, requests: Sequence[Request], *, patient: bool = True) -> list[Any]:
        """Run requests, each on its own; replies or errors (StorageError) in their order.

        Not `patient`: redirections are followed, and nothing is waited for.
        """
        work = _Round(self._url, requests)
        patient = patient and self._patient
        delays_s = RETRY_DELAYS_S if patient else HASTY_DELAYS_S
        for delay_s in (*delays_s, None):
            self._send(work)
            work.sort_out()
            if not patient:
                # Whoever has hung once would take as long again.
                work.todo = [n for n in work.todo if n not in work.silent]
            if not work.todo or delay_s is None:
                break
            time.sleep(delay_s * (0.5 + random.random()))
        return work.outcome()

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _send(self, work: _Round) -> None:
        """Write to all nodes, then read from all; those that failed lately come last."""
        sent: list[tuple[Address, list[int], redis.Redis, Any]] = []
        groups = work.by_node()
        for address in sorted(groups, key=lambda a: self._failing.get(a, 0.0)):
            client, numbers = self.client(address), groups[address]
            connection: Any = None
            try:
                connection = client.connection_pool.get_connection()
                packed = connection.pack_commands([work.command(n) for n in numbers])
                connection.send_packed_command(packed)
                sent.append((address, numbers, client, connection))
            except (redis.RedisError, OSError) as exc:
                self._gave_up(client, connection)
                self._failing[address] = time.monotonic()
                work.failed(address, numbers, exc)
        for n, (address, numbers, client, connection) in enumerate(sent):
            try:
                for number in numbers:
                    work.replies[number] = _reply(client, connection, work.requests[number])
                client.connection_pool.release(connection)
                self._failing.pop(address, None)
            except (redis.RedisError, OSError) as exc:
                self._gave_up(client, connection)
                self._failing[address] = time.monotonic()
                work.failed(address, numbers, exc)
            except BaseException:
                # Interrupted: what is on the way must not be read as another's answer.
                for _, _, other, left in sent[n:]:
                    self._gave_up(other, left)
                raise

    @staticmethod
    def _gave_up(client: redis.Redis, connection: Any) -> None:
        if connection is not None:
            connection.disconnect()
            client.connection_pool.release(connection)


def _reply(client: redis.Redis, connection: Any, request: Request) -> Any:
    try:
        return client.parse_response(connection, cast(str, request.command[0]))
    except redis.ConnectionError as exc:
        if isinstance(exc, redis.BusyLoadingError):
            return exc
        raise
    except redis.ResponseError as exc:
        return exc


class AsyncNodes:
    """The asyncio twin of `Nodes`; belongs to one event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._table = table_of(url)
        self._clients: dict[Address, redis.asyncio.Redis] = {}

    def client(self, address: Address) -> redis.asyncio.Redis:
        found = self._clients.get(address)
        if found is None:
            found = self._clients[address] = open_async_node(self._table.group, address)
        return found

    def any(self) -> redis.asyncio.Redis:
        """The client of one of the masters. Raises: StorageUnavailable."""
        return self.client(self._table.address(None))

    async def run(self, requests: Sequence[Request]) -> list[Any]:
        """Run requests, each on its own; replies or errors (StorageError) in their order."""
        work = _Round(self._url, requests)
        for delay_s in (*RETRY_DELAYS_S, None):
            # The table is asked for over blocking sockets.
            groups = await asyncio.to_thread(work.by_node)
            await asyncio.gather(*(self._send(work, a, numbers) for a, numbers in groups.items()))
            work.sort_out()
            if not work.todo or delay_s is None:
                break
            await asyncio.sleep(delay_s * (0.5 + random.random()))
        return work.outcome()

    async def close(self) -> None:
        """Close every connection."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.aclose()

    async def _send(self, work: _Round, address: Address, numbers: list[int]) -> None:
        pipe = self.client(address).pipeline(transaction=False)
        for n in numbers:
            pipe.execute_command(*work.command(n))
        try:
            replies = await pipe.execute(raise_on_error=False)
        except (redis.RedisError, OSError) as exc:
            work.failed(address, numbers, exc)
            return
        for n, reply in zip(numbers, replies, strict=True):
            work.replies[n] = reply
