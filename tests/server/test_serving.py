"""The server on real sockets: heads, bodies, keep-alive, its end."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.server.kit import BASE, FakeClient, with_state
from wfq.errors import ConfigurationError
from wfq.settings import load_settings
from wfq_server import protocol
from wfq_server.app import create_app
from wfq_server.serving import ServerLoop, bind, make_server

ONE = f"{BASE}/12345678"
START = f"{BASE}/wf/start"
CHUNKED = " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


def with_length(body: bytes, header: str = "") -> bytes:
    """The rest of a request line, a head, and `body`."""
    head = f" HTTP/1.1\r\nHost: localhost\r\n{header}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def serve(client: Any) -> ServerLoop:
    settings = load_settings(redis_url="memory://unused")
    draining = asyncio.Event()
    app = create_app(settings, client, draining=draining)
    loop = ServerLoop(app, draining, host="127.0.0.1", port=0, drain_s=10)
    loop.start()
    assert loop.wait_ready(10)
    return loop


@pytest.fixture
def client() -> FakeClient:
    return with_state()


@pytest.fixture
def server(client: FakeClient) -> Iterator[ServerLoop]:
    loop = serve(client)
    yield loop
    loop.stop(5)
    assert loop.join(5)


def connect(server: ServerLoop) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", server.port, timeout=10)


def ask(connection: HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection.request(method, path, body)
    response = connection.getresponse()
    text = response.read()
    return response.status, json.loads(text) if text else None


def test_a_connection_serves_one_request_after_another(server: ServerLoop) -> None:
    connection = connect(server)

    found = [ask(connection, "GET", ONE)[0] for _ in range(3)]
    first = connection.sock
    ask(connection, "POST", f"{BASE}/wf/start", b"{}")

    assert found == [200, 200, 200]
    assert connection.sock is first
    connection.close()


def test_a_body_of_100_mb_is_answered_and_not_kept(server: ServerLoop) -> None:
    connection = connect(server)
    began = time.monotonic()

    def parts() -> Iterator[bytes]:
        for _ in range(1600):
            yield b"[" * 65536

    connection.putrequest("POST", f"{BASE}/wf/start")
    connection.putheader("Content-Length", str(1600 * 65536))
    connection.endheaders()
    for part in parts():
        connection.send(part)
    response = connection.getresponse()

    assert response.status == 413
    assert json.loads(response.read())["errorCode"] == "ERR_PAYLOAD_TOO_LARGE"
    assert time.monotonic() - began < 10
    connection.close()


def test_a_client_that_asks_first_need_not_send_its_body(server: ServerLoop) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        head = "Host: localhost\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n"
        raw.sendall(f"POST {BASE}/wf/start HTTP/1.1\r\n{head}\r\n".encode())

        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: local", b"GET"])
def test_a_head_that_does_not_come_to_an_end_ends_its_connection(
    client: FakeClient, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.1)
    server = serve(client)
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            raw.sendall(sent)
            assert raw.recv(100) == b""
    finally:
        server.stop(5)


def test_a_head_that_drips_ends_its_connection(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.2)
    server = serve(client)
    began = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            drip(raw)
    finally:
        server.stop(5)

    assert time.monotonic() - began < 4


def drip(raw: socket.socket) -> None:
    """Send a head without an end until the connection is closed, for 5 seconds at most."""
    end = time.monotonic() + 5
    try:
        raw.sendall(b"GET / HTTP/1.1\r\n")
        while time.monotonic() < end:
            raw.sendall(b"x")
            time.sleep(0.02)
    except ConnectionError:
        pass


def test_a_slow_answer_is_not_taken_for_a_slow_head(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.05)
    server = serve(client)
    try:
        with closing(connect(server)) as connection:
            status, _ = ask(connection, "GET", f"{ONE}/wait?timeout=0.3")
    finally:
        server.stop(5)

    assert status == 202


@pytest.mark.parametrize(
    "request_text",
    [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        # Heads that have not come to an end where all that may be kept of them is there.
        f"GET / HTTP/1.1\r\nHost: localhost\r\nX: {'x' * 400_000}",
        f"GET /{'x' * 400_000}",
        "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        f"POST {START}{CHUNKED}zz\r\n1\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_http_is_400(server: ServerLoop, request_text: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.settimeout(5)
        raw.sendall(request_text.encode())

        assert raw.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (CHUNKED.encode() + b'7\r\n{"a": 1\r\n1\r\n}\r\n0\r\n\r\n', 202),
        (with_length(b'{"a": 1}'), 202),
        (with_length(b"[" * 100_000 + b"]" * 100_000), 400),
        (with_length(b'"\xff\xfe"'), 400),
        (with_length(b"{]"), 400),
        (with_length(gzip.compress(b"0" * 10**7), "Content-Encoding: gzip\r\n"), 415),
        (CHUNKED.encode() + b"10000\r\n%b\r\n" % (b"[" * 65536) * 40, 413),
    ],
    ids=["chunks", "small", "nested", "not UTF-8", "not JSON", "gzip bomb", "endless chunks"],
)
def test_a_body_on_the_wire_has_its_answer(server: ServerLoop, rest: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.sendall(f"POST {START}".encode() + rest)

        assert raw.recv(100).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_body_byte_by_byte_on_the_wire(client: FakeClient, server: ServerLoop) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in f"POST {START}".encode() + with_length(b'{"a": 1}'):
            raw.sendall(bytes([byte]))

        assert raw.recv(100).startswith(b"HTTP/1.1 202 ")


def test_a_body_with_two_lengths_is_refused_and_the_connection_closed(server: ServerLoop) -> None:
    """A proxy in front may take the other length for the true one, and what follows for a body."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        framing = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n"
        raw.sendall(f"POST {START} HTTP/1.1\r\nHost: localhost\r\n{framing}".encode())
        with raw.makefile("rb") as answer:
            text = answer.read()

    assert text.startswith(b"HTTP/1.1 400 ")
    assert b"ERR_MALFORMED_REQUEST" in text


def test_asking_for_a_websocket_writes_no_log(
    server: ServerLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(connect(server)) as connection:
        connection.request("GET", ONE, headers={"Connection": "Upgrade", "Upgrade": "websocket"})
        assert connection.getresponse().status == 200

    assert caplog.records == []


def test_the_end_lets_requests_finish_and_long_polls_go(client: FakeClient) -> None:
    server = serve(client)
    answers: list[tuple[int, Any]] = []

    def wait() -> None:
        with closing(connect(server)) as connection:
            answers.append(ask(connection, "GET", f"{ONE}/wait?timeout=1h"))

    polls = [threading.Thread(target=wait) for _ in range(3)]
    idle = connect(server)
    ask(idle, "GET", ONE)
    for poll in polls:
        poll.start()
    while sum(verb == "wait" for verb, _ in client.calls) < 3:
        time.sleep(0.01)

    began = time.monotonic()
    server.stop(10)

    assert server.join(0)
    assert time.monotonic() - began < 5
    for poll in polls:
        poll.join(5)
    assert [status for status, _ in answers] == [202, 202, 202]
    assert client.closed
    idle.close()
    with pytest.raises(ConnectionError):
        connect(server).connect()


def test_an_address_that_is_taken_is_a_clear_error(server: ServerLoop) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bind("127.0.0.1", server.port)

    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{server.port}: address already in use; "
        "choose another with --port or WFQ_API_PORT"
    )


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_an_address_that_is_not_ours_is_a_clear_error(host: str) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot listen on {host}:0: "):
        bind(host, 0)


def test_the_api_is_not_opened_to_others_without_a_token() -> None:
    with pytest.raises(ConfigurationError, match="WFQ_API_TOKEN"):
        make_server(load_settings(redis_url="memory://x", api_host="0.0.0.0", api_port=0))


def test_localhost_is_every_loopback_address() -> None:
    sockets = bind("localhost", 0)

    assert len({opened.getsockname()[1] for opened in sockets}) == 1
    for opened in sockets:
        opened.close()
