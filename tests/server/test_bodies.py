"""Bodies of strangers: types, encodings, sizes, depth, speed."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from tests.server.kit import BASE, Api, is_error
from wfq.settings import Limits, load_settings
from wfq_server import bodies

START = f"{BASE}/wf/start"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json; charset=utf-8",
        'APPLICATION/JSON; charset="UTF-8"',
        "application/cloudevents+json",
        "application/x-www-form-urlencoded",
    ],
)
def test_json_is_taken_under_these_types(content_type: str | None) -> None:
    api = Api()
    headers = {"content-type": content_type} if content_type else {}

    response = api.run("POST", START, content=b'{"a":[1,2.5,null,"\xc3\xa9"]}', headers=headers)

    assert response.status_code == 202
    assert api.client.calls[0][1][1] == {"a": [1, 2.5, None, "é"]}


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "text/xml"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/octet-stream"},
        {"content-encoding": "gzip"},
        {"content-encoding": "br"},
    ],
)
def test_what_is_declared_as_something_else_is_415(headers: dict[str, str]) -> None:
    api = Api()
    content = gzip.compress(b" " * 10_000_000)

    response = api.run("POST", START, content=content, headers=headers)

    assert is_error(response, 415, "ERR_UNSUPPORTED_MEDIA_TYPE")
    assert api.client.calls == []


@pytest.mark.parametrize(
    "content",
    [
        b"{bad",
        b"not json",
        b'{"a":1} {"b":2}',
        b"NaN",
        b"Infinity",
        b"1e999",
        b'"\xff\xfe"',
        "é".encode("latin-1"),
        '"é"'.encode("utf-16"),
        b'"\\ud800"',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b"123456789012345678901234567890",
        b"9" * 5000,
        b'{"deep": [9223372036854775807, -9223372036854775809]}',
        b"\x00",
        b"\xef\xbb\xbf1",
    ],
)
@pytest.mark.parametrize("path", ["wf/start", "x/raiseEvent/e", "x/terminate", "x/rerun"])
def test_what_is_not_json_that_can_be_kept_is_400(content: bytes, path: str) -> None:
    api = Api()

    response = api.run("POST", f"{BASE}/{path}", content=content)

    assert is_error(response, 400, "ERR_MALFORMED_REQUEST_DATA")
    assert api.client.calls == []


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 200 + b"]" * 200,
        b"18446744073709551615",
        b"-9223372036854775808",
        b'"' + b"9" * 99 + b'"',
    ],
)
def test_what_can_be_kept_unchanged_is_taken(content: bytes) -> None:
    assert Api().run("POST", START, content=content).status_code == 202


async def test_a_body_over_the_limit_is_refused_before_it_is_read(small: Api) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield b"[" * 1000

    declared = await small.ask("POST", START, content=b"x", headers={"content-length": "99999999"})
    streamed = await small.ask("POST", START, content=endless())

    assert is_error(declared, 413, "ERR_PAYLOAD_TOO_LARGE")
    assert is_error(streamed, 413, "ERR_PAYLOAD_TOO_LARGE")
    assert sent < 10_000
    assert small.client.calls == []


async def test_a_body_that_drips_is_given_up(small: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.1)

    async def dripping() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.02)
            yield b"1"

    response = await small.ask("POST", START, content=dripping())

    assert is_error(response, 408, "ERR_BODY_READ")


async def test_a_body_byte_by_byte_is_still_a_body(small: Api) -> None:
    async def bytewise() -> AsyncIterator[bytes]:
        for byte in b'{"a": 1}':
            yield bytes([byte])

    response = await small.ask("POST", START, content=bytewise())

    assert response.status_code == 202
    assert small.client.calls[0][1][1] == {"a": 1}


@pytest.fixture
def small() -> Api:
    limits = Limits.model_validate({"payload_bytes": 2048})
    return Api(settings=load_settings(redis_url="memory://unused", limits=limits))


pytestmark = pytest.mark.anyio
