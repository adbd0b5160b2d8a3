"""Connections to Redis: `SyncLink`, `AsyncLink` and the raw `Wire` of the hot loops.

redis-py's own retries are off everywhere: they re-send any command in silence. A `Call` is
safe to send twice, so the links re-send calls themselves, a few times with a short back-off.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import hiredis
import redis
import redis.asyncio

from wfq.errors import StorageError, StorageFull, StorageUnavailable
from wfq.storage.nodes import AsyncNodes, Nodes, Request
from wfq.storage.opening import COMMAND_TIMEOUT_S as COMMAND_TIMEOUT_S
from wfq.storage.opening import (
    is_memory,
    open_async_client,
    open_client,
    open_node,
    sentinels_of,
    shown,
)
from wfq.storage.rawsocket import RawSocket
from wfq.storage.refusals import is_missing_script as is_missing_script
from wfq.storage.refusals import translate as translate
from wfq.storage.round_trips import RoundTrips
from wfq.storage.scripts import Argument, Call
from wfq.storage.slots import table_of
from wfq.urls import is_cluster, is_sentinel

T = TypeVar("T")

Client = redis.Redis

#: Seconds before each further attempt of a call whose outcome is unknown.
RETRY_DELAYS_S = (0.05, 0.25)
#: The same for a group of servers, of which another may be promoted meanwhile.
GROUP_DELAYS_S = (0.05, 0.25, 0.5, 1.0, 2.0)


#: Seconds that one node of a cluster may take where the others must not wait for it.
NODE_TIMEOUT_S = 2.0


def timeout_of(url: str) -> float:
    """Seconds after which a loop that serves every partition gives an answer up."""
    return NODE_TIMEOUT_S if is_cluster(url) else COMMAND_TIMEOUT_S


def _delays(url: str) -> tuple[float, ...]:
    return GROUP_DELAYS_S if is_sentinel(url) else RETRY_DELAYS_S


class SyncLink:
    """Runs calls over a pool of connections; safe to share between threads.

    A reply that takes longer than `timeout_s` is given up. On a cluster each call goes to the
    node that serves its keys; a link that is not `patient` does not wait there for a node
    that is away, since its user has work on the others, and asks again by itself.
    """

    def __init__(
        self, url: str, *, timeout_s: float = COMMAND_TIMEOUT_S, patient: bool = True
    ) -> None:
        self.url = url
        self.server = shown(url)
        self._delays = _delays(url)
        self._nodes = Nodes(url, timeout_s=timeout_s, patient=patient) if is_cluster(url) else None
        self._client = None if self._nodes else open_client(url, timeout_s=timeout_s)
        self._round_trips: RoundTrips | None = None
        if self._client is not None and not is_memory(url):
            self._round_trips = RoundTrips(self._client, timeout_s, managed=is_sentinel(url))

    @property
    def redis(self) -> redis.Redis:
        """The redis-py client; on a cluster that of any node, for what is the same on all."""
        if self._client is None:
            assert self._nodes is not None
            return self._nodes.any()
        return self._client

    def run(self, call: Call[T]) -> T:
        """Run one call. Raises: StorageUnavailable, StorageFull, StorageError."""
        if self._nodes is not None:
            return call.parse(_good(self._nodes.run([Request.of_call(call)]))[0])
        return call.parse(self._attempts(lambda: self._run_once(call)))

    def run_many(self, calls: Sequence[Call[T]]) -> list[T]:
        """Run calls in one round trip, each on its own; results in their order."""
        if self._nodes is not None:
            replies = _good(self._nodes.run([Request.of_call(call) for call in calls]))
        elif len(calls) == 1:
            return [self.run(calls[0])]
        else:
            replies = self._attempts(lambda: self._run_batch(calls)) if calls else []
        return [call.parse(reply) for call, reply in zip(calls, replies, strict=True)]

    def try_many(self, calls: Sequence[Call[T]]) -> list[T | StorageError]:
        """As `run_many`, but a node that cannot be reached spoils only its own calls.

        An error is the result of its call. Nothing is waited for.
        """
        if self._nodes is None:
            try:
                found: list[T] = self.run_many(calls)
                return [*found]
            except StorageError as exc:
                return [exc] * len(calls)
        replies = self._nodes.run([Request.of_call(call) for call in calls], patient=False)
        return [
            reply if isinstance(reply, StorageError) else call.parse(reply)
            for call, reply in zip(calls, replies, strict=True)
        ]

    def command(self, *command: Argument) -> Any:
        """Run one plain command that is safe to send twice."""
        if self._nodes is not None:
            return _good(self._nodes.run([Request.of_command(command)]))[0]
        return self._attempts(lambda: self.redis.execute_command(*command))

    def beside(self, key: str, *command: Argument) -> Any:
        """Run a command that has no key on the server that holds `key`."""
        if self._nodes is not None:
            return _good(self._nodes.run([Request(command, key)]))[0]
        return self.command(*command)

    def commands(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Run plain commands that are safe to send twice, in one round trip."""
        return _good(self.try_commands(commands))

    def try_commands(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """As `commands`, but an error reply is the result of its command.

        Raises: StorageUnavailable.
        """
        if self._nodes is not None:
            return self._nodes.run([Request.of_command(command) for command in commands])

        def once() -> list[Any]:
            pipe = self.redis.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = pipe.execute(raise_on_error=False)
            return [
                translate(r, self.server) if isinstance(r, redis.RedisError) else r for r in replies
            ]

        found: list[Any] = self._attempts(once) if commands else []
        return found

    def scan(self, pattern: str) -> Iterator[bytes]:
        """Walk over the keys of every server that match; one may come twice."""
        for client in [self.redis] if self._nodes is None else self._nodes.masters():
            cursor: Any = 0
            while True:
                command = ("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
                cursor, keys = self._attempts(partial(client.execute_command, *command))
                yield from keys
                if int(cursor) == 0:
                    break

    def servers(self) -> list[tuple[str, Client]]:
        """Every server that holds keys, and its client, to ask each by itself."""
        if self._nodes is None:
            return [(self.server, self.redis)]
        return [
            ("{host}:{port}".format(**client.connection_pool.connection_kwargs), client)
            for client in self._nodes.masters()
        ]

    def wire(self, *, timeout_s: float | None, key: str | bytes | None = None) -> Wire:
        """A raw connection of its own, to the server of `key`; reads give up after `timeout_s`."""
        return Wire(self.url, timeout_s=timeout_s, key=key)

    def close(self) -> None:
        """Close every connection of this link."""
        if self._nodes is not None:
            self._nodes.close()
        if self._client is not None:
            self._client.close()
            for sentinel in sentinels_of(self._client):
                sentinel.close()

    def _attempts(self, once: Any) -> Any:
        for delay_s in (*self._delays, None):
            try:
                return once()
            except (redis.RedisError, OSError) as exc:
                error = translate(exc, self.server)
                if delay_s is None or not isinstance(error, StorageUnavailable):
                    raise error from exc
                if self._round_trips is not None:
                    self._round_trips.let_go()
                time.sleep(delay_s * (0.5 + random.random()))
        raise AssertionError("unreachable")

    def _run_once(self, call: Call[Any]) -> Any:
        try:
            return self._execute(call.command())
        except redis.ResponseError as exc:
            if not is_missing_script(exc):
                raise
            return self._execute(call.full_command())

    def _execute(self, command: tuple[Argument, ...]) -> Any:
        if self._round_trips is None:
            return self.redis.execute_command(*command)
        return self._round_trips.run(command)

    def _run_batch(self, calls: Sequence[Call[Any]]) -> list[Any]:
        pipe = self.redis.pipeline(transaction=False)
        for call in calls:
            pipe.execute_command(*call.command())
        replies = pipe.execute(raise_on_error=False)
        for n, reply in enumerate(replies):
            if isinstance(reply, Exception):
                if not is_missing_script(reply):
                    raise reply
                replies[n] = self._run_once(calls[n])
        return replies


def _good(replies: list[Any]) -> list[Any]:
    """Return the replies. Raises: the first error among them."""
    for reply in replies:
        if isinstance(reply, StorageError):
            raise reply
    return replies


class AsyncLink:
    """The asyncio twin of `SyncLink`; belongs to the event loop that first used it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.server = shown(url)
        self._delays = _delays(url)
        self._nodes = AsyncNodes(url) if is_cluster(url) else None
        self._client = None if self._nodes else open_async_client(url)

    @property
    def redis(self) -> redis.asyncio.Redis:
        """The redis-py client; on a cluster that of any node, for what is the same on all."""
        if self._client is None:
            assert self._nodes is not None
            return self._nodes.any()
        return self._client

    async def run(self, call: Call[T]) -> T:
        """Run one call. Raises: StorageUnavailable, StorageFull, StorageError."""
        if self._nodes is not None:
            return call.parse(_good(await self._nodes.run([Request.of_call(call)]))[0])
        return call.parse(await self._attempts(lambda: self._run_once(call)))

    async def run_many(self, calls: Sequence[Call[T]]) -> list[T]:
        """Run calls in one round trip, each on its own; results in their order."""
        if self._nodes is not None:
            replies = _good(await self._nodes.run([Request.of_call(call) for call in calls]))
        elif len(calls) == 1:
            return [await self.run(calls[0])]
        else:
            replies = await self._attempts(lambda: self._run_batch(calls)) if calls else []
        return [call.parse(reply) for call, reply in zip(calls, replies, strict=True)]

    async def command(self, *command: Argument) -> Any:
        """Run one plain command that is safe to send twice."""
        if self._nodes is not None:
            return _good(await self._nodes.run([Request.of_command(command)]))[0]
        return await self._attempts(
            lambda: cast(Awaitable[Any], self.redis.execute_command(*command))
        )

    async def close(self) -> None:
        """Close every connection of this link."""
        if self._nodes is not None:
            await self._nodes.close()
        if self._client is not None:
            await self._client.aclose()
            for sentinel in sentinels_of(self._client):
                await sentinel.aclose()

    async def _attempts(self, once: Any) -> Any:
        for delay_s in (*self._delays, None):
            try:
                return await once()
            except (redis.RedisError, OSError) as exc:
                error = translate(exc, self.server)
                if delay_s is None or not isinstance(error, StorageUnavailable):
                    raise error from exc
                await asyncio.sleep(delay_s * (0.5 + random.random()))
        raise AssertionError("unreachable")

    async def _run_once(self, call: Call[Any]) -> Any:
        try:
            return await self.redis.execute_command(*call.command())
        except redis.ResponseError as exc:
            if not is_missing_script(exc):
                raise
            return await self.redis.execute_command(*call.full_command())

    async def _run_batch(self, calls: Sequence[Call[Any]]) -> list[Any]:
        pipe = self.redis.pipeline(transaction=False)
        for call in calls:
            pipe.execute_command(*call.command())
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        for n, reply in enumerate(replies):
            if isinstance(reply, Exception):
                if not is_missing_script(reply):
                    raise reply
                replies[n] = await self._run_once(calls[n])
        return replies


class Wire:
    """One raw connection: several commands in one write, replies read one by one.

    On a cluster it leads to the node that serves `key`.

    After any exception but `ServerReply` the outcome of what was sent is unknown and the
    wire is closed: its owner opens another and starts again from what Redis holds.
    """

    def __init__(
        self, url: str, *, timeout_s: float | None, key: str | bytes | None = None
    ) -> None:
        self.url = url
        self.server = shown(url)
        self.memory = is_memory(url)
        self._table = table_of(url) if is_cluster(url) else None
        if self._table is None:
            self._client = open_client(url, timeout_s=timeout_s)
        else:
            address = self._table.address(key)
            self.server = f"node {address[0]}:{address[1]} of {self.server}"
            self._client = open_node(self._table.group, address, timeout_s=timeout_s)
        try:
            self._connection = self._client.connection_pool.get_connection()
        except (redis.RedisError, OSError) as exc:
            self._learn(exc)
            self._client.close()
            raise translate(exc, self.server) from exc
        # redis-py acts on what a Sentinel's master says, so it shall see it.
        self._raw = None if is_sentinel(url) else RawSocket.of(self._connection, timeout_s)

    def _learn(self, error: Exception) -> None:
        """Have the cluster asked again who serves what."""
        if self._table is not None:
            self._table.learn(error)

    def fileno(self) -> int:
        """The socket's descriptor, for selectors; the memory store has none."""
        sock = getattr(self._connection, "_sock", None)
        if sock is None:
            raise StorageUnavailable(f"the connection to {self.server} is closed")
        return int(sock.fileno())

    def send(self, commands: Sequence[tuple[Argument, ...]]) -> None:
        """Send commands in one write. Raises: StorageUnavailable."""
        try:
            if self.memory:
                for command in commands:
                    self._connection.send_command(*command)
            else:
                packed = b"".join(
                    [hiredis.pack_command(cast(Any, command)) for command in commands]
                )
                if self._raw is not None:
                    self._raw.send(packed)
                else:
                    self._connection.send_packed_command([packed], check_health=False)
        except (redis.RedisError, OSError) as exc:
            self._learn(exc)
            self.close()
            raise translate(exc, self.server) from exc

    def has_reply(self) -> bool:
        """Whether (part of) a reply is there to be read without waiting."""
        try:
            if self._raw is not None:
                return self._raw.ready()
            return bool(self._connection.can_read(0))
        except (redis.RedisError, OSError) as exc:
            self._learn(exc)
            self.close()
            raise translate(exc, self.server) from exc

    def receive(self) -> Any:
        """The next reply. Raises: ServerReply for an error reply, else StorageUnavailable."""
        try:
            if self._raw is not None:
                return self._raw.receive()
            return self._connection.read_response(disable_decoding=True)
        except redis.ResponseError as exc:
            reply = ServerReply(exc, self.server)
            if reply.transient:
                self._learn(exc)
            raise reply from exc
        except (redis.RedisError, OSError) as exc:
            if isinstance(exc, redis.exceptions.BusyLoadingError):
                raise ServerReply(exc, self.server) from exc
            self._learn(exc)
            self.close()
            raise translate(exc, self.server) from exc

    def call(self, call: Call[T]) -> T:
        """Run one call and wait for its reply; teaches the server the script if it must."""
        self.send([call.command()])
        try:
            return call.parse(self.receive())
        except ServerReply as exc:
            if not exc.missing_script:
                raise
        self.send([call.full_command()])
        return call.parse(self.receive())

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._connection.disconnect()
        self._client.close()


class ServerReply(StorageError):
    """The server answered a command with an error; the connection is still in step."""

    def __init__(self, error: Exception, server: str) -> None:
        translated = translate(error, server)
        super().__init__(str(translated))
        self.text = str(error)
        self.missing_script = is_missing_script(error)
        self.full = isinstance(translated, StorageFull)
        self.transient = isinstance(translated, StorageUnavailable)
