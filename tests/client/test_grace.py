"""Workflows that no worker has, with workers on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import wfq as wf
from tests.client.kit import NAMESPACE
from tests.servers import poll
from wfq.checker import check_instance
from wfq.settings import load_settings
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace

REASON = "no worker has the workflow 'late'"


def runtime(url: str, *workflows: Any, grace_s: float = 30.0) -> wf.WorkflowRuntime:
    settings = load_settings(
        redis_url=url, namespace=NAMESPACE, lease_s=1.0, unknown_grace_s=grace_s
    )
    wfr = wf.WorkflowRuntime(settings=settings)
    for workflow in workflows:
        wfr.register_workflow(workflow)
    return wfr


def late(ctx: wf.WorkflowContext, number: int) -> int:
    return number


@pytest.fixture
def client(valkey_url: str) -> Iterator[wf.WorkflowClient]:
    with wf.WorkflowClient(redis_url=valkey_url, namespace=NAMESPACE) as client:
        yield client


def state(client: wf.WorkflowClient, instance_id: str) -> wf.WorkflowState[Any]:
    found = client.get_workflow_state(instance_id)
    assert found is not None
    return found


def explanation(url: str, instance_id: str) -> str:
    link = SyncLink(url)
    try:
        report = check_instance(link, open_namespace(link, NAMESPACE), instance_id)
    finally:
        link.close()
    assert report.ok, report
    return report.explanations[instance_id]


def test_a_deploy_that_brings_the_code_in_time_raises_no_alarm(
    valkey_url: str, client: wf.WorkflowClient
) -> None:
    with runtime(valkey_url):
        instance_id = client.schedule_new_workflow("late", input=7)
        reason = poll(lambda: state(client, instance_id).stalled_reason)

        assert reason == REASON
        assert state(client, instance_id).runtime_status is wf.WorkflowStatus.RUNNING
        assert client.count_workflows()[wf.WorkflowStatus.STALLED] == 0
        assert f"waits for code: {REASON}" in explanation(valkey_url, instance_id)

    with runtime(valkey_url, late):
        done = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=20)

    assert done is not None
    assert done.output() == 7
    assert done.stalled_reason is None


def test_it_is_stalled_when_its_time_is_over(valkey_url: str, client: wf.WorkflowClient) -> None:
    with runtime(valkey_url, grace_s=1.5):
        instance_id = client.schedule_new_workflow("late", input=7)
        poll(lambda: state(client, instance_id).runtime_status is wf.WorkflowStatus.STALLED)

        assert state(client, instance_id).stalled_reason == REASON
        assert client.count_workflows()[wf.WorkflowStatus.STALLED] == 1
        assert f"stalled: {REASON}" in explanation(valkey_url, instance_id)

    with runtime(valkey_url, late, grace_s=1.5):
        done = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=20)

    assert done is not None
    assert done.output() == 7
