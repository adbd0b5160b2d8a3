"""Durable workflows in Python on Redis.

::

    import wfq as wf

    wfr = wf.WorkflowRuntime()

    @wfr.workflow
    def greet(ctx: wf.WorkflowContext, name: str):
        greeting = yield ctx.call_activity(hello, input=name)
        return greeting.upper()

    @wfr.activity
    def hello(ctx: wf.ActivityContext, name: str) -> str:
        return f"hello {name}"

Errors are in `wfq.errors`; those that programs catch are here too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wfq import aio, compat, errors, testing
    from wfq.activity_context import ActivityContext
    from wfq.activity_context import ActivityContext as WorkflowActivityContext
    from wfq.asgi_app import asgi
    from wfq.client import WorkflowClient
    from wfq.client import WorkflowClient as DaprWorkflowClient
    from wfq.codec import PayloadCodec
    from wfq.core.context import WorkflowContext
    from wfq.core.context import WorkflowContext as DaprWorkflowContext
    from wfq.core.retry import RetryPolicy
    from wfq.core.tasks import Task, when_all, when_any
    from wfq.depends import Depends
    from wfq.errors import (
        FailureDetails,
        InboxFull,
        InstanceAlreadyExists,
        InstanceFinished,
        InstanceNotFound,
        InstanceRunning,
        NonRetryableError,
        PayloadError,
        TaskFailedError,
        WaitTimeout,
        WfqError,
    )
    from wfq.management.history import HistoryEvent, HistoryEventType
    from wfq.management.history import HistoryEvent as WorkflowHistoryEvent
    from wfq.management.history import HistoryEventType as WorkflowHistoryEventType
    from wfq.management.ids import InstanceId
    from wfq.management.listing import WorkflowInstanceIdPage, WorkflowPage
    from wfq.management.rerun import UNSET
    from wfq.management.starting import ReuseIdPolicy
    from wfq.management.state import WorkflowState, WorkflowStatus
    from wfq.runtime import WorkflowRuntime
    from wfq.signatures import alternate_name

__all__ = [
    "ActivityContext",
    "DaprWorkflowClient",
    "DaprWorkflowContext",
    "Depends",
    "FailureDetails",
    "HistoryEvent",
    "HistoryEventType",
    "InboxFull",
    "InstanceAlreadyExists",
    "InstanceFinished",
    "InstanceId",
    "InstanceNotFound",
    "InstanceRunning",
    "NonRetryableError",
    "PayloadCodec",
    "PayloadError",
    "RetryPolicy",
    "ReuseIdPolicy",
    "Task",
    "TaskFailedError",
    "UNSET",
    "WaitTimeout",
    "WfqError",
    "WorkflowActivityContext",
    "WorkflowClient",
    "WorkflowContext",
    "WorkflowHistoryEvent",
    "WorkflowHistoryEventType",
    "WorkflowInstanceIdPage",
    "WorkflowPage",
    "WorkflowRuntime",
    "WorkflowState",
    "WorkflowStatus",
    "__version__",
    "aio",
    "alternate_name",
    "asgi",
    "compat",
    "errors",
    "testing",
    "when_all",
    "when_any",
]

__version__ = "0.1.0"

#: Where each name comes from: a module, then its name there where that is another.
_HOME = {
    "ActivityContext": "wfq.activity_context",
    "DaprWorkflowClient": "wfq.client:WorkflowClient",
    "DaprWorkflowContext": "wfq.core.context:WorkflowContext",
    "Depends": "wfq.depends",
    "FailureDetails": "wfq.errors",
    "HistoryEvent": "wfq.management.history",
    "HistoryEventType": "wfq.management.history",
    "InboxFull": "wfq.errors",
    "InstanceAlreadyExists": "wfq.errors",
    "InstanceFinished": "wfq.errors",
    "InstanceId": "wfq.management.ids",
    "InstanceNotFound": "wfq.errors",
    "InstanceRunning": "wfq.errors",
    "NonRetryableError": "wfq.errors",
    "PayloadCodec": "wfq.codec",
    "PayloadError": "wfq.errors",
    "RetryPolicy": "wfq.core.retry",
    "ReuseIdPolicy": "wfq.management.starting",
    "Task": "wfq.core.tasks",
    "TaskFailedError": "wfq.errors",
    "UNSET": "wfq.management.rerun",
    "WaitTimeout": "wfq.errors",
    "WfqError": "wfq.errors",
    "WorkflowActivityContext": "wfq.activity_context:ActivityContext",
    "WorkflowClient": "wfq.client",
    "WorkflowContext": "wfq.core.context",
    "WorkflowHistoryEvent": "wfq.management.history:HistoryEvent",
    "WorkflowHistoryEventType": "wfq.management.history:HistoryEventType",
    "WorkflowInstanceIdPage": "wfq.management.listing",
    "WorkflowPage": "wfq.management.listing",
    "WorkflowRuntime": "wfq.runtime",
    "WorkflowState": "wfq.management.state",
    "WorkflowStatus": "wfq.management.state",
    "alternate_name": "wfq.signatures",
    "asgi": "wfq.asgi_app",
    "when_all": "wfq.core.tasks",
    "when_any": "wfq.core.tasks",
}
_MODULES = frozenset(("aio", "compat", "errors", "testing"))


def __getattr__(name: str) -> Any:
    """Import a public name at its first use.

    `wfq.errors` and the CLI's help must not cost the import of redis and pydantic; all names
    stand in `_HOME`, so that a search finds them.
    """
    if name in _MODULES:
        return importlib.import_module(f"wfq.{name}")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'wfq' has no attribute {name!r}")
    module, _, original = home.partition(":")
    value = getattr(importlib.import_module(module), original or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
