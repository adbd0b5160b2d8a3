"""No name of Dapr's Python workflow SDK is missing, but for those that the docs list.

The names were read in `dapr/python-sdk`, folder `ext/dapr-ext-workflow/dapr/ext/workflow`, in
2026 (SDK for Dapr 1.18 and its main branch): `__init__.py`, `workflow_context.py`,
`dapr_workflow_context.py`, `deterministic.py`, `workflow_activity_context.py`,
`workflow_runtime.py`, `dapr_workflow_client.py`, `aio/dapr_workflow_client.py`,
`workflow_management.py`, `workflow_state.py`, `retry_policy.py`, `_durabletask/task.py`; and pull
request 1177 for `schedule_new_workflow` on the context.
"""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import pytest

import wfq as wf
from wfq.aio import DaprWorkflowClient as AsyncClient
from wfq.compat import LoggerOptions

EXPORTS = """
    DaprWorkflowClient DaprWorkflowContext NonRetryableError RetryPolicy TaskFailedError UNSET
    WorkflowActivityContext WorkflowHistoryEvent WorkflowHistoryEventType WorkflowInstanceIdPage
    WorkflowRuntime WorkflowState WorkflowStatus alternate_name when_all when_any
"""

CONTEXT = {
    "call_activity": "activity input retry_policy app_id",
    "call_child_workflow": "workflow input instance_id retry_policy app_id",
    "continue_as_new": "new_input save_events",
    "create_timer": "fire_at",
    "current_utc_datetime": "",
    "instance_id": "",
    "is_patched": "patch_name",
    "is_replaying": "",
    "new_guid": "",
    "now": "",
    "random": "",
    "random_string": "length alphabet",
    "schedule_new_workflow": "workflow input instance_id app_id",
    "set_custom_status": "custom_status",
    "uuid4": "",
    "wait_for_external_event": "name timeout",
}

CLIENT = {
    "close": "",
    "get_workflow_history": "instance_id",
    "get_workflow_state": "instance_id fetch_payloads",
    "iter_workflow_instance_ids": "page_size",
    "list_workflow_instance_ids": "page_size continuation_token",
    "pause_workflow": "instance_id",
    "purge_workflow": "instance_id recursive",
    "raise_workflow_event": "instance_id event_name data",
    "rerun_workflow_from_event": "instance_id event_id new_instance_id input new_child_instance_id",
    "resume_workflow": "instance_id",
    "schedule_new_workflow": "workflow input instance_id start_at reuse_id_policy",
    "terminate_workflow": "instance_id output recursive",
    "wait_for_workflow_completion": "instance_id fetch_payloads timeout_in_seconds",
    "wait_for_workflow_start": "instance_id fetch_payloads timeout_in_seconds",
}

RUNTIME = {
    "activity": "fn name",
    "register_activity": "fn name",
    "register_versioned_workflow": "fn name version_name is_latest",
    "register_workflow": "fn name",
    "shutdown": "",
    "start": "",
    "versioned_workflow": "fn name version_name is_latest",
    "wait_for_worker_ready": "timeout",
    "workflow": "fn name",
}

CONSTRUCTORS = {
    wf.WorkflowRuntime: """host port logger_options maximum_concurrent_activity_work_items
        maximum_concurrent_orchestration_work_items maximum_thread_pool_workers
        worker_ready_timeout""",
    wf.DaprWorkflowClient: "host port logger_options",
    AsyncClient: "host port logger_options",
    wf.RetryPolicy: """first_retry_interval max_number_of_attempts backoff_coefficient
        max_retry_interval retry_timeout""",
}

#: Kinds of events by Dapr's names; those that wfq has no event for are left out.
EVENT_TYPES = """
    EXECUTION_STARTED EXECUTION_COMPLETED EXECUTION_TERMINATED EXECUTION_SUSPENDED
    EXECUTION_RESUMED TASK_SCHEDULED TASK_COMPLETED TASK_FAILED CHILD_WORKFLOW_INSTANCE_CREATED
    CHILD_WORKFLOW_INSTANCE_COMPLETED CHILD_WORKFLOW_INSTANCE_FAILED
    DETACHED_WORKFLOW_INSTANCE_CREATED TIMER_CREATED TIMER_FIRED EVENT_SENT EVENT_RAISED
    CONTINUE_AS_NEW
"""

ATTRIBUTES: dict[Any, str] = {
    wf.WorkflowActivityContext: "workflow_id task_id",
    wf.WorkflowHistoryEvent: """event_id timestamp event_type name task_scheduled_id
        failure_details is_rerunnable""",
    wf.WorkflowInstanceIdPage: "instance_ids continuation_token",
    wf.WorkflowHistoryEventType: EVENT_TYPES,
    wf.WorkflowStatus: "UNKNOWN RUNNING COMPLETED FAILED TERMINATED PENDING SUSPENDED STALLED",
    wf.Task: "get_result get_exception is_complete is_failed",
    wf.FailureDetails: "message error_type stack_trace",
    wf.RetryPolicy: """first_retry_interval max_number_of_attempts backoff_coefficient
        max_retry_interval retry_timeout""",
}

#: Told in docs/migrating-from-dapr.md, with what to do instead.
ELSEWHERE = """
    get_inner_context propagation get_propagated_history RuntimeInterceptor ClientInterceptor
    task_execution_id non_retryable_error_types NonDeterminismError new_child_instance_id
    app_namespace PropagationScope DaprMCPClient
"""

METHODS = [
    (owner, name, arguments)
    for owner, names in (
        (wf.DaprWorkflowContext, CONTEXT),
        (wf.DaprWorkflowClient, CLIENT),
        (AsyncClient, CLIENT),
        (wf.WorkflowRuntime, RUNTIME),
    )
    for name, arguments in names.items()
]


@pytest.mark.parametrize("name", EXPORTS.split())
def test_the_package_has_the_name(name: str) -> None:
    assert name in wf.__all__
    assert getattr(wf, name) is not None


@pytest.mark.parametrize(("owner", "name", "arguments"), METHODS)
def test_the_method_takes_the_arguments(owner: type, name: str, arguments: str) -> None:
    member = inspect.getattr_static(owner, name)
    if isinstance(member, property):
        assert not arguments
        return
    taken = inspect.signature(member).parameters
    anything = any(kind.kind is inspect.Parameter.VAR_KEYWORD for kind in taken.values())
    missing = set(arguments.split()) - set(taken)
    assert not missing or (anything and missing <= {"start_at", "reuse_id_policy"})


@pytest.mark.parametrize(
    "made", CONSTRUCTORS, ids=lambda made: f"{made.__module__}.{made.__name__}"
)
def test_the_constructor_takes_the_arguments(made: type) -> None:
    assert set(CONSTRUCTORS[made].split()) <= set(inspect.signature(made).parameters)


@pytest.mark.parametrize("owner", ATTRIBUTES, ids=lambda owner: owner.__name__)
def test_the_class_has_the_attributes(owner: type) -> None:
    fields = getattr(owner, "__dataclass_fields__", {})
    missing = [n for n in ATTRIBUTES[owner].split() if n not in fields and not hasattr(owner, n)]
    assert not missing


def test_daprs_logger_options_are_accepted() -> None:
    options = LoggerOptions(log_level="DEBUG", log_formatter=logging.Formatter("%(message)s"))

    wf.WorkflowRuntime("localhost", "50001", options, redis_url="memory://names")
    with wf.DaprWorkflowClient(logger_options=options, redis_url="memory://names") as client:
        assert client.get_workflow_state("nobody") is None


@pytest.mark.parametrize("name", ELSEWHERE.split())
def test_what_differs_on_purpose_is_told(name: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "migrating-from-dapr.md"

    assert name in page.read_text(encoding="utf-8")
