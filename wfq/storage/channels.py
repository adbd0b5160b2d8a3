"""Subscriptions: one connection that listens on channels, for threads and for event loops.

A subscription is a hint: messages sent while it was cut are lost. Its user reads the state
whenever a channel is confirmed, and now and then, since a connection can die in silence.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Awaitable, Iterable
from typing import Any, NamedTuple, cast

import hiredis
import redis

from wfq.errors import StorageUnavailable
from wfq.storage.link import AsyncLink, translate
from wfq.storage.opening import COMMAND_TIMEOUT_S, is_memory, shown
from wfq.storage.rawsocket import RawSocket
from wfq.storage.slots import open_any


class Notice(NamedTuple):
    """A message on a channel; `data` None is the word that the channel is now listened to.

    `pattern` is the one through which the message came; of a pattern's own confirmation, both.
    """

    channel: str
    data: bytes | None
    pattern: str | None = None


def _parsed(reply: list[Any]) -> Notice | None:
    """The notice in a reply of a subscribed connection; None for what says nothing new."""
    kind = reply[0]
    if kind == b"message":
        return Notice(reply[1].decode(), reply[2])
    if kind == b"subscribe":
        return Notice(reply[1].decode(), None)
    if kind == b"pmessage":
        # Whoever matches a pattern chose the channel's name: it need not be text.
        return Notice(reply[2].decode(errors="replace"), reply[3], reply[1].decode())
    if kind == b"psubscribe":
        return Notice(reply[1].decode(), None, reply[1].decode())
    return None


class Subscriber:
    """A subscribed connection of one reading thread; others may change its channels or wake it.

    Raises from every method: StorageUnavailable once the connection is lost; make a new one.
    """

    def __init__(self, url: str) -> None:
        self.server = shown(url)
        self._memory = is_memory(url)
        self._client = open_any(url)
        self._lock = threading.Lock()
        self._pending: list[tuple[str, ...]] = []
        self._unanswered = False
        self._waked, self._waker = socket.socketpair()
        self._waked.setblocking(False)
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._connection: Any = None
        self._raw: RawSocket | None = None
        try:
            self._connection = self._client.connection_pool.get_connection()
            if not self._memory:
                self._raw = RawSocket.of(self._connection, COMMAND_TIMEOUT_S)
                self._selector.register(self._waked, selectors.EVENT_READ)
                self._selector.register(self._connection._sock, selectors.EVENT_READ)
        except (redis.RedisError, OSError) as exc:
            self.close()
            raise translate(exc, self.server) from exc

    def listen(self, channels: Iterable[str]) -> None:
        """Listen on further channels, at least one; a notice confirms each. From any thread."""
        self._request("SUBSCRIBE", channels)

    def listen_patterns(self, patterns: Iterable[str]) -> None:
        """Listen on all channels that match, now and later; a notice confirms each pattern."""
        self._request("PSUBSCRIBE", patterns)

    def forget(self, channels: Iterable[str]) -> None:
        """Listen on some channels, at least one, no longer. From any thread."""
        self._request("UNSUBSCRIBE", channels)

    def wake(self) -> None:
        """Make `next` return. From any thread."""
        if self._memory:
            self._request("PING", ())
            return
        try:
            self._waker.send(b"x")
        except (BlockingIOError, OSError):
            pass  # it is awake, or closed

    def next(self, timeout_s: float | None) -> Notice | None:
        """The next notice; None after `timeout_s` (None waits for ever), or when woken earlier."""
        try:
            self._flush()
            if not self._readable(timeout_s):
                return None
            if self._raw is not None:
                reply = self._raw.receive()
            else:
                reply = self._connection.read_response(disable_decoding=True)
        except (redis.RedisError, OSError, ValueError) as exc:
            raise translate(exc, self.server) from exc
        self._unanswered = False
        return _parsed(reply)

    def check(self) -> None:
        """Ask for a sign of life; the second call without one finds the connection dead."""
        if self._unanswered:
            raise StorageUnavailable(f"the subscription at {self.server} does not answer")
        self._unanswered = True
        self._request("PING", ())

    def close(self) -> None:
        """Close the connection. From the reading thread."""
        self._selector.close()
        self._waked.close()
        self._waker.close()
        if self._connection is not None:
            self._connection.disconnect()
        self._client.close()

    def _request(self, verb: str, channels: Iterable[str]) -> None:
        with self._lock:
            self._pending.append((verb, *channels))
        if self._memory:
            # There is no socket to wait on: the reply itself wakes the reader.
            self._flush()
        else:
            self.wake()

    def _flush(self) -> None:
        if not self._pending:
            return
        with self._lock:
            commands, self._pending = self._pending, []
            try:
                for command in commands:
                    if self._raw is not None:
                        self._raw.send(hiredis.pack_command(cast(Any, command)))
                    else:
                        self._connection.send_command(*command, check_health=False)
            except (redis.RedisError, OSError) as exc:
                raise translate(exc, self.server) from exc

    def _readable(self, timeout_s: float | None) -> bool:
        """Wait for a reply; False after the timeout or when woken."""
        if self._memory:
            return bool(self._connection.can_read(timeout_s))
        if self._has_reply():
            return True
        if timeout_s == 0:
            return False
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._waked:
                try:
                    self._waked.recv(4096)
                except BlockingIOError:
                    pass
        return self._has_reply()

    def _has_reply(self) -> bool:
        if self._raw is not None:
            return self._raw.ready()
        return bool(self._connection.can_read(0))


class AsyncSubscriber:
    """The asyncio twin of `Subscriber`: one task reads, others of its loop change the channels."""

    def __init__(self, link: AsyncLink) -> None:
        self.server = link.server
        self._pubsub: Any = link.redis.pubsub()
        self._unanswered = False

    async def listen(self, channels: Iterable[str]) -> None:
        """Listen on further channels, at least one; a notice confirms each."""
        await self._send(self._pubsub.subscribe(*channels))

    async def forget(self, channels: Iterable[str]) -> None:
        """Listen on some channels, at least one, no longer."""
        await self._send(self._pubsub.unsubscribe(*channels))

    async def next(self, timeout_s: float) -> Notice | None:
        """The next notice; None after `timeout_s`, or earlier for what says nothing new.

        Only once `listen` was called.
        """
        message = await self._send(self._pubsub.get_message(timeout=timeout_s))
        if message is None:
            return None
        self._unanswered = False
        if message["type"] == "message":
            return Notice(message["channel"].decode(), message["data"])
        if message["type"] == "subscribe":
            return Notice(message["channel"].decode(), None)
        return None

    async def check(self) -> None:
        """Ask for a sign of life; the second call without one finds the connection dead."""
        if self._unanswered:
            raise StorageUnavailable(f"the subscription at {self.server} does not answer")
        self._unanswered = True
        await self._send(self._pubsub.ping())

    async def close(self) -> None:
        """Close the connection; idempotent."""
        await self._pubsub.aclose()

    async def _send(self, awaitable: Awaitable[Any]) -> Any:
        try:
            return await awaitable
        except (redis.RedisError, OSError) as exc:
            raise translate(exc, self.server) from exc
