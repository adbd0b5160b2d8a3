"""Makes the pictures of the dashboard in `docs/images`: ``python -m tests.docs.screenshots``.

It needs chromium. The pictures are of a real run: `shop.py` on the embedded server.
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import wfq as wf
from tests.docs import shop
from tests.server.pages import Pages
from tests.servers import ROOT, LocalServer, poll
from wfq.management.history import HistoryEvent

FOLDER = ROOT / "docs" / "images"
#: Name of the picture, address, colours, size of the window.
PICTURES = (
    ("dashboard-order", "/instances/order-1042", "light", (1280, 800)),
    ("dashboard-stuck", "/instances/STUCK", "light", (1280, 560)),
    ("dashboard-done", "/instances/order-1041", "dark", (1280, 800)),
    ("dashboard-list", "/instances", "light", (1280, 620)),
    ("dashboard-workflow", "/workflows/default/purchase_order", "dark", (1280, 800)),
)


def main() -> None:
    server = LocalServer("valkey")
    try:
        _run(server.url)
    finally:
        server.close()


def _run(url: str) -> None:
    runtime = wf.WorkflowRuntime(redis_url=url)
    for workflow in (shop.purchase_order, shop.deliver):
        runtime.register_workflow(workflow)
    for activity in shop.app.registry.activities():
        runtime.register_activity(activity.function)
    pages = Pages(url)
    with runtime:
        _play(pages)
        _shoot(pages, _stuck_child(pages))
    pages.close()


def _play(pages: Pages) -> None:
    """Start what the pictures show, and wait until it stands still."""
    start = pages.wfq.schedule_new_workflow
    small = shop.Order("pens", 3, 20.0)
    start(shop.purchase_order, input=small, instance_id="order-1041", tags={"team": "sales"})
    start(shop.purchase_order, input=shop.Order(), instance_id="order-1042", tags={"team": "sales"})
    start(shop.purchase_order, input=shop.Order("saw", 1, 1200.0), instance_id="order-1043")
    start(shop.purchase_order, input=shop.Order("anvil", 1, 80.0), instance_id="order-1044")
    start(shop.purchase_order, input=shop.Order("press", 1, 4200.0), instance_id="order-1045")
    _wait(pages, "order-1044", "FAILED")
    _wait(pages, "order-1041", "COMPLETED")
    for waiting in ("order-1042", "order-1043", "order-1045"):
        poll(partial(_event_of, pages, waiting, "approval_received"), 60)
    pages.wfq.pause_workflow("order-1045")


def _stuck_child(pages: Pages) -> str:
    """Let an order go on to where no worker is; return the id of the child that waits there."""
    pages.wfq.raise_workflow_event("order-1043", "approval_received", data={"by": "Ada"})
    started = poll(partial(_event_of, pages, "order-1043", "deliver"), 60)
    assert started is not None
    assert started.target_id is not None
    poll(partial(_event_of, pages, started.target_id, "load_van"), 60)
    return started.target_id


def _wait(pages: Pages, instance_id: str, status: str) -> None:
    state = pages.wfq.wait_for_workflow_completion(instance_id, timeout_in_seconds=60)
    assert state.runtime_status.name == status, state


def _event_of(pages: Pages, instance_id: str, name: str) -> HistoryEvent | None:
    if pages.wfq.get_workflow_state(instance_id) is None:
        return None
    events = pages.wfq.get_workflow_history(instance_id)
    return next((event for event in events if event.name == name), None)


def _shoot(pages: Pages, stuck: str) -> None:
    from playwright.sync_api import sync_playwright

    path = os.environ.get("WFQ_CHROMIUM") or shutil.which("chromium")
    if path is None:
        sys.exit("screenshots: there is no chromium; name one in WFQ_CHROMIUM")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=flags)
        for name, address, colours, (width, height) in PICTURES:
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if colours == "dark" else "light",
                reduced_motion="reduce",
            )
            page.goto(f"{pages.base}/ui{address.replace('STUCK', stuck)}")
            page.wait_for_timeout(1500)
            page.screenshot(path=Path(FOLDER, f"{name}.png"))
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
