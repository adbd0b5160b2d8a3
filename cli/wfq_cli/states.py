"""How an instance's state is shown: as a JSON record, as a row, as pairs of name and value."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from wfq.errors import FailureDetails
from wfq.logs import plain_text
from wfq.management.state import WorkflowState
from wfq_cli import render
from wfq_cli.render import Column

Record = dict[str, Any]

#: Lines of a failure's stack that a table shows; JSON has all of it.
_STACK_LINES = 3


def summary(state: WorkflowState[Any]) -> Record:
    """Return what a list shows of an instance."""
    return {
        "instance_id": state.instance_id,
        "name": state.name,
        "runtime_status": state.runtime_status.name,
        "created_at": state.created_at,
        "last_updated_at": state.last_updated_at,
        "app_id": state.app_id,
        "tags": state.tags,
        "parent_instance_id": state.parent_instance_id,
        "stalled_reason": state.stalled_reason,
    }


def record(state: WorkflowState[Any]) -> Record:
    """Return all that is known of an instance; payloads are JSON values, not text."""
    return {
        **summary(state),
        "version": state.version,
        "generation": state.generation,
        "custom_status": state.custom_status(),
        "input": state.input(),
        "output": state.output(),
        "failure_details": failure(state.failure_details),
    }


def failure(details: FailureDetails | None) -> Record | None:
    """Return a failure with its causes as a JSON record."""
    if details is None:
        return None
    return {
        "error_type": details.error_type,
        "message": details.message,
        "stack_trace": details.stack_trace,
        "cause": failure(details.cause),
    }


def pairs(state: WorkflowState[Any]) -> list[tuple[str, str]]:
    """Return names and values for a table of one instance; absent ones are left out."""
    tags = " ".join(f"{key}={value}" for key, value in state.tags.items())
    shown = [
        ("id", state.instance_id),
        ("workflow", state.name),
        ("version", state.version or ""),
        ("status", state.runtime_status.name),
        ("needs", state.stalled_reason or ""),
        ("created", _moment(state.created_at)),
        ("updated", _moment(state.last_updated_at)),
        ("application", state.app_id if state.app_id != "default" else ""),
        ("parent", state.parent_instance_id or ""),
        ("tags", plain_text(tags)),
        ("generation", str(state.generation) if state.generation else ""),
        ("custom status", _text(state.serialized_custom_status)),
        ("input", _text(state.serialized_input)),
        ("output", _text(state.serialized_output)),
        *_failure_pairs(state.failure_details),
    ]
    return [(name, value) for name, value in shown if value]


def _text(payload: str | None) -> str:
    return "" if payload is None else plain_text(payload)


def _moment(moment: datetime) -> str:
    return f"{render.rfc3339(moment)} ({render.age(moment)} ago)"


def _failure_pairs(details: FailureDetails | None) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    label = "failure"
    while details is not None:
        found.append((label, plain_text(f"{details.error_type}: {details.message}")))
        stack = [line.strip() for line in details.stack_trace.splitlines() if line.strip()]
        found += [("", plain_text(line)) for line in stack[-_STACK_LINES:-1]]
        label, details = "caused by", details.cause
    return found


LIST_COLUMNS = (
    Column("ID", lambda row: row["instance_id"]),
    Column("WORKFLOW", lambda row: row["name"]),
    Column("STATUS", lambda row: row["runtime_status"]),
    Column("CREATED", lambda row: render.age(row["created_at"]), right=True),
    Column("UPDATED", lambda row: render.age(row["last_updated_at"]), right=True),
)
