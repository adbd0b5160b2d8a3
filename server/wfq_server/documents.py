"""Status documents: what a GET of an instance answers, in Dapr's shape."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from wfq.management.state import WorkflowStatus
from wfq_server.ports import HistoryEvent, Page, State

#: What `runtimeStatus` can be.
STATUSES = tuple(status.name for status in WorkflowStatus if status is not WorkflowStatus.UNKNOWN)


def rfc3339(moment: datetime) -> str:
    """Return a UTC time with nanoseconds: ``2023-05-03T23:22:11.143069826Z``."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}000Z"


def status_document(state: State) -> dict[str, Any]:
    """Return the document of an instance: payloads as JSON text, absent ones left out."""
    properties = {"dapr.workflow.custom_status": state.serialized_custom_status or ""}
    if state.serialized_input is not None:
        properties["dapr.workflow.input"] = state.serialized_input
    failure = state.failure_details
    # As in Dapr, a failure is told once: not as an output as well.
    if state.serialized_output is not None and failure is None:
        properties["dapr.workflow.output"] = state.serialized_output
    if failure is not None:
        properties["dapr.workflow.failure.error_type"] = failure.error_type
        properties["dapr.workflow.failure.error_message"] = failure.message
        properties["dapr.workflow.failure.stack_trace"] = failure.stack_trace
    if state.stalled_reason is not None:
        # Our own: what the instance needs before it can go on.
        properties["wfq.stalled_reason"] = state.stalled_reason
    return {**summary_document(state), "properties": properties}


def summary_document(state: State) -> dict[str, Any]:
    """Return the part of a status document that needs no payloads, as lists show it."""
    return {
        "instanceID": state.instance_id,
        "workflowName": state.name,
        "createdAt": rfc3339(state.created_at),
        "lastUpdatedAt": rfc3339(state.last_updated_at),
        "runtimeStatus": state.runtime_status.name,
    }


def list_document(page: Page) -> dict[str, Any]:
    """Return a page of instances; the token is there while there are more."""
    document: dict[str, Any] = {"workflows": [summary_document(state) for state in page.items]}
    if page.cursor is not None:
        document["continuationToken"] = page.cursor
    return document


def history_document(instance_id: str, events: Sequence[HistoryEvent]) -> dict[str, Any]:
    """Return a history: events numbered as `wfq history` shows them."""
    return {"instanceID": instance_id, "events": [event.to_json() for event in events]}


def is_ended(state: State) -> bool:
    """Whether the instance has ended."""
    return state.runtime_status.is_final


def explanation_document(told: dict[str, Any]) -> dict[str, Any]:
    """Return an explanation in the names of the API."""
    return {
        "instanceID": told["instance_id"],
        "runtimeStatus": told.get("runtime_status", ""),
        "explanation": told.get("explanation", ""),
        "waits": told.get("waits", []),
        "next": told.get("next", []),
        "todo": told.get("todo", []),
        "violations": told.get("violations", []),
        "tasks": told.get("tasks", []),
    }
