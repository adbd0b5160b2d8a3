"""The API inside another application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import wfq as wf
from tests.server.kit import is_error

pytestmark = pytest.mark.anyio


async def test_an_application_mounts_the_api(redis_url: str) -> None:
    api = wf.asgi(redis_url=redis_url, app_id="shop")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with api.router.lifespan_context(api):
            yield

    async def home(_: object) -> PlainTextResponse:
        return PlainTextResponse("home")

    app = Starlette(routes=[Route("/", home), Mount("/engine", app=api)], lifespan=lifespan)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="https://shop.example.com") as session,
    ):
        started = await session.post("/engine/v1.0/workflows/dapr/wf/start?instanceID=a", json=1)
        status = await session.get(started.headers["location"])
        listed = await session.get("/engine/v1.0/workflows/dapr", params={"appID": "shop"})
        foreign = await session.post(
            "/engine/v1.0/workflows/dapr/a/pause", headers={"Origin": "https://evil.example"}
        )
        own = await session.get("/")

    assert started.headers["location"] == ("https://shop.example.com/engine/v1.0/workflows/dapr/a")
    assert status.json()["instanceID"] == "a"
    assert [workflow["instanceID"] for workflow in listed.json()["workflows"]] == ["a"]
    assert is_error(foreign, 403, "ERR_CROSS_SITE_REQUEST")
    assert own.text == "home"


async def test_tokens_are_asked_for_where_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WFQ_API_TOKEN", "secret")
    api = wf.asgi(redis_url="memory://mounted")
    transport = httpx.ASGITransport(api)
    path = "/v1.0/workflows/dapr/unknown"

    async with httpx.AsyncClient(transport=transport, base_url="http://any") as session:
        without = await session.get(path)
        with_token = await session.get(path, headers={"Authorization": "Bearer secret"})

    assert is_error(without, 401)
    assert is_error(with_token, 404)


async def test_fastapi_mounts_it_beside_routes_of_its_own(redis_url: str) -> None:
    fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed")
    api = wf.asgi(redis_url=redis_url)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        async with api.router.lifespan_context(api):
            yield

    app = fastapi.FastAPI(lifespan=lifespan)
    app.add_api_route("/orders/{number}", lambda number: {"order": number})
    app.mount("/engine", api)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://shop.example"
        ) as session,
    ):
        own = await session.get("/orders/7")
        started = await session.post("/engine/v1.0/workflows/dapr/wf/start?instanceID=a", json=1)
        status = await session.get(started.headers["location"])
        document = await session.get("/engine/openapi.json")

    assert own.json() == {"order": "7"}
    assert status.json()["properties"]["dapr.workflow.input"] == "1"
    assert "/v1.0/workflows/{component}/{id}" in document.json()["paths"]
