"""Running workflows in tests: in memory, on the real loops and clock, without a server.

::

    def test_an_order_is_charged_once():
        with wf.testing.in_memory(wfr) as client:
            instance_id = client.schedule_new_workflow(order_workflow, input=order)
            state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=10)

        assert state.output() == "charged"
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wfq.client import WorkflowClient
from wfq.runtime import WorkflowRuntime


@contextmanager
def in_memory(runtime: WorkflowRuntime, *, app_id: str = "default") -> Iterator[WorkflowClient]:
    """Run what is registered with `runtime` in memory, and give a client of it.

    The runtime itself is not started, and its settings do not count. Every call has a store of
    its own, gone afterwards. Timers and retries take their time.
    """
    url = f"memory://test-{uuid.uuid4().hex}"
    workers = WorkflowRuntime(redis_url=url, namespace="test", app_id=app_id)
    workers.registry = runtime.registry
    with WorkflowClient(redis_url=url, namespace="test", app_id=app_id) as client, workers:
        yield client


def run(
    runtime: WorkflowRuntime,
    workflow: Any,
    input: Any = None,  # noqa: A002 - the client's name
    *,
    timeout_s: float = 30.0,
) -> Any:
    """Run one workflow in memory to its end and return its output.

    Raises: TaskFailedError when it fails; WaitTimeout after `timeout_s`.
    """
    with in_memory(runtime) as client:
        instance_id = client.schedule_new_workflow(workflow, input=input)
        state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=timeout_s)
    state.raise_if_failed()
    return state.output()
