"""One command at a time, each waited for: what a start, an event or a read of a client is.

redis-py takes a connection from its pool, asks it whether it is still there, waits before it
reads: several times what is needed, and on a start from a thread that waits for each one that is
most of the client's time. Here it is one write and one read.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, cast

import hiredis
import redis

from wfq.storage.rawsocket import WaitingSocket
from wfq.storage.scripts import Argument

#: Seconds without use after which a connection is looked at before it is trusted again.
LOOK_AFTER_S = 1.0


@dataclass(slots=True)
class _Line:
    """A connection of redis-py's pool, and its socket where it is ours."""

    connection: Any
    sock: WaitingSocket | None
    used_at: float = 0.0


class RoundTrips:
    """Runs commands over connections of a client's pool. Safe to share between threads, and to
    use on both sides of a fork. Errors are redis-py's own.

    A thread has a connection to itself while it waits; as many are kept as threads have waited
    at once. Sockets with TLS, and those of a Sentinel's master (`managed`), which redis-py ends
    once there is another, stay with redis-py. The client is closed by its owner, which ends all.
    """

    def __init__(self, client: redis.Redis, timeout_s: float, *, managed: bool = False) -> None:
        self._pool = client.connection_pool
        self._timeout_s = timeout_s
        self._managed = managed
        #: Nobody waits for these. The last one used is used next.
        self._idle: list[_Line] = []
        self._pid = os.getpid()

    def run(self, command: tuple[Argument, ...]) -> Any:
        """Run a command and return its reply. Raises: redis.RedisError, OSError."""
        line = self._take()
        try:
            packed = hiredis.pack_command(cast(Any, command))
            if line.sock is not None:
                line.sock.send(packed)
                reply = line.sock.receive()
            else:
                line.connection.send_packed_command([packed])
                reply = line.connection.read_response(disable_decoding=True)
        except redis.exceptions.ReadOnlyError:
            # It is a replica by now: the next connection may find who is not.
            self._drop(line)
            raise
        except redis.ResponseError:
            self._keep(line)
            raise
        except BaseException:
            # What was not read would be taken for the next command's reply.
            self._drop(line)
            raise
        self._keep(line)
        return reply

    def let_go(self) -> None:
        """Give the connections that nobody waits for back to the pool, closed: what ails one may
        ail them all, and those who take theirs from the pool itself may need them."""
        while self._idle:
            try:
                self._drop(self._idle.pop())
            except IndexError:
                break

    def _take(self) -> _Line:
        if self._pid != os.getpid():
            # The parent's, which goes on with them. In this order: other threads look, too.
            self._idle = []
            self._pid = os.getpid()
        while self._idle:
            try:
                line = self._idle.pop()
            except IndexError:
                break
            assert line.sock is not None
            if time.monotonic() < line.used_at + LOOK_AFTER_S or line.sock.is_quiet():
                return line
            self._drop(line)
        connection: Any = self._pool.get_connection()
        if self._managed:
            return _Line(connection, None)
        return _Line(connection, WaitingSocket.of(connection, self._timeout_s))

    def _keep(self, line: _Line) -> None:
        if line.sock is None:
            self._pool.release(line.connection)
            return
        line.used_at = time.monotonic()
        self._idle.append(line)

    def _drop(self, line: _Line) -> None:
        line.connection.disconnect()
        self._pool.release(line.connection)
