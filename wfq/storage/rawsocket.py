"""Sockets of their own for hot paths: one system call for each write and each read.

redis-py waits with poll() before each of them, and asks four times more before it says whether a
reply is there (measured: seven system calls a reply). Each gives the interpreter away, so that on
an idle machine they, and the threads that fight over it meanwhile, were half of a turn's time.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import Any, Self

import hiredis
import redis

#: Bytes of one read.
READ_SIZE = 64 * 1024
_NOTHING: Any = object()


class RawSocket:
    """The socket of a `Wire`: connected, with nothing under way; redis-py, from which it was
    taken over, closes it.

    Errors are redis-py's own. After any but an error reply the connection is to be closed.
    """

    def __init__(self, sock: socket.socket, parse_error: Any, timeout_s: float | None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._timeout_s = timeout_s
        self._reader = hiredis.Reader(
            protocolError=redis.InvalidResponse, replyError=parse_error, notEnoughData=_NOTHING
        )
        self._buffer: Any = bytearray(READ_SIZE)
        #: A reply that `ready` has come upon.
        self._found: Any = _NOTHING

    @classmethod
    def of(cls, connection: Any, timeout_s: float | None) -> Self | None:
        """The socket of a redis-py connection; None where it is more than a plain socket."""
        sock = getattr(connection, "_sock", None)
        parse_error = getattr(getattr(connection, "_parser", None), "parse_error", None)
        # One with TLS is of a class of its own.
        if type(sock) is not socket.socket or parse_error is None or not hasattr(select, "poll"):
            return None
        return cls(sock, parse_error, timeout_s)

    def send(self, data: bytes) -> None:
        """Send everything. Raises: redis.ConnectionError, redis.TimeoutError."""
        left: bytes | memoryview = data
        while True:
            try:
                sent = self._sock.send(left)
            except BlockingIOError:
                sent = 0
            except OSError as exc:
                raise redis.ConnectionError(f"cannot write to the socket: {exc}") from exc
            if sent == len(left):
                return
            left = memoryview(left)[sent:]
            self._wait(select.POLLOUT, "writing to")

    def ready(self) -> bool:
        """Whether a whole reply is there. Raises: redis.ConnectionError."""
        if self._found is _NOTHING:
            found = self._reader.gets(False)
            while found is _NOTHING and self._fill():
                found = self._reader.gets(False)
            self._found = found
        return self._found is not _NOTHING

    def receive(self) -> Any:
        """The next reply. Raises: redis.ResponseError for an error reply; as `ready` and `send`."""
        while not self.ready():
            self._wait(select.POLLIN, "reading from")
        found, self._found = self._found, _NOTHING
        if isinstance(found, Exception):
            raise found
        return found

    def _fill(self) -> bool:
        """Read what is there; False if nothing is."""
        try:
            size = self._sock.recv_into(self._buffer)
        except BlockingIOError:
            return False
        except OSError as exc:
            raise redis.ConnectionError(f"cannot read from the socket: {exc}") from exc
        if not size:
            raise redis.ConnectionError("the server has closed the connection")
        self._reader.feed(self._buffer, 0, size)
        return True

    def _wait(self, event: int, doing: str) -> None:
        poll = select.poll()
        try:
            poll.register(self._sock, event)
        except ValueError as exc:  # closed meanwhile
            raise redis.ConnectionError("the connection is closed") from exc
        if not poll.poll(None if self._timeout_s is None else self._timeout_s * 1000):
            raise redis.TimeoutError(f"timeout {doing} the socket")


class WaitingSocket(RawSocket):
    """The same for one command at a time: a read waits in the system, for `timeout_s` at most."""

    def __init__(self, sock: socket.socket, parse_error: Any, timeout_s: float | None) -> None:
        super().__init__(sock, parse_error, timeout_s)
        sock.setblocking(True)
        whole, part = divmod(timeout_s or 0.0, 1)
        limit = struct.pack("@ll", int(whole), int(part * 1_000_000))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, limit)

    def receive(self) -> Any:
        """The next reply. Raises: redis.ResponseError for an error reply; as `send`."""
        gets = self._reader.gets
        while (found := gets(False)) is _NOTHING:
            if not self._fill():
                raise redis.TimeoutError("timeout reading from the socket")
        if isinstance(found, Exception):
            raise found
        return found

    def is_quiet(self) -> bool:
        """Whether the connection stands, with nothing to be read."""
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False
