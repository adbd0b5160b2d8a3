"""What the API asks of the library, as `wfq_server.client.ApiClient` gives it.

Tests put a client without Redis in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from wfq.errors import FailureDetails
from wfq.management.state import WorkflowStatus
from wfq.storage.figures import Figures


class State(Protocol):
    """What is read of a `wfq.WorkflowState`; payloads are JSON text."""

    @property
    def instance_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def runtime_status(self) -> WorkflowStatus: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def last_updated_at(self) -> datetime: ...
    @property
    def serialized_input(self) -> str | None: ...
    @property
    def serialized_output(self) -> str | None: ...
    @property
    def serialized_custom_status(self) -> str | None: ...
    @property
    def failure_details(self) -> FailureDetails | None: ...
    @property
    def stalled_reason(self) -> str | None: ...


class Page(Protocol):
    """A page of a list."""

    @property
    def items(self) -> Sequence[State]: ...
    @property
    def cursor(self) -> str | None: ...


class HistoryEvent(Protocol):
    """A numbered event of a history."""

    def to_json(self) -> dict[str, Any]: ...


class Client(Protocol):
    """The verbs. All raise wfq errors."""

    async def explain(self, instance_id: str, status: str) -> dict[str, Any] | None: ...
    async def figures(self) -> Figures: ...
    async def start_once(
        self,
        name: str,
        *,
        payload: Any,
        instance_id: str | None,
        start_at: datetime | timedelta | None,
        app_id: str | None,
    ) -> str:
        """Start an instance; the same id, name and input again is the same start."""

    async def get_workflow_state(self, instance_id: str) -> State | None: ...

    async def wait_for_workflow_completion(
        self, instance_id: str, *, timeout_in_seconds: float
    ) -> State: ...

    async def wait_for_workflow_change(self, state: Any, *, timeout_in_seconds: float) -> State: ...

    async def get_workflow_history(self, instance_id: str) -> Sequence[HistoryEvent]: ...

    async def list_workflows(
        self,
        *,
        status: Sequence[str] | None,
        name: str | None,
        app_id: str | None,
        created_after: datetime | None,
        created_before: datetime | None,
        tags: Mapping[str, str] | None,
        id_contains: str | None,
        limit: int,
        cursor: str | None,
    ) -> Page: ...

    async def raise_workflow_event(
        self, instance_id: str, event_name: str, *, data: Any, event_id: str | None
    ) -> None: ...

    async def terminate_workflow(
        self, instance_id: str, *, output: Any, recursive: bool
    ) -> None: ...

    async def pause_workflow(self, instance_id: str) -> None: ...

    async def resume_workflow(self, instance_id: str) -> None: ...

    async def purge_workflow(self, instance_id: str, *, recursive: bool) -> None: ...

    async def rerun_workflow(
        self,
        instance_id: str,
        *,
        from_event: int | None,
        new_instance_id: str | None,
        input: Any,  # noqa: A002 - the library's name
    ) -> str: ...

    async def check(self) -> None:
        """Raise StorageError unless Redis answers."""

    async def workers(self) -> dict[str, dict[str, Any]]:
        """Return what each live worker registered, by its id."""

    async def close(self) -> None: ...
