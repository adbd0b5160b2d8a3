"""The names that Dapr programs import: change the import lines, and the rest runs.

``from dapr.clients import DaprClient`` becomes ``from wfq.compat import DaprClient``. Only the
workflow verbs are here; a component name is required as in Dapr, and means nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self, TypeVar

from wfq.client import WorkflowClient
from wfq.errors import ConfigurationError, InstanceNotFound, PayloadError, WfqError
from wfq.jsontext import parse_json
from wfq.management.state import WorkflowState
from wfq.settings import Settings as WfqSettings

__all__ = [
    "DaprClient",
    "DaprInternalError",
    "DaprResponse",
    "ERROR_CODE_DOES_NOT_EXIST",
    "ERROR_CODE_UNKNOWN",
    "GetWorkflowResponse",
    "LoggerOptions",
    "Settings",
    "StartWorkflowResponse",
    "settings",
]

ERROR_CODE_UNKNOWN = "UNKNOWN"
ERROR_CODE_DOES_NOT_EXIST = "ERR_DOES_NOT_EXIST"

T = TypeVar("T")


class DaprInternalError(WfqError):
    """What every verb of `DaprClient` raises; the wfq error is its cause."""

    def __init__(
        self,
        message: str | None,
        error_code: str | None = ERROR_CODE_UNKNOWN,
        raw_response_bytes: bytes | None = None,
    ) -> None:
        super().__init__(message)
        self._message = message
        self._error_code = error_code
        self._raw_response_bytes = raw_response_bytes

    def as_dict(self) -> dict[str, Any]:
        """Return the error as Dapr's does."""
        return {
            "message": self._message,
            "errorCode": self._error_code,
            "raw_response_bytes": self._raw_response_bytes,
        }


@dataclass(frozen=True, slots=True)
class DaprResponse:
    """What a command answers: nothing but that it was taken."""

    headers: Mapping[str, Any] = field(default_factory=dict)

    def get_headers(self) -> dict[str, Any]:
        """Return the headers; there are none."""
        return dict(self.headers)


@dataclass(frozen=True, slots=True)
class StartWorkflowResponse:
    """The id of the instance that was started."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class GetWorkflowResponse:
    """The status of an instance; times are naive UTC.

    runtime_status: "Running", "Completed", "Failed", ... properties: payloads as JSON text,
    under Dapr's names, as the status document over HTTP has them.
    """

    instance_id: str
    workflow_name: str
    created_at: datetime
    last_updated_at: datetime
    runtime_status: str
    properties: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LoggerOptions:
    """What Dapr's runtime and clients take as logger_options; wfq's accept it and ignore it.

    wfq logs with Python's `logging`, below "wfq"; set that up as for any library.
    """

    log_level: str | int | None = None
    log_handler: logging.Handler | None = None
    log_formatter: logging.Formatter | None = None


class Settings:
    """Dapr's addresses, from its environment variables; wfq connects to none of them."""

    HTTP_APP_PORT: str | int = 3000
    GRPC_APP_PORT: str | int = 50001
    DAPR_API_TOKEN: str | None = None
    DAPR_API_VERSION: str = "v1.0"
    DAPR_API_METHOD_INVOCATION_PROTOCOL: str = "http"
    DAPR_GRPC_ENDPOINT: str | None = None
    DAPR_GRPC_PORT: str | int = 50001
    DAPR_HEALTH_TIMEOUT: str | int = 60
    DAPR_HTTP_ENDPOINT: str | None = None
    DAPR_HTTP_PORT: str | int = 3500
    DAPR_HTTP_TIMEOUT_SECONDS: str | int = 60
    DAPR_RUNTIME_HOST: str = "127.0.0.1"

    def __init__(self) -> None:
        for name in Settings.__annotations__:
            setattr(self, name, os.environ.get(name) or getattr(Settings, name))


settings = Settings()


class DaprClient:
    """The workflow verbs of Dapr's general client.

    ::

        with DaprClient() as d:
            d.raise_workflow_event(
                instance_id=instance_id, workflow_component="dapr",
                event_name="approval_received", event_data={"approver": "Jane Doe"})

    Dapr's own arguments are accepted and ignored; redis_url, namespace, app_id and settings are
    those of `wfq.WorkflowClient`. Every verb raises DaprInternalError, and ValueError for an
    argument that is empty.
    """

    def __init__(
        self,
        address: str | None = None,
        headers_callback: object = None,
        interceptors: object = None,
        http_timeout_seconds: int | None = None,
        max_grpc_message_length: int | None = None,
        retry_policy: object = None,
        *,
        redis_url: str | None = None,
        namespace: str | None = None,
        app_id: str | None = None,
        settings: WfqSettings | None = None,
    ) -> None:
        self._client = WorkflowClient(
            address, redis_url=redis_url, namespace=namespace, app_id=app_id, settings=settings
        )

    def start_workflow(
        self,
        workflow_component: str,
        workflow_name: str,
        input: Any | bytes | None = None,  # noqa: A002 - Dapr's name
        instance_id: str | None = None,
        workflow_options: Mapping[str, str] | None = None,
        send_raw_bytes: bool = False,
    ) -> StartWorkflowResponse:
        """Start an instance; input is encoded as JSON, or is JSON text with send_raw_bytes."""
        _not_blank(workflow_component=workflow_component, workflow_name=workflow_name)
        started = _told(
            lambda: self._client.schedule_new_workflow(
                workflow_name, input=_value(input, send_raw_bytes), instance_id=instance_id
            )
        )
        return StartWorkflowResponse(str(started))

    def get_workflow(self, instance_id: str, workflow_component: str) -> GetWorkflowResponse:
        """Return the status of an instance."""
        _not_blank(instance_id=instance_id, workflow_component=workflow_component)
        state = _told(lambda: self._client.get_workflow_state(instance_id))
        if state is None:
            raise _unknown(instance_id)
        return GetWorkflowResponse(
            instance_id=str(state.instance_id),
            workflow_name=state.name,
            created_at=state.created_at,
            last_updated_at=state.last_updated_at,
            runtime_status=state.runtime_status.name.capitalize(),
            properties=_properties(state),
        )

    def raise_workflow_event(
        self,
        instance_id: str,
        workflow_component: str,
        event_name: str,
        event_data: Any | bytes | None = None,
        send_raw_bytes: bool = False,
    ) -> DaprResponse:
        """Raise an external event; data as the input of `start_workflow`."""
        _not_blank(
            instance_id=instance_id, workflow_component=workflow_component, event_name=event_name
        )
        _told(
            lambda: self._client.raise_workflow_event(
                instance_id, event_name, data=_value(event_data, send_raw_bytes)
            )
        )
        return DaprResponse()

    def terminate_workflow(self, instance_id: str, workflow_component: str) -> DaprResponse:
        """Ask an instance and its children to end."""
        return self._command(self._client.terminate_workflow, instance_id, workflow_component)

    def pause_workflow(self, instance_id: str, workflow_component: str) -> DaprResponse:
        """Ask an instance to run no code until it is resumed."""
        return self._command(self._client.pause_workflow, instance_id, workflow_component)

    def resume_workflow(self, instance_id: str, workflow_component: str) -> DaprResponse:
        """Ask a paused instance to go on."""
        return self._command(self._client.resume_workflow, instance_id, workflow_component)

    def purge_workflow(self, instance_id: str, workflow_component: str) -> DaprResponse:
        """Remove an instance that has ended, and its children."""
        return self._command(self._client.purge_workflow, instance_id, workflow_component)

    def wait(self, timeout_s: float) -> None:
        """Return once Redis answers, where Dapr waits for its sidecar."""
        _told(self._client.ping)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _command(verb: Callable[[str], None], instance_id: str, component: str) -> DaprResponse:
        _not_blank(instance_id=instance_id, workflow_component=component)
        _told(lambda: verb(instance_id))
        return DaprResponse()


def _told(work: Callable[[], T]) -> T:
    """Do the work; a wfq error becomes Dapr's."""
    try:
        return work()
    except InstanceNotFound as exc:
        raise _unknown(exc.instance_id) from exc
    except ConfigurationError:
        raise  # our own settings: Dapr has no word for them
    except WfqError as exc:
        raise DaprInternalError(str(exc)) from exc


def _unknown(instance_id: str) -> DaprInternalError:
    return DaprInternalError(f"no such instance exists: {instance_id!r}", ERROR_CODE_DOES_NOT_EXIST)


def _value(given: Any, raw: bool) -> Any:
    """The value that was meant; raw bytes are JSON text, as the workflow's host reads them."""
    if not (raw and isinstance(given, bytes)):
        return given
    if not given:
        return None
    try:
        return parse_json(given)
    except PayloadError as exc:
        raise DaprInternalError(f"the raw bytes are not JSON: {exc}") from exc


def _properties(state: WorkflowState[Any]) -> dict[str, str]:
    found = {"dapr.workflow.custom_status": state.serialized_custom_status or ""}
    if state.serialized_input is not None:
        found["dapr.workflow.input"] = state.serialized_input
    if state.serialized_output is not None:
        found["dapr.workflow.output"] = state.serialized_output
    failure = state.failure_details
    if failure is not None:
        found["dapr.workflow.failure.error_type"] = failure.error_type
        found["dapr.workflow.failure.error_message"] = failure.message
        found["dapr.workflow.failure.stack_trace"] = failure.stack_trace
    return found


def _not_blank(**arguments: str | None) -> None:
    for name, value in arguments.items():
        if not value or not value.strip():
            raise ValueError(f"{name} name cannot be empty or blank")
