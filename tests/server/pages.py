"""What the tests of the dashboard share: a server in this process, a program, hostile text."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any, TypedDict

import httpx

import wfq as wf
from tests.servers import poll
from wfq.analysis.describing import describe_workflows
from wfq.settings import Settings, load_settings
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import publish_workflows
from wfq_server.app import create_app
from wfq_server.client import ApiClient
from wfq_server.serving import ServerLoop

OWN = {"sec-fetch-site": "same-origin"}
runtime_app = wf.WorkflowRuntime()


class Refusal(TypedDict):
    """What the event of the same name carries."""

    by: str
    final: bool


@runtime_app.workflow
def order(ctx: wf.WorkflowContext, cost: int):  # type: ignore[no-untyped-def]
    """An order that waits for a word."""
    yield ctx.call_activity(check, input=cost)
    said = yield ctx.wait_for_external_event("approved", timeout=timedelta(hours=2))
    if said == "no":
        raise ValueError("<b>refused</b>")
    if said == "later":
        refused: Refusal = yield ctx.wait_for_external_event("refused")
        said = refused["by"]
    return {"said": said}


@runtime_app.workflow
def parent(ctx: wf.WorkflowContext):  # type: ignore[no-untyped-def]
    yield ctx.call_child_workflow(order, input=1)


@runtime_app.activity
def check(cost: int) -> int:
    return cost


class Pages:
    """A dashboard in this process, and the client to prepare what it shows."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.url = url
        self.settings: Settings = load_settings(redis_url=url, **settings)
        draining = asyncio.Event()
        client = ApiClient(settings=self.settings)
        self.app = create_app(self.settings, client, draining=draining)
        self.server = ServerLoop(self.app, draining, host="127.0.0.1", port=0, drain_s=1.0)
        self.server.start()
        assert self.server.wait_ready(10)
        self.base = f"http://localhost:{self.server.port}"
        self.http = httpx.Client(base_url=self.base, timeout=30)
        self.wfq = wf.WorkflowClient(redis_url=url)

    def close(self) -> None:
        self.http.close()
        self.server.stop(1.0)
        self.wfq.close()

    def page(self, path: str, status: int = 200) -> str:
        answer = self.http.get(f"/ui{path}")
        assert answer.status_code == status, answer.text
        return answer.text

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        return self.http.post(
            f"/ui{path}", data=fields, headers=OWN if headers is None else headers
        )

    def publish(self) -> None:
        link = SyncLink(self.url)
        publish_workflows(
            link, Namespace("default"), "default", describe_workflows(runtime_app.registry)
        )
        link.command("SADD", Namespace("default").queues, "default")
        link.close()


def waiting(pages: Pages, instance_id: str = "o-1") -> str:
    """The page of an order once it waits for its event."""
    return shown(pages, f"/instances/{instance_id}", "Waits for the event")


def shown(pages: Pages, path: str, part: str) -> str:
    """A page once it has that part twice: it may be newer than the history on the same page."""

    def look() -> str | None:
        before, text = pages.page(path), pages.page(path)
        return text if part in before and part in text else None

    found = poll(look)
    assert found is not None
    return found


HOSTILE = (
    "<script>window.hacked = 1</script>",
    "\"><img src=x onerror='window.hacked = 1'>",
    "'; window.hacked = 1; //",
    "{{ 7 * 7 }}{% raw %}",
    "</pre></textarea></title><svg onload=window.hacked=1>",
    "javascript:window.hacked=1",
    "\u202e\x00\x1b[31m",
)


def hostile_instances(url: str) -> list[str]:
    """Start instances that have hostile text in every field that takes it; return their ids."""
    ids = []
    with wf.WorkflowClient(redis_url=url) as client:
        for number, text in enumerate(HOSTILE):
            # Names are printable; payloads may be anything.
            clean = "".join(char for char in text if char.isprintable())
            instance_id = client.schedule_new_workflow(
                clean, input={text: text}, instance_id=f"h-{number}", tags={"t": clean[:50]}
            )
            client.raise_workflow_event(instance_id, clean, data=text)
            ids.append(str(instance_id))
    return ids


#: Pages that are there without an instance.
PATHS = (
    "/", "/rates", "/instances", "/instances/rows", "/instances/counts", "/workflows", "/workers",
    "/queues", "/dead",
)  # fmt: skip


class Markup(HTMLParser):
    """What the content security policy would refuse, and ids that are there twice."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.wrong.append(f"<{tag}> in the page")
        self.wrong += [
            f"{name}={value!r} of <{tag}>"
            for name, value in attrs
            if name == "style" or name.startswith("on") or "javascript:" in (value or "")
        ]
        if given.get("id"):
            self.ids.append(str(given["id"]))
