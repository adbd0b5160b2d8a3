"""The OpenAPI document, made from the operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from wfq_server.documents import STATUSES
from wfq_server.operations import VERSIONS, Answer, Operation, Parameter

#: Path parameters by name: what they mean, and their schema.
_ID_PATTERN = r"^[A-Za-z0-9._:@~-]{1,1000}$"
_PATH_PARAMETERS: dict[str, tuple[str, dict[str, Any]]] = {
    "component": ("Any name; Dapr's is `dapr`.", {"type": "string", "minLength": 1}),
    "name": ("Name of the workflow.", {"type": "string", "minLength": 1, "maxLength": 500}),
    "id": ("Id of the instance.", {"type": "string", "pattern": _ID_PATTERN}),
    "event": ("Name of the event.", {"type": "string", "minLength": 1, "maxLength": 500}),
}

_TEXT = {"type": "string"}
_LINES = {
    name: {"type": "array", "items": _TEXT} for name in ("waits", "next", "todo", "violations")
}
_TIME = {"type": "string", "format": "date-time"}

_SUMMARY = {
    "instanceID": _TEXT,
    "workflowName": _TEXT,
    "createdAt": _TIME,
    "lastUpdatedAt": _TIME,
    "runtimeStatus": {"type": "string", "enum": list(STATUSES)},
}


def _object(properties: dict[str, Any], *, optional: Sequence[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


_SCHEMAS: dict[str, Any] = {
    "Error": _object({"errorCode": {"type": "string", "pattern": "^ERR_"}, "message": _TEXT}),
    "Started": _object({"instanceID": _TEXT}),
    "Summary": _object(_SUMMARY),
    "Status": _object(
        {**_SUMMARY, "properties": {"type": "object", "additionalProperties": _TEXT}}
    ),
    "List": _object(
        {
            "workflows": {"type": "array", "items": {"$ref": "#/components/schemas/Summary"}},
            "continuationToken": _TEXT,
        },
        optional=["continuationToken"],
    ),
    "History": _object(
        {"instanceID": _TEXT, "events": {"type": "array", "items": {"type": "object"}}}
    ),
    "Explanation": _object(
        {
            "instanceID": _TEXT,
            "runtimeStatus": _TEXT,
            "explanation": _TEXT,
            **_LINES,
            "tasks": {"type": "array", "items": {"type": "object"}},
        }
    ),
    "Health": _object({"status": _TEXT}),
    "Document": {"type": "object"},
}

_COMMON_ANSWERS = {
    400: Answer("Bad input.", "Error"),
    401: Answer("A token is needed.", "Error"),
    403: Answer("The token, the host or the calling site may not do that.", "Error"),
    503: Answer("Redis is away, or the server has too much to do; see Retry-After.", "Error"),
}
_BODY_ANSWERS = {
    408: Answer("The body came too slowly.", "Error"),
    413: Answer("The body is too large.", "Error"),
    415: Answer("The body is not declared as JSON.", "Error"),
}


def openapi_document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document for `operations`; every version of a path is listed."""
    paths: dict[str, Any] = {}
    for operation in operations:
        for path in operation.paths():
            shown = path.replace(":path}", "}")
            paths.setdefault(shown, {})[operation.method.lower()] = _operation(operation, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wfq",
            "version": version("wfq"),
            "description": "Durable workflows over HTTP, in the form of Dapr's workflow API.",
        },
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        # Either: a token is asked for where one is configured.
        "security": [{}, {"token": []}],
    }


def _operation(operation: Operation, path: str) -> dict[str, Any]:
    prefix = next((v for v in VERSIONS if operation.versioned and path.startswith(f"{v}/")), "")
    suffix = prefix.removeprefix("/v1.0").replace("-", "_")
    described: dict[str, Any] = {
        "operationId": operation.name + suffix,
        "summary": operation.about,
        "parameters": [_path_parameter(name) for name in re.findall(r"{(\w+)", path)]
        + [_parameter(parameter) for parameter in operation.parameters],
        "responses": _responses(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {
            "description": operation.body,
            "required": False,
            "content": {"application/json": {"schema": {}}},
        }
    if operation.role is None:
        described["security"] = [{}]
    return described


def _path_parameter(name: str) -> dict[str, Any]:
    about, schema = _PATH_PARAMETERS[name]
    return {"name": name, "in": "path", "required": True, "description": about, "schema": schema}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": False,
        "description": parameter.about,
        "schema": dict(parameter.schema),
    }


def _responses(operation: Operation) -> dict[str, Any]:
    answers = dict(operation.answers)
    if operation.role is not None:
        answers = {**_COMMON_ANSWERS, **answers}
    if operation.body is not None:
        answers = {**_BODY_ANSWERS, **answers}
    return {str(status): _response(answer) for status, answer in sorted(answers.items())}


def _response(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.about}
    if answer.schema is not None:
        schema = {"$ref": f"#/components/schemas/{answer.schema}"}
        described["content"] = {answer.media_type: {"schema": schema}}
    elif answer.media_type != "application/json":
        described["content"] = {answer.media_type: {"schema": {"type": "string"}}}
    return described
