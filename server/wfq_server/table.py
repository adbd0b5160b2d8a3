"""Every route of the API."""

from __future__ import annotations

from typing import Any

from wfq_server.documents import STATUSES
from wfq_server.handlers import Handlers
from wfq_server.operations import Answer, Operation, Parameter
from wfq_server.parameters import MAX_PAGE, PAGE
from wfq_server.probes import Probes

_INSTANCES = "/workflows/{component}"
_INSTANCE = _INSTANCES + "/{id}"

_UNKNOWN = Answer("No such instance.", "Error")
_CONFLICT = Answer("The state of the instance does not allow it.", "Error")
_ACCEPTED = Answer("It will be done.")

_INTEGER: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_ROWS: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_BOOLEAN: dict[str, Any] = {"type": "boolean", "default": True}
#: Empty is the same as not given, as with Dapr.
_NEW_ID: dict[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9._:@-]{0,200}$"}
_STATUS = f"({'|'.join(STATUSES)})"
_STATUS_LIST: dict[str, Any] = {"type": "string", "pattern": f"^{_STATUS}(,{_STATUS})*$"}
_KEY: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255}

#: The simplest of the forms that are read; see `wfq.durations`.
_DURATION: dict[str, Any] = {
    "type": "string",
    "pattern": r"^[0-9]{1,5}(\.[0-9]{1,3})?(ms|[smhd])?$",
}
_CURSOR: dict[str, Any] = {
    "type": "string",
    "pattern": "^[0-9]{1,15}:[A-Za-z0-9._:@~-]{1,1000}$",
}
_TAG: dict[str, Any] = {"type": "string", "pattern": r"^[A-Za-z0-9._:/@\-]{1,100}=.{0,100}$"}

_APP_ID = Parameter("appID", "The application that has the workflow's code.", _NEW_ID)
_RECURSIVE = Parameter("recursive", "Whether its children are meant as well.", _BOOLEAN)


def make_operations(handlers: Handlers, probes: Probes) -> list[Operation]:
    """Return the operations; paths that another one's parameters would match come first."""
    return [*_starting(handlers), *_reading(handlers), *_steering(handlers), *_probing(probes)]


def _starting(handlers: Handlers) -> list[Operation]:
    return [
        Operation(
            "StartWorkflow",
            "POST",
            _INSTANCES + "/{name}/start",
            "Start an instance; the same id and input again is the same start.",
            handlers.start,
            "operate",
            "ERR_START_WORKFLOW",
            {
                202: Answer("It will start; Location says where its status is.", "Started"),
                409: Answer("The id has another workflow or input.", "Error"),
            },
            (
                Parameter("instanceID", "Id of the instance; a new one unless given.", _NEW_ID),
                _APP_ID,
                Parameter("startAt", "Not before this time.", _TIME),
                Parameter("delay", "Not before so much time has passed, such as 30s.", _DURATION),
                Parameter(
                    "Idempotency-Key",
                    "Without an id: the same key again is the same start.",
                    _KEY,
                    "header",
                ),
            ),
            body="The input.",
        )
    ]


def _reading(handlers: Handlers) -> list[Operation]:
    status = Answer("The status document.", "Status")
    return [
        Operation(
            "GetWorkflow",
            "GET",
            _INSTANCE,
            "The status of an instance.",
            handlers.get,
            "read",
            "ERR_GET_WORKFLOW",
            {200: status, 404: _UNKNOWN},
        ),
        Operation(
            "ListWorkflows",
            "GET",
            _INSTANCES,
            "A page of instances, newest first.",
            handlers.list,
            "read",
            "ERR_LIST_WORKFLOWS",
            {200: Answer("A page; the token, if there is one, leads to the next.", "List")},
            (
                Parameter(
                    "status",
                    "Only these, with commas between them; repeatable.",
                    _STATUS_LIST,
                    repeatable=True,
                ),
                Parameter("name", "Only instances of this workflow."),
                _APP_ID,
                Parameter("createdAfter", "Only instances created at or after this time.", _TIME),
                Parameter("createdBefore", "Only instances created at or before this time.", _TIME),
                Parameter(
                    "tag",
                    "Only instances with this tag, as key=value; repeatable.",
                    _TAG,
                    repeatable=True,
                ),
                Parameter("idContains", "Only instances whose id has this part."),
                Parameter("limit", "Rows of a page; also pageSize.", _ROWS, aliases=("pageSize",)),
                Parameter("continuationToken", "The token of the page before.", _CURSOR),
            ),
        ),
        Operation(
            "GetWorkflowHistory",
            "GET",
            _INSTANCE + "/history",
            "What happened in an instance, as numbered events.",
            handlers.history,
            "read",
            "ERR_GET_WORKFLOW",
            {200: Answer("The events, oldest first.", "History"), 404: _UNKNOWN},
        ),
        Operation(
            "ExplainWorkflow",
            "GET",
            _INSTANCE + "/explain",
            "Why an instance is where it is, what comes next, and what to do.",
            handlers.explain,
            "read",
            "ERR_GET_WORKFLOW",
            {200: Answer("The explanation.", "Explanation"), 404: _UNKNOWN},
        ),
        Operation(
            "WaitForWorkflow",
            "GET",
            _INSTANCE + "/wait",
            "Wait until an instance has ended (long poll).",
            handlers.wait,
            "read",
            "ERR_GET_WORKFLOW",
            {
                200: Answer("It has ended.", "Status"),
                202: Answer("It has not ended within the time: ask again.", "Status"),
                404: _UNKNOWN,
            },
            (Parameter("timeout", "How long, such as 30s; at most 10m.", _DURATION),),
        ),
        Operation(
            "FollowWorkflow",
            "GET",
            _INSTANCE + "/events",
            "Follow an instance until it has ended (server-sent events).",
            handlers.events,
            "read",
            "ERR_GET_WORKFLOW",
            {
                200: Answer("A status document per change.", None, "text/event-stream"),
                204: Answer("It has ended, and the caller has seen that."),
                404: _UNKNOWN,
            },
        ),
    ]


def _steering(handlers: Handlers) -> list[Operation]:
    changed = {202: _ACCEPTED, 404: _UNKNOWN, 409: _CONFLICT}
    return [
        Operation(
            "RaiseEventWorkflow",
            "POST",
            _INSTANCE + "/raiseEvent/{event:path}",
            "Raise an external event.",
            handlers.raise_event,
            "operate",
            "ERR_RAISE_EVENT_WORKFLOW",
            {**changed, 429: Answer("The instance holds too many events.", "Error")},
            (
                Parameter("eventID", "An event of the same id is taken once.", _KEY),
                Parameter("Idempotency-Key", "The same as eventID.", _KEY, "header"),
            ),
            body="The event's data.",
        ),
        Operation(
            "TerminateWorkflow",
            "POST",
            _INSTANCE + "/terminate",
            "End an instance.",
            handlers.terminate,
            "admin",
            "ERR_TERMINATE_WORKFLOW",
            changed,
            (_RECURSIVE,),
            body="What becomes its output.",
        ),
        Operation(
            "PauseWorkflow",
            "POST",
            _INSTANCE + "/pause",
            "Suspend an instance: it runs no code until it is resumed.",
            handlers.pause,
            "operate",
            "ERR_PAUSE_WORKFLOW",
            changed,
        ),
        Operation(
            "ResumeWorkflow",
            "POST",
            _INSTANCE + "/resume",
            "Resume a suspended instance.",
            handlers.resume,
            "operate",
            "ERR_RESUME_WORKFLOW",
            changed,
        ),
        Operation(
            "PurgeWorkflow",
            "POST",
            _INSTANCE + "/purge",
            "Remove an ended instance with its history.",
            handlers.purge,
            "admin",
            "ERR_PURGE_WORKFLOW",
            {**changed, 202: Answer("It is gone.")},
            (_RECURSIVE,),
        ),
        Operation(
            "RerunWorkflow",
            "POST",
            _INSTANCE + "/rerun",
            "Run an instance again.",
            handlers.rerun,
            "admin",
            "ERR_RERUN_WORKFLOW",
            {202: Answer("It will run again.", "Started"), 404: _UNKNOWN, 409: _CONFLICT},
            (
                Parameter("fromEvent", "Keep what happened before this event.", _INTEGER),
                Parameter("newInstanceID", "Run as a new instance of this id.", _NEW_ID),
            ),
            body="Another input.",
        ),
    ]


def _probing(probes: Probes) -> list[Operation]:
    def probe(
        name: str, path: str, about: str, handler: Any, answers: dict[int, Answer], role: Any = None
    ) -> Operation:
        return Operation(
            name, "GET", path, about, handler, role, "ERR_HEALTH_NOT_READY", answers,
            versioned=False,
        )  # fmt: skip

    healthy = Answer("Yes.", "Health")
    not_ready = Answer("Redis is away, or the server stops.", "Error")
    return [
        probe("Livez", "/livez", "Whether the server runs.", probes.live, {200: healthy}),
        probe(
            "Readyz",
            "/readyz",
            "Whether requests can be served.",
            probes.ready,
            {200: healthy, 503: not_ready},
        ),
        probe(
            "Healthz",
            "/v1.0/healthz",
            "Dapr's form of /readyz.",
            probes.healthz,
            {204: Answer("Yes."), 503: not_ready},
        ),
        probe(
            "HealthzOutbound",
            "/v1.0/healthz/outbound",
            "What Dapr's clients ask before they begin.",
            probes.healthz,
            {204: Answer("Yes."), 503: not_ready},
        ),
        probe(
            "Metrics",
            "/metrics",
            "Counters for Prometheus.",
            probes.metrics,
            {200: Answer("The counters.", None, "text/plain")},
            "read",
        ),
        probe(
            "OpenApi",
            "/openapi.json",
            "This document.",
            probes.openapi,
            {200: Answer("The document.", "Document")},
            "read",
        ),
    ]
