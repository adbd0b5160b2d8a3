"""Connections to Redis: `SyncLink`, `AsyncLink` and the raw `Wire` of the hot loops.

redis-py's own retries are off everywhere: they re-send any command in silence. A `Call` is
safe to send twice, so the links re-send calls themselves, a few times with a short back-off.
"""

from __future__ import annotations

import asyncio
import random
import re
import threading
import time
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import hiredis
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from wfq.errors import ConfigurationError, StorageError, StorageFull, StorageUnavailable
from wfq.storage.scripts import Argument, Call

T = TypeVar("T")

#: Seconds a command may take. Blocking reads have connections of their own, with more.
COMMAND_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
#: Seconds before each further attempt of a call whose outcome is unknown.
RETRY_DELAYS_S = (0.05, 0.25)

_TRANSIENT = re.compile(
    r"\b(LOADING|BUSY|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|UNBLOCKED|NOGROUP|MOVED|ASK)\b"
)
_FULL = re.compile(r"\b(OOM|MISCONF)\b")
_DENIED = re.compile(
    r"\b(NOPERM|NOAUTH|WRONGPASS|ACL failure in script)\b|user executing the script can't"
)
#: redis-py cuts the error code off the text of the errors it has a class for.
_CODES: dict[type[Exception], str] = {
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.NoPermissionError: "NOPERM",
    redis.exceptions.BusyLoadingError: "LOADING",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.AskError: "ASK",
    redis.exceptions.MovedError: "MOVED",
}


def translate(error: Exception, server: str) -> StorageError:
    """The wfq error for what redis-py raised; by text, since classes differ by server version."""
    text = " ".join([_CODES.get(type(error), ""), *str(error).split()]).strip()[:300]
    if _DENIED.search(text) or isinstance(error, redis.AuthenticationError):
        return StorageError(f"{server} refused access: {text}; check user, password and ACL")
    if _FULL.search(text):
        return StorageFull(f"{server} is full: {text}; free memory or disk")
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)):
        return StorageUnavailable(f"cannot reach {server}: {text}; is it running?")
    if _TRANSIENT.search(text):
        return StorageUnavailable(f"{server} cannot answer now: {text}")
    return StorageError(f"{server} refused a command: {text}")


def is_missing_script(error: Exception) -> bool:
    """Whether the server does not (or no longer) know the script of an EVALSHA."""
    return isinstance(error, redis.exceptions.NoScriptError) or str(error).startswith("NOSCRIPT")


def is_memory(url: str) -> bool:
    """Whether the URL names the in-process store that keeps nothing."""
    return url.startswith("memory:")


def shown(url: str) -> str:
    """The server of a URL for messages: no user, password or query."""
    if is_memory(url):
        return url
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"Redis at unix://{parts.path}"
    host = parts.netloc.rpartition("@")[2]
    return f"Redis at {parts.scheme}://{host}{parts.path}"


_memory_servers: dict[str, Any] = {}
_memory_lock = threading.Lock()


def _memory_server(url: str) -> Any:
    """The fakeredis server behind a memory URL; one per URL and process."""
    import fakeredis

    with _memory_lock:
        if url not in _memory_servers:
            _memory_servers[url] = fakeredis.FakeServer()
        return _memory_servers[url]


def _options(timeout_s: float | None) -> dict[str, Any]:
    return {
        "decode_responses": False,
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
    }


def open_client(url: str, *, timeout_s: float | None = COMMAND_TIMEOUT_S) -> redis.Redis:
    """A redis-py client without hidden retries. Raises: ConfigurationError on a bad URL."""
    try:
        if is_memory(url):
            import fakeredis

            return cast(redis.Redis, fakeredis.FakeRedis(server=_memory_server(url), protocol=2))
        return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_options(timeout_s))
    except ValueError as exc:
        raise ConfigurationError(
            f"the Redis URL {shown(url)!r} is not usable: {exc}; use redis://, rediss:// or unix://"
        ) from exc


def open_async_client(url: str) -> redis.asyncio.Redis:
    """The asyncio twin of `open_client`."""
    from redis.asyncio.retry import Retry as AsyncRetry

    try:
        if is_memory(url):
            import fakeredis

            return cast(
                redis.asyncio.Redis,
                fakeredis.FakeAsyncRedis(server=_memory_server(url), protocol=2),
            )
        return redis.asyncio.Redis.from_url(
            url, retry=AsyncRetry(NoBackoff(), 0), **_options(COMMAND_TIMEOUT_S)
        )
    except ValueError as exc:
        raise ConfigurationError(
            f"the Redis URL {shown(url)!r} is not usable: {exc}; use redis://, rediss:// or unix://"
        ) from exc


class SyncLink:
    """Runs calls over redis-py's connection pool; safe to share between threads.

    A reply that takes longer than `timeout_s` is given up.
    """

    def __init__(self, url: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        self.url = url
        self.server = shown(url)
        self.redis = open_client(url, timeout_s=timeout_s)

    def run(self, call: Call[T]) -> T:
        """Run one call. Raises: StorageUnavailable, StorageFull, StorageError."""
        return call.parse(self._attempts(lambda: self._run_once(call)))

    def run_many(self, calls: Sequence[Call[T]]) -> list[T]:
        """Run calls in one round trip, each on its own; results in their order."""
        if len(calls) == 1:
            return [self.run(calls[0])]
        replies = self._attempts(lambda: self._run_batch(calls)) if calls else []
        return [call.parse(reply) for call, reply in zip(calls, replies, strict=True)]

    def command(self, *command: Argument) -> Any:
        """Run one plain command that is safe to send twice."""
        return self._attempts(lambda: self.redis.execute_command(*command))

    def commands(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Run plain commands that are safe to send twice, in one round trip."""

        def once() -> list[Any]:
            pipe = self.redis.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = pipe.execute()
            return replies

        found: list[Any] = self._attempts(once) if commands else []
        return found

    def wire(self, *, timeout_s: float | None) -> Wire:
        """A raw connection of its own; reads give up after `timeout_s`."""
        return Wire(self.url, timeout_s=timeout_s)

    def close(self) -> None:
        """Close every connection of this link."""
        self.redis.close()

    def _attempts(self, once: Any) -> Any:
        for delay_s in (*RETRY_DELAYS_S, None):
            try:
                return once()
            except (redis.RedisError, OSError) as exc:
                error = translate(exc, self.server)
                if delay_s is None or not isinstance(error, StorageUnavailable):
                    raise error from exc
                time.sleep(delay_s * (0.5 + random.random()))
        raise AssertionError("unreachable")

    def _run_once(self, call: Call[Any]) -> Any:
        try:
            return self.redis.execute_command(*call.command())
        except redis.ResponseError as exc:
            if not is_missing_script(exc):
                raise
            return self.redis.execute_command(*call.full_command())

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


class AsyncLink:
    """The asyncio twin of `SyncLink`; belongs to the event loop that first used it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.server = shown(url)
        self.redis = open_async_client(url)

    async def run(self, call: Call[T]) -> T:
        """Run one call. Raises: StorageUnavailable, StorageFull, StorageError."""
        return call.parse(await self._attempts(lambda: self._run_once(call)))

    async def run_many(self, calls: Sequence[Call[T]]) -> list[T]:
        """Run calls in one round trip, each on its own; results in their order."""
        if len(calls) == 1:
            return [await self.run(calls[0])]
        replies = await self._attempts(lambda: self._run_batch(calls)) if calls else []
        return [call.parse(reply) for call, reply in zip(calls, replies, strict=True)]

    async def command(self, *command: Argument) -> Any:
        """Run one plain command that is safe to send twice."""
        return await self._attempts(
            lambda: cast(Awaitable[Any], self.redis.execute_command(*command))
        )

    async def close(self) -> None:
        """Close every connection of this link."""
        await self.redis.aclose()

    async def _attempts(self, once: Any) -> Any:
        for delay_s in (*RETRY_DELAYS_S, None):
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

    After any exception but `ServerReply` the outcome of what was sent is unknown and the
    wire is closed: its owner opens another and starts again from what Redis holds.
    """

    def __init__(self, url: str, *, timeout_s: float | None) -> None:
        self.url = url
        self.server = shown(url)
        self.memory = is_memory(url)
        self._client = open_client(url, timeout_s=timeout_s)
        try:
            self._connection = self._client.connection_pool.get_connection()
        except (redis.RedisError, OSError) as exc:
            self._client.close()
            raise translate(exc, self.server) from exc

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
                self._connection.send_packed_command([packed], check_health=False)
        except (redis.RedisError, OSError) as exc:
            self.close()
            raise translate(exc, self.server) from exc

    def has_reply(self) -> bool:
        """Whether (part of) a reply is there to be read without waiting."""
        try:
            return bool(self._connection.can_read(0))
        except (redis.RedisError, OSError) as exc:
            self.close()
            raise translate(exc, self.server) from exc

    def receive(self) -> Any:
        """The next reply. Raises: ServerReply for an error reply, else StorageUnavailable."""
        try:
            return self._connection.read_response(disable_decoding=True)
        except redis.ResponseError as exc:
            raise ServerReply(exc, self.server) from exc
        except (redis.RedisError, OSError) as exc:
            if isinstance(exc, redis.exceptions.BusyLoadingError):
                raise ServerReply(exc, self.server) from exc
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
