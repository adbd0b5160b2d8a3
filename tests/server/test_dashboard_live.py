"""Open pages follow what happens: many tabs at once, and tabs that nobody looks at."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.server.pages import Pages, order, waiting
from tests.server.tabs import Tab
from tests.servers import poll

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

#: More than the connections that a browser opens to one server.
TABS = 8
#: Lets a test say whether somebody looks at a page: without a screen, each counts as looked at.
LOOKING = """
    const hidden = sessionStorage.getItem("hidden") === "yes" || location.hash === "#behind";
    Object.defineProperty(document, "hidden", { get: () => window.behind ?? hidden });
    window.look = (yes) => {
      window.behind = !yes;
      document.dispatchEvent(new Event("visibilitychange"));
    };
"""


def streams(pages: Pages) -> int:
    """How many requests wait at the server."""
    text = pages.http.get("/metrics").text
    found = re.search(r"^wfq_http_requests_waiting (\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def have_streams(pages: Pages, count: int) -> None:
    assert poll(lambda: streams(pages) == count), streams(pages)


@pytest.mark.usefixtures("workers")
def test_more_pages_than_connections_open_and_follow(tab: Tab, pages: Pages) -> None:
    pages.wfq.schedule_new_workflow(order, input=1, instance_id="o-1")
    waiting(pages)
    tabs = [tab.context.new_page() for _ in range(TABS)]
    for page in tabs:
        page.goto("/ui/instances/o-1")
        page.get_by_text("Waits for the event approved").wait_for()

    have_streams(pages, 1)
    pages.wfq.raise_workflow_event("o-1", "approved", data="yes")

    for page in tabs:
        page.locator(".head .status-completed").wait_for()
    for page in tabs:
        page.close()
    have_streams(pages, 0)
    assert tab.wrong == []


@pytest.mark.usefixtures("workers")
def test_a_page_behind_others_asks_for_nothing_and_catches_up(tab: Tab, pages: Pages) -> None:
    tab.context.add_init_script(LOOKING)
    pages.wfq.schedule_new_workflow(order, input=1, instance_id="o-1")
    waiting(pages)
    asked: list[str] = []
    page = tab.open("/instances/o-1#behind")
    page.on("request", lambda request: asked.append(request.url))

    page.get_by_label("Data, as JSON").fill('{"by": "half typed')
    page.evaluate("window.here = true")
    other = tab.context.new_page()
    other.goto("/ui/instances/o-1")
    have_streams(pages, 1)
    pages.wfq.raise_workflow_event("o-1", "approved", data="yes")
    other.locator(".head .status-completed").wait_for()
    other.close(run_before_unload=True)
    have_streams(pages, 0)

    assert [url for url in asked if "/static/" not in url] == []
    page.evaluate("look(true)")
    page.locator(".head .status-completed").wait_for()
    assert page.evaluate("window.here") is True
    assert page.evaluate("document.querySelector('#raise textarea').value") == '{"by": "half typed'
    have_streams(pages, 1)
    page.evaluate("look(false)")
    have_streams(pages, 0)
    assert tab.wrong == []


@pytest.mark.usefixtures("workers")
def test_without_shared_workers_a_page_looks_now_and_then(chromium: Any, pages: Pages) -> None:
    pages.wfq.schedule_new_workflow(order, input=1, instance_id="o-1")
    waiting(pages)
    tab = Tab(chromium, pages.base)
    tab.context.add_init_script("delete window.SharedWorker;")
    page = tab.open("/instances/o-1")
    tab.has("Waits for the event approved")

    pages.wfq.raise_workflow_event("o-1", "approved", data="yes")
    page.locator(".head .status-completed").wait_for()

    assert streams(pages) == 0
    assert tab.wrong == []
    tab.context.close()


def test_a_stream_tells_of_the_instances_that_it_was_asked_about(pages: Pages) -> None:
    told: list[str] = []
    with pages.http.stream("GET", "/ui/live?of=o-1&of=o-2&of=") as answer:
        lines = answer.iter_lines()
        while len(told) < 2:
            line = next(lines)
            if line.startswith("data: "):
                told.append(line)
                if len(told) == 1:
                    pages.wfq.schedule_new_workflow(order, input=1, instance_id="o-2")
    wrong = [pages.http.get(f"/ui/live?{query}").status_code for query in (
        "of=a%20b", "&".join(f"of=i-{n}" for n in range(51)),
    )]  # fmt: skip

    assert told[0] == 'data: ["o-1","o-2",""]'
    assert told[1] in ('data: ["o-2",""]', 'data: ["o-1","o-2",""]')
    assert wrong == [400, 400]
