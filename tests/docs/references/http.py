"""docs/http.md, from the operations that the routes and the OpenAPI document are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from tests.docs.references.tables import code, sentence, table
from wfq_server.documents import STATUSES
from wfq_server.openapi import openapi_document
from wfq_server.operations import VERSIONS, Operation
from wfq_server.table import make_operations

_INTRO = """\
# HTTP API

This page is made from the routes; a running server has the same as `/openapi.json`. Start one
with `wfq server`, or mount the API into an application of your own with `wf.asgi()`.

- The routes of Dapr's workflow API keep their paths, names and answers, under
  {versions} alike. `{{component}}` may be any name.
- Bodies are JSON. An empty body is the same as `null`: no input, no data, no output; only a rerun
  without body keeps the input that the instance had.
- An error is `{{"errorCode": "ERR_...", "message": "one line"}}`. 429 and 503 carry `Retry-After`.
- A parameter in the query counts once: given twice it is refused with 400, unless it says that it
  is repeatable.
- The server binds `127.0.0.1:3500`. Another address needs `WFQ_API_TOKEN`; where a token is set
  every request carries `Authorization: Bearer ...` (or `dapr-api-token`). A token has a role:
  `read`, `operate` or `admin`, each of which includes those before it.
- A start with an id may be repeated: the same id, workflow and input is the same start, whether
  or not the instance has ended by now; anything else under that id is a conflict. Without an id,
  an `Idempotency-Key` header does the same.
- Starts that arrive while the server waits for Redis share its next round trip, one script call
  for each partition; each has its own answer. A request that was answered 202 is in Redis; one
  without an answer may be, and may be sent again.

`runtimeStatus` is one of {statuses}.

## Routes

{routes}
"""


def page() -> str:
    """Return the page."""
    operations = make_operations(_Nothing(), _Nothing())
    described = openapi_document(operations)["paths"]
    parts = [
        _INTRO.format(
            versions=", ".join(map(code, VERSIONS)),
            statuses=", ".join(map(code, STATUSES)),
            routes=table(("route", "what it does", "role"), map(_route, operations)),
        )
    ]
    for operation in operations:
        path = operation.paths()[0].replace(":path}", "}")
        parts += _described(operation, described[path][operation.method.lower()])
    return "\n".join(parts).rstrip() + "\n"


def _Nothing() -> Any:  # noqa: N802 - stands for an instance of a class
    """Something that has every handler; none of them is called."""

    class Nothing:
        def __getattr__(self, _: str) -> object:
            return None

    return cast(Any, Nothing())


def _path(operation: Operation) -> str:
    return operation.path.replace(":path}", "}")


def _route(operation: Operation) -> tuple[str, str, str]:
    shown = code(f"{operation.method} {_path(operation)}")
    link = f"[{shown}](#{operation.name.lower()})"
    return link, sentence(operation.about), operation.role or "none"


def _described(operation: Operation, document: dict[str, Any]) -> Iterator[str]:
    yield f"### {operation.name}\n"
    version = "/v1.0" if operation.versioned else ""
    yield f"```text\n{operation.method} {version}{_path(operation)}\n```\n"
    about = sentence(operation.about)
    if operation.body is not None:
        about += f" Body: {operation.body[:1].lower()}{operation.body[1:]}"
    yield f"{about}\n"
    if operation.parameters:
        rows = [(code(p.name), p.place, _kind(p.schema), p.about) for p in operation.parameters]
        yield table(("parameter", "in", "type", "meaning"), rows) + "\n"
    answers = document["responses"].items()
    yield table(("answer", "when"), [(status, a["description"]) for status, a in answers]) + "\n"
    yield f"Error code of this operation alone: {code(operation.code)}.\n"


def _kind(schema: Any) -> str:
    """Return a JSON schema in words."""
    kind = str(schema["type"])
    if schema.get("format") == "date-time":
        return "time"
    if "minimum" in schema:
        kind += f", {schema['minimum']} to {schema['maximum']}"
    if "default" in schema:
        kind += f", default {str(schema['default']).lower()}"
    return kind
