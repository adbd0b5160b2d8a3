"""The library's client as the API uses it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from wfq.aio import WorkflowClient
from wfq.scope import Scope
from wfq.start_once import start_once
from wfq.steps import Command, Operation


class ApiClient(WorkflowClient):
    """`wfq.aio.WorkflowClient`, and what HTTP needs beyond it."""

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
        return await self._do(
            start_once, name, payload, instance_id, start_at=start_at, app_id=app_id
        )

    async def check(self) -> None:
        """Raise StorageError unless Redis answers."""
        await self._do(_ping)


def _ping(_: Scope) -> Operation[None]:
    yield Command(("PING",))
