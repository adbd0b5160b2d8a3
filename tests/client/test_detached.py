"""Workflows that a workflow starts without being their parent, on a real server."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

import wfq as wf
from tests.client.kit import NAMESPACE
from tests.servers import poll
from wfq.checker import check_namespace
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

Flow = Generator[Any, Any, Any]


@pytest.fixture
def client(valkey_url: str) -> Iterator[wf.WorkflowClient]:
    wfr = wf.WorkflowRuntime(redis_url=valkey_url, namespace=NAMESPACE)

    @wfr.workflow
    def audit(ctx: wf.WorkflowContext, order: str) -> Flow:
        done = yield ctx.wait_for_external_event("done")
        return [order, done, ctx.parent_instance_id]

    @wfr.workflow
    def order(ctx: wf.WorkflowContext, audits: list[str]) -> list[str]:
        return [
            ctx.schedule_new_workflow(audit, input=name, instance_id=name or None)
            for name in audits
        ]

    with wfr, wf.WorkflowClient(redis_url=valkey_url, namespace=NAMESPACE) as client:
        yield client


def test_they_run_on_their_own_in_any_partition(valkey_url: str, client: wf.WorkflowClient) -> None:
    names = [f"audit-{n}" for n in range(20)]
    parent = client.schedule_new_workflow("order", input=[*names, ""])
    state = client.wait_for_workflow_completion(parent, timeout_in_seconds=20)
    assert state is not None
    ids = state.output()
    assert ids[:-1] == names

    for instance_id in ids:
        poll(lambda one=instance_id: client.get_workflow_state(one))  # type: ignore[misc]  # bound now
        client.raise_workflow_event(instance_id, "done", data=1)
        done = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=20)
        assert done is not None
        assert done.output() == [instance_id if instance_id in names else "", 1, None]
        assert done.parent_instance_id is None

    link = SyncLink(valkey_url)
    assert check_namespace(link, Namespace(NAMESPACE)).ok
    link.close()
    started = [e for e in client.get_workflow_history(parent) if e.target_id == "audit-3"]
    assert [e.event_type.name for e in started] == ["DETACHED_WORKFLOW_SCHEDULED"]


def test_an_id_that_is_taken_starts_nothing(client: wf.WorkflowClient) -> None:
    client.schedule_new_workflow("audit", input="first", instance_id="audit-1")
    parent = client.schedule_new_workflow("order", input=["audit-1", "audit-2"])
    client.wait_for_workflow_completion(parent, timeout_in_seconds=20)
    poll(lambda: client.get_workflow_state("audit-2"))

    client.raise_workflow_event("audit-1", "done")
    state = client.wait_for_workflow_completion("audit-1", timeout_in_seconds=20)

    assert state is not None
    assert state.output() == ["first", None, None]


def test_ids_in_daprs_form_of_a_list(client: wf.WorkflowClient) -> None:
    made = {str(client.schedule_new_workflow("audit", input="x")) for _ in range(5)}

    first = client.list_workflow_instance_ids(page_size=3)
    second = client.list_workflow_instance_ids(
        page_size=3, continuation_token=first.continuation_token
    )

    assert {*first.instance_ids, *second.instance_ids} == made
    assert second.continuation_token is None
    assert set(client.iter_workflow_instance_ids(page_size=2)) == made
