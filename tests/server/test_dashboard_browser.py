"""The dashboard in headless Chromium: live pages, hostile text, accessibility."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.pages import Pages, hostile_instances, order, waiting
from tests.server.tabs import Tab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.usefixtures("workers")
def test_an_order_is_started_followed_approved_and_completed(tab: Tab, pages: Pages) -> None:
    pages.publish()
    page = tab.open("/workflows/default/order")
    page.get_by_label("Input, as JSON").fill("12")
    page.get_by_label("Id", exact=True).fill("o-1")
    assert "wfq start order 12 --id o-1" in page.locator("#line-wfq").inner_text()
    page.get_by_role("button", name="Start").click()

    tab.has("Waits for the event approved")
    page.evaluate("window.here = true")
    data = page.get_by_label("Data, as JSON")
    page.get_by_label("Event", exact=True).fill("Refused")
    assert '"by": ""' in data.input_value()
    page.get_by_label("Event", exact=True).fill("approved")
    assert data.input_value() == "{}"
    data.fill('{"by": "Ada"}')
    page.get_by_label("Event", exact=True).fill("refused")
    page.get_by_label("Event", exact=True).fill("approved")
    assert data.input_value() == '{"by": "Ada"}'
    page.get_by_role("button", name="Raise").click()
    page.locator(".head .status-completed").wait_for()

    # Nothing was loaded anew: what is on the page came in parts.
    assert page.evaluate("window.here") is True
    assert page.get_by_label("Output").inner_text().count("Ada") == 1
    assert page.locator(".g-done").count() == 3
    assert not page.locator("#raise").is_visible()
    assert tab.wrong == []


@pytest.mark.usefixtures("workers")
def test_rows_follow_what_happens_and_stay_chosen(tab: Tab, pages: Pages) -> None:
    pages.wfq.schedule_new_workflow("order", input=1, instance_id="o-1")
    page = tab.open("/instances")
    page.get_by_label("Choose o-1").check()
    page.evaluate("window.here = true")

    pages.wfq.schedule_new_workflow("order", input=1, instance_id="o-2")
    pages.wfq.terminate_workflow("o-2")
    page.get_by_text("o-2").wait_for()

    assert page.get_by_label("Choose o-1").is_checked()
    assert page.get_by_text("1 chosen, or").is_visible()
    assert page.evaluate("window.here") is True
    page.get_by_role("button", name="Terminate").click()
    page.get_by_role("heading", name="Terminate 1 instance?").wait_for()
    page.locator("#confirm").click()
    page.get_by_role("heading", name="1 instance terminated").wait_for()
    assert tab.wrong == []


def test_filters_stand_in_the_address_and_back_goes_back(tab: Tab, pages: Pages) -> None:
    pages.wfq.schedule_new_workflow("order", input=1, instance_id="o-1")
    pages.wfq.schedule_new_workflow("other", instance_id="p-1")
    page = tab.open("/instances")

    page.get_by_label("Workflow", exact=True).fill("other")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**/instances?name=other*")
    assert page.get_by_text("o-1").count() == 0
    page.go_back()

    page.get_by_text("o-1").wait_for()


def test_keys_reach_search_rows_and_theme(tab: Tab, pages: Pages) -> None:
    pages.wfq.schedule_new_workflow("order", input=1, instance_id="o-1")
    page = tab.open("/instances")

    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == "o-1"
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    assert tab.wrong == []


@pytest.mark.usefixtures("workers")
def test_nothing_moves_where_that_is_unwanted(chromium: Any, pages: Pages) -> None:
    pages.wfq.schedule_new_workflow(order, input=1, instance_id="o-1")
    waiting(pages)
    tab = Tab(chromium, pages.base, reduced_motion="reduce")
    page = tab.open("/instances/o-1")

    moving = page.evaluate("document.getAnimations().length")

    tab.context.close()
    assert moving == 0


def test_hostile_text_runs_nowhere(tab: Tab, pages: Pages) -> None:
    ids = hostile_instances(pages.url)
    paths = ["/", "/instances", "/workflows", "/dead"]
    paths += [f"/instances/{one}{part}" for one in ids for part in ("", "/history")]

    for path in paths:
        page = tab.open(path)
        assert page.evaluate("window.hacked") is None, path
    # The same through a part that is swapped in.
    tab.open(f"/instances/{ids[0]}")
    pages.wfq.raise_workflow_event(ids[0], "<img src=x onerror='window.hacked=1'>", data="x")
    pages.wfq.terminate_workflow(ids[0], output="<script>window.hacked=1</script>")
    page.get_by_text("Suspend").first.wait_for()

    assert page.evaluate("window.hacked") is None
    assert tab.wrong == []


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_axe_finds_no_violation(chromium: Any, pages: Pages, look: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    pages.publish()
    pages.wfq.schedule_new_workflow(order, input=1, instance_id="o-1", tags={"team": "sales"})
    pages.wfq.schedule_new_workflow(order, input=1, instance_id="o-2")
    waiting(pages, "o-2")
    waiting(pages)
    pages.wfq.raise_workflow_event("o-2", "approved", data="no")
    pages.wfq.wait_for_workflow_completion("o-2", timeout_in_seconds=20)
    options: dict[str, Any] = {"color_scheme": "dark" if look == "dark" else "light"}
    if look == "phone":
        options["viewport"] = {"width": 390, "height": 800}
    # The policy of the pages forbids the script that looks at them.
    tab = Tab(chromium, pages.base, bypass_csp=True, reduced_motion="reduce", **options)
    wrong = []
    for path in (
        "/", "/instances", "/instances?name=none", "/instances/o-1", "/instances/o-2",
        "/instances/o-1/history", "/workflows", "/workflows/default/order", "/workers", "/queues",
        "/dead", "/instances/nobody",
    ):  # fmt: skip
        wrong += [f"{path}: {found}" for found in _violations(axe.Axe(), tab.open(path))]
    if look == "phone":
        page = tab.open("/instances/o-1")
        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not wide
    tab.context.close()

    assert wrong == []


def _violations(axe: Any, page: Any) -> list[str]:
    """What axe finds, and finds again: a part may be swapped in while it looks."""
    found: list[str] = []
    for _ in range(3):
        page.wait_for_load_state()
        page.wait_for_function("!document.querySelector('.htmx-request, .htmx-settling')")
        found = [
            f"{one['id']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
            for one in axe.run(page).response["violations"]
        ]
        if not found:
            break
    return found
