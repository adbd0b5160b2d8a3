"""The library's client as the API uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

import orjson

from wfq.aio import WorkflowClient
from wfq.checker.explain import explain_instance
from wfq.management.scope import Scope
from wfq.management.start_once import start_once
from wfq.management.steps import Command, Operation, run_many
from wfq.storage.channels import AsyncSubscriber
from wfq.storage.figures import Figures, figures, total
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

T = TypeVar("T")
P = ParamSpec("P")

#: Queues whose figures are read: each costs some reads in every partition.
MOST_QUEUES = 100


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

    async def operate(
        self,
        operation: Callable[Concatenate[Scope, P], Operation[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run an operation of the library, for what the dashboard asks beyond the verbs."""
        return await self._do(operation, *args, **kwargs)

    async def subscribe_changes(self) -> AsyncSubscriber:
        """Return a new subscription to the changes of all instances; the caller closes it."""
        return await self._session.subscribe_changes()

    async def check(self) -> None:
        """Raise StorageError unless Redis answers."""
        await self._do(_ping)

    async def workers(self) -> dict[str, dict[str, Any]]:
        """Return what each live worker registered, by its id."""
        return await self._do(_workers)

    async def explain(self, instance_id: str, status: str) -> dict[str, Any] | None:
        """Return why an instance is where it is; None for an unknown one."""
        url, namespace = await self._session.place()
        return await asyncio.to_thread(_explained, url, namespace, instance_id, status)

    async def figures(self) -> Figures:
        """Return how much of everything there is in the namespace."""
        return await self._do(_figures)


def _explained(
    url: str, namespace: Namespace, instance_id: str, status: str
) -> dict[str, Any] | None:
    link = SyncLink(url)
    try:
        told = explain_instance(link, namespace, instance_id, status)
        return None if told is None else told.document()
    finally:
        link.close()


def _figures(scope: Scope) -> Operation[Figures]:
    names = yield Command(("SMEMBERS", scope.namespace.queues))
    queues = sorted(name.decode() for name in names)[:MOST_QUEUES]
    calls = [figures(scope.namespace, p, queues) for p in range(scope.namespace.partitions)]
    return total((yield from run_many(calls)))


def _ping(_: Scope) -> Operation[None]:
    yield Command(("PING",))


def _workers(scope: Scope) -> Operation[dict[str, dict[str, Any]]]:
    ids = yield Command(("ZRANGE", scope.namespace.workers, 0, -1))
    if not ids:
        return {}
    names = [worker_id.decode() for worker_id in ids]
    found = yield Command(("MGET", *map(scope.namespace.worker, names)))
    # One that died is in the list for a while after its details have expired.
    return {n: orjson.loads(text) for n, text in zip(names, found, strict=True) if text}
