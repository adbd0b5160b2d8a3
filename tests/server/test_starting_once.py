"""A client that lost the answer can always start again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from tests.server.kit import BASE, Api, is_error
from wfq.settings import load_settings
from wfq.storage.instances import purge
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace
from wfq_server.client import ApiClient

START = f"{BASE}/wf/start?instanceID=order-7"

pytestmark = pytest.mark.anyio


@pytest.fixture
async def api(redis_url: str) -> AsyncIterator[Api]:
    settings = load_settings(redis_url=redis_url)
    client = ApiClient(settings=settings)
    yield Api(client, settings=settings)
    await client.close()


async def test_the_same_id_and_input_is_the_same_start(api: Api) -> None:
    first = await api.ask("POST", START, content=b'{"a": 1, "b": [2]}')
    again = await api.ask("POST", START, content=b'{"b":[2],"a":1}')

    assert first.status_code == again.status_code == 202
    assert first.json() == again.json() == {"instanceID": "order-7"}
    listed = (await api.ask("GET", BASE)).json()["workflows"]
    assert len(listed) == 1


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (START, b'{"a":2}'),
        (START, b'{"a":1.0}'),
        (START, b'{"a":true}'),
        (START, None),
        (START.replace("/wf/", "/other/"), b'{"a":1}'),
        (f"{START}&appID=shop", b'{"a":1}'),
    ],
)
async def test_another_start_of_the_id_is_a_conflict(
    api: Api, path: str, content: bytes | None
) -> None:
    await api.ask("POST", START, content=b'{"a":1}')

    response = await api.ask("POST", path, content=content)

    assert is_error(response, 409, "ERR_START_WORKFLOW")


async def test_no_input_and_null_are_the_same(api: Api) -> None:
    found = [await api.ask("POST", START, content=body) for body in (None, b"null", None)]

    assert [response.status_code for response in found] == [202, 202, 202]


async def test_the_same_idempotency_key_is_the_same_start(api: Api) -> None:
    keyed: Callable[..., Any] = lambda content: api.ask(  # noqa: E731
        "POST", f"{BASE}/wf/start", content=content, headers={"Idempotency-Key": "k"}
    )

    first, again, other = await keyed(b"1"), await keyed(b"1"), await keyed(b"2")

    assert first.json() == again.json()
    assert is_error(other, 409)


async def test_of_many_at_once_one_starts(api: Api) -> None:
    found = await asyncio.gather(*(api.ask("POST", START, content=b"1") for _ in range(20)))

    assert {response.status_code for response in found} == {202}
    assert len((await api.ask("GET", f"{BASE}/order-7/history")).json()["events"]) == 1


async def test_starts_through_another_door_are_known_by_their_input(api: Api) -> None:
    await api.client.schedule_new_workflow("wf", input={"a": 1}, instance_id="order-7")

    same = await api.ask("POST", START, content=b'{"a":1}')
    other = await api.ask("POST", START, content=b'{"a":2}')

    assert same.status_code == 202
    assert is_error(other, 409)


async def test_the_first_start_is_known_after_it_continued_as_new(redis_url: str) -> None:
    settings = load_settings(redis_url=redis_url)
    client = ApiClient(settings=settings)
    api = Api(client, settings=settings)
    await api.ask("POST", START, content=b'{"n":1}')
    # What a commit does that continues as new: another generation, whose birth has the extras.
    link = SyncLink(redis_url)
    namespace = open_namespace(link, "default")
    birth = orjson.loads(link.command("LINDEX", namespace.history("order-7"), 0))
    birth[3], birth[5] = 1, {"n": 2}
    link.command("LSET", namespace.history("order-7"), 0, orjson.dumps(birth))

    same = await api.ask("POST", START, content=b'{"n":1}')
    later = await api.ask("POST", START, content=b'{"n":2}')

    assert same.status_code == 202
    assert is_error(later, 409)
    link.close()
    await client.close()


async def test_an_id_that_was_purged_starts_anew(redis_url: str, api: Api) -> None:
    await api.ask("POST", START, content=b"1")
    link = SyncLink(redis_url)
    link.run(purge(open_namespace(link, "default"), "order-7", force=True))
    link.close()

    response = await api.ask("POST", START, content=b"2")

    assert response.status_code == 202
