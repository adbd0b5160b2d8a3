"""The API explains an instance as the command line does, from what Redis holds."""

from __future__ import annotations

import asyncio

import httpx

from wfq.settings import load_settings
from wfq_server.app import create_app
from wfq_server.client import ApiClient


def test_an_instance_that_nobody_serves_is_explained(valkey_url: str) -> None:
    settings = load_settings(redis_url=valkey_url)

    async def ask() -> httpx.Response:
        app = create_app(settings, ApiClient(settings=settings))
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
        ):
            await http.post("/v1.0/workflows/dapr/order/start?instanceID=o-1", json=1)
            return await http.get("/v1.0/workflows/dapr/o-1/explain")

    told = asyncio.run(ask()).json()

    assert told["instanceID"] == "o-1"
    assert "its first turn is to come" in told["waits"]
    assert told["todo"][0].startswith("no worker of 'default' is running")
    assert told["violations"] == []
