"""Fixtures of the dashboard's tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

import wfq as wf
from tests.server.pages import Pages, check, order, parent
from tests.server.tabs import Tab


@pytest.fixture
def pages(valkey_url: str) -> Iterator[Pages]:
    made = Pages(valkey_url)
    yield made
    made.close()


@pytest.fixture
def workers(pages: Pages) -> Iterator[wf.WorkflowRuntime]:
    runtime = wf.WorkflowRuntime(redis_url=pages.url)
    for workflow in (order, parent):
        runtime.register_workflow(workflow)
    runtime.register_activity(check)
    with runtime:
        yield runtime


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; closed with the module, since its driver keeps an event loop in the thread."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("WFQ_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("needs chromium: apt-get install chromium, or name one in WFQ_CHROMIUM")
    # Root has no sandbox; what is opened here is our own.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any, pages: Pages) -> Iterator[Tab]:
    made = Tab(chromium, pages.base)
    yield made
    made.context.close()
