"""The socket of the hot connections: what comes in pieces, what is refused, and what ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.connection import Connection

from wfq.storage.rawsocket import READ_SIZE, RawSocket

Pair = tuple[RawSocket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield RawSocket(ours, Connection()._parser.parse_error, 0.2), theirs


def test_a_reply_in_pieces_is_there_once_it_is_whole(pair: Pair) -> None:
    raw, server = pair
    assert not raw.ready()
    server.sendall(b"*2\r\n$3\r\nab")
    assert not raw.ready()
    server.sendall(b"c\r\n:0\r\n+OK\r\n")
    assert raw.ready()
    assert [raw.receive(), raw.receive()] == [[b"abc", 0], b"OK"]
    assert not raw.ready()


def test_replies_without_content_are_replies(pair: Pair) -> None:
    raw, server = pair
    server.sendall(b"$-1\r\n*-1\r\n:0\r\n$0\r\n\r\n*0\r\n")
    assert [raw.receive() for _ in range(5)] == [None, None, 0, b"", []]


def test_an_error_reply_is_raised_and_the_connection_stays_in_step(pair: Pair) -> None:
    raw, server = pair
    server.sendall(b"-NOSCRIPT No matching script.\r\n-LOADING wait\r\n:7\r\n")
    with pytest.raises(redis.exceptions.NoScriptError):
        raw.receive()
    with pytest.raises(redis.exceptions.BusyLoadingError):
        raw.receive()
    assert raw.receive() == 7


def test_what_is_longer_than_one_read_or_write_goes_through() -> None:
    ours, server = socket.socketpair()
    # Patient: the other thread may not get its turn for a while.
    raw = RawSocket(ours, Connection()._parser.parse_error, 30.0)
    data = b"x" * (20 * READ_SIZE)
    received = bytearray()

    def echo() -> None:
        while len(received) < len(data):
            received.extend(server.recv(1 << 16))
        server.sendall(b"$%d\r\n%b\r\n" % (len(data), data))

    thread = threading.Thread(target=echo)
    thread.start()
    raw.send(data)
    assert raw.receive() == data
    thread.join()
    assert bytes(received) == data
    ours.close()
    server.close()


def test_a_server_that_has_gone_is_told_apart_from_a_silent_one(pair: Pair) -> None:
    raw, server = pair
    with pytest.raises(redis.TimeoutError):
        raw.receive()
    server.sendall(b":1\r\n")
    server.close()
    assert raw.receive() == 1
    with pytest.raises(redis.ConnectionError):
        raw.ready()
    with pytest.raises(redis.ConnectionError):
        raw.send(b"PING\r\n")


def test_a_server_that_does_not_read_is_given_up(pair: Pair) -> None:
    raw, _ = pair
    with pytest.raises(redis.TimeoutError):
        raw.send(b"x" * (1 << 26))


def test_a_connection_that_was_closed_meanwhile_says_so(pair: Pair) -> None:
    raw, _ = pair
    raw._sock.close()
    for act in (raw.ready, raw.receive, lambda: raw.send(b"x")):
        with pytest.raises(redis.ConnectionError):
            act()


def test_garbage_is_no_reply(pair: Pair) -> None:
    raw, server = pair
    server.sendall(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(redis.RedisError):
        raw.receive()


def test_only_a_plain_socket_is_taken_over() -> None:
    class Wrapped(socket.socket):
        """As one with TLS is."""

    connection: Any = Connection()
    assert RawSocket.of(connection, 1.0) is None
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection._sock = ours
        assert RawSocket.of(connection, 1.0) is not None
    with Wrapped() as wrapped:
        connection._sock = wrapped
        assert RawSocket.of(connection, 1.0) is None
        connection._sock = None
