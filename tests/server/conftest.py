"""Fixtures of the dashboard's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import wfq as wf
from tests.server.pages import Pages, check, order, parent


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
