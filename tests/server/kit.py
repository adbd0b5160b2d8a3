"""What the tests of the API share: an application in this process, with or without Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from wfq.errors import FailureDetails, InstanceNotFound, WaitTimeout
from wfq.management.state import WorkflowStatus
from wfq.settings import Settings, load_settings
from wfq.storage.figures import Figures
from wfq_server.app import create_app

BASE = "/v1.0/workflows/dapr"


@dataclass
class FakeState:
    """A `wfq.WorkflowState` made up by a test."""

    instance_id: str = "12345678"
    name: str = "OrderProcessingWorkflow"
    runtime_status: WorkflowStatus = WorkflowStatus.RUNNING
    created_at: datetime = datetime(2023, 5, 3, 23, 22, 11, 143069)
    last_updated_at: datetime = datetime(2023, 5, 3, 23, 22, 22, 460025)
    serialized_input: str | None = None
    serialized_output: str | None = None
    serialized_custom_status: str | None = None
    failure_details: FailureDetails | None = None
    stalled_reason: str | None = None


@dataclass
class FakePage:
    items: Sequence[FakeState]
    cursor: str | None


class FakeEvent:
    def to_json(self) -> dict[str, Any]:
        return {"index": 0, "type": "ExecutionStarted"}


@dataclass
class FakeClient:
    """A client without Redis: answers with `states`, and keeps what it was asked to do."""

    states: dict[str, FakeState] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    #: Raised by the next call, and by all that follow.
    error: Exception | None = None
    closed: bool = False
    registered: dict[str, dict[str, Any]] = field(default_factory=dict)
    counted: Figures = field(default_factory=Figures)

    def did(self, verb: str, *details: Any) -> None:
        self.calls.append((verb, details))
        if self.error is not None:
            raise self.error

    def known(self, instance_id: str) -> FakeState:
        if instance_id not in self.states:
            raise InstanceNotFound(f"no workflow instance {instance_id!r}", instance_id)
        return self.states[instance_id]

    async def explain(self, instance_id: str, status: str) -> dict[str, Any] | None:
        self.did("explain", instance_id, status)
        return {"instance_id": instance_id, "runtime_status": status, "explanation": "it rests"}

    async def figures(self) -> Figures:
        self.did("figures")
        return self.counted

    async def start_once(
        self, name: str, *, payload: Any, instance_id: str | None, start_at: Any, app_id: str | None
    ) -> str:
        self.did("start", name, payload, instance_id, start_at, app_id)
        return instance_id or "made-up"

    async def get_workflow_state(self, instance_id: str) -> FakeState | None:
        self.did("get", instance_id)
        return self.states.get(instance_id)

    async def wait_for_workflow_completion(
        self, instance_id: str, *, timeout_in_seconds: float
    ) -> FakeState:
        self.did("wait", instance_id, timeout_in_seconds)
        end = asyncio.get_running_loop().time() + timeout_in_seconds
        while not self.known(instance_id).runtime_status.is_final:
            if asyncio.get_running_loop().time() >= end:
                raise WaitTimeout("not yet")
            await asyncio.sleep(0.005)
        return self.states[instance_id]

    async def wait_for_workflow_change(
        self, state: FakeState, *, timeout_in_seconds: float
    ) -> FakeState:
        end = asyncio.get_running_loop().time() + timeout_in_seconds
        while self.known(state.instance_id) is state:
            if asyncio.get_running_loop().time() >= end:
                raise WaitTimeout("not yet")
            await asyncio.sleep(0.005)
        return self.states[state.instance_id]

    async def get_workflow_history(self, instance_id: str) -> list[FakeEvent]:
        self.known(instance_id)
        return [FakeEvent()]

    async def list_workflows(self, **filters: Any) -> FakePage:
        self.did("list", filters)
        return FakePage(list(self.states.values()), "next" if filters["limit"] == 1 else None)

    async def raise_workflow_event(
        self, instance_id: str, event_name: str, *, data: Any, event_id: str | None
    ) -> None:
        self.did("raise", instance_id, event_name, data, event_id)
        self.known(instance_id)

    async def terminate_workflow(self, instance_id: str, *, output: Any, recursive: bool) -> None:
        self.did("terminate", instance_id, output, recursive)
        self.known(instance_id)

    async def pause_workflow(self, instance_id: str) -> None:
        self.did("pause", instance_id)
        self.known(instance_id)

    async def resume_workflow(self, instance_id: str) -> None:
        self.did("resume", instance_id)
        self.known(instance_id)

    async def purge_workflow(self, instance_id: str, *, recursive: bool) -> None:
        self.did("purge", instance_id, recursive)
        self.known(instance_id)

    async def rerun_workflow(
        self,
        instance_id: str,
        *,
        from_event: int | None,
        new_instance_id: str | None,
        input: Any,  # noqa: A002 - the library's name
    ) -> str:
        self.did("rerun", instance_id, from_event, new_instance_id, input)
        self.known(instance_id)
        return new_instance_id or instance_id

    async def check(self) -> None:
        self.did("check")

    async def workers(self) -> dict[str, dict[str, Any]]:
        self.did("workers")
        return self.registered

    async def close(self) -> None:
        self.closed = True


class Api:
    """The application with a client, asked by `httpx` without sockets."""

    def __init__(self, client: Any = None, *, settings: Settings | None = None, **app: Any) -> None:
        self.client: Any = FakeClient() if client is None else client
        self.draining = asyncio.Event()
        self.settings = settings or load_settings(redis_url="memory://unused")
        self.app = create_app(self.settings, self.client, draining=self.draining, **app)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Any = None,
        root_path: str = "",
    ) -> httpx.Response:
        """Send one request and return the answer."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=True, root_path=root_path)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost:3500"
        ) as session:
            return await session.request(method, path, headers=headers, content=content)

    def run(self, method: str, path: str, **request: Any) -> httpx.Response:
        """As `ask`, for tests that are not asynchronous."""
        return asyncio.run(self.ask(method, path, **request))


def with_state(**fields: Any) -> FakeClient:
    """A client that knows one instance."""
    state = FakeState(**fields)
    return FakeClient({state.instance_id: state})


def is_error(response: httpx.Response, status: int, code: str | None = None) -> bool:
    """Whether an answer is an error as documented: two fields, one line."""
    document = response.json()
    assert response.status_code == status, response.text
    assert set(document) == {"errorCode", "message"}
    assert document["errorCode"].startswith("ERR_")
    assert document["message"]
    assert document["message"].isprintable()
    return code is None or bool(document["errorCode"] == code)
