"""The dashboard: workers, queues, dead letters, hostile text, very many instances."""

from __future__ import annotations

import json
import re
import time

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.server.pages import (
    PATHS,
    Markup,
    Pages,
    hostile_instances,
    shown,
)
from tests.servers import command_client
from wfq.settings import load_settings
from wfq.storage.keys import Namespace
from wfq_server.app import create_app
from wfq_server.client import ApiClient

# --- the fleet


@pytest.mark.usefixtures("workers")
def test_workers_and_queues_are_shown(pages: Pages) -> None:
    workers = shown(pages, "/workers", "seen ")

    assert "orchestrator, activity, scheduler" in workers
    assert "order, parent" in workers
    assert "default" in shown(pages, "/queues", "<td>default")
    assert "An order that waits" in shown(pages, "/workflows", "order")


def test_dead_letters_can_be_sent_again_and_dropped(pages: Pages) -> None:
    namespace = Namespace("default")
    fields = {"kind": "listener", "source": "channel x", "id": "o-1", "reason": "no <such> thing"}
    with command_client(pages.url) as client:
        for message in ("{}", "[]"):
            client.xadd(namespace.dead(3), {**fields, "message": message})

    text = pages.page("/dead")
    first, second = re.findall(r'name="letter" value="([^"]+)"', text)
    retried = pages.post("/dead", letter=first, verb="retry").text
    dropped = pages.post("/dead", letter=second, verb="drop").text

    assert "no &lt;such&gt; thing" in text
    assert "there is no rule for channel x" in retried
    assert "was dropped" in dropped
    assert dropped.count('name="letter"') == 1


# --- what strangers write


def test_hostile_text_is_text_on_every_page(pages: Pages) -> None:
    ids = hostile_instances(pages.url)
    paths = [
        *PATHS,
        *(f"/instances/{one}{part}" for one in ids for part in ("", "/now", "/history")),
        "/instances?name=%3Cscript%3Ealert(1)%3C/script%3E&id=%22%3E%3Cimg+src=x%3E",
    ]

    for path in paths:
        text = pages.page(path)
        assert "<script>window" not in text
        assert "<img" not in text
        assert "<svg onload" not in text
        assert "49{% raw" not in text
        assert Markup(text).wrong == [], path


def test_what_strangers_publish_draws_no_page_down(pages: Pages) -> None:
    namespace = Namespace("default")
    with command_client(pages.url) as client:
        client.sadd(namespace.queues, "default")
        client.hset(
            namespace.about("default"),
            mapping={"a": "not json", "b": "[]", "c": json.dumps({"name": "c", "version": None,
                     "takes_input": True, "input_schema": {"$ref": "#/x"}, "graph": {"body": 3}})},
        )  # fmt: skip

    assert pages.page("/workflows")


@pytest.mark.long
def test_the_list_is_quick_with_very_many_instances(pages: Pages) -> None:
    for number in range(20):
        ids = [f"o-{number}-{n}" for n in range(5000)]
        pages.wfq.schedule_many("order", [None] * 5000, instance_ids=ids)

    took = []
    for _ in range(5):
        began = time.perf_counter()
        pages.page("/instances")
        took.append(time.perf_counter() - began)

    assert "100,000" in pages.page("/instances/counts")
    # Some 50 ms on a quiet machine.
    assert sorted(took)[2] < 1.0


@pytest.mark.anyio
async def test_within_another_application_links_keep_its_prefix() -> None:
    settings = load_settings(redis_url="memory://mounted")
    api = create_app(settings, ApiClient(settings=settings), mounted=True)
    app = Starlette(routes=[Mount("/flows", app=api)])
    transport = httpx.ASGITransport(app)

    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as session:
        root = await session.get("/flows/")
        page = await session.get("/flows/ui/instances")

    assert root.headers["location"] == "/flows/ui/"
    assert page.status_code == 200
    assert 'href="/flows/ui/workflows"' in page.text
    assert 'aria-current="page">Instances' in page.text
    assert '"/ui' not in page.text
