"""Forms from JSON schemas: an example to begin with, the fields, and the lines that do the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

#: Schemas within schemas that an example goes into.
_DEPTH = 8


def example_of(schema: Mapping[str, Any] | None) -> Any:
    """Return a value of the shape that a schema describes, as a beginning for a form."""
    if not schema:
        return None
    return _example(schema, schema, 0)


def _example(schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    schema = _resolved(schema, root)
    if depth > _DEPTH or not schema:
        return None
    for word in ("default", "const"):
        if word in schema:
            return schema[word]
    for word in ("examples", "enum"):
        if isinstance(schema.get(word), list) and schema[word]:
            return schema[word][0]
    for word in ("anyOf", "oneOf", "allOf"):
        options = schema.get(word)
        if isinstance(options, list) and options:
            real = [o for o in options if not (isinstance(o, dict) and o.get("type") == "null")]
            return _example((real or options)[0], root, depth + 1)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties")
            if not isinstance(properties, dict):
                return {}
            return {name: _example(part, root, depth + 1) for name, part in properties.items()}
        case "array":
            inner = schema.get("items")
            return [_example(inner, root, depth + 1)] if isinstance(inner, dict) else []
        case "string":
            return _STRINGS.get(str(schema.get("format")), "")
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
    return None


_STRINGS = {
    "date-time": "2026-01-01T09:00:00Z",
    "date": "2026-01-01",
    "time": "09:00:00",
    "duration": "PT1H",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "email": "somebody@example.com",
    "uri": "https://example.com",
}


def _resolved(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    for _ in range(_DEPTH):
        reference = schema.get("$ref") if isinstance(schema, dict) else None
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        found: Any = root
        for part in reference[2:].split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        schema = found
    return schema if isinstance(schema, dict) else {}


def example_text(schema: Any) -> str:
    """The example of a schema as JSON for a form; an empty object where there is none."""
    example = example_of(schema if isinstance(schema, dict) else None)
    return "{}" if example is None else json.dumps(example, indent=2, ensure_ascii=False)


def fields_of(schema: Mapping[str, Any] | None) -> list[tuple[str, str, bool]]:
    """Return the fields of an input: name, type in a word, whether it must be given."""
    top = _resolved(schema or {}, schema or {})
    properties = top.get("properties")
    if not isinstance(properties, dict):
        return []
    required = top.get("required") or []
    return [
        (str(name), " or ".join(_types(part, schema or {})) or "any", name in required)
        for name, part in properties.items()
    ]


def _types(part: Any, root: Mapping[str, Any]) -> Iterator[str]:
    schema = _resolved(part, root)
    options = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(options, list):
        for option in options:
            yield from _types(option, root)
    elif "enum" in schema:
        yield " or ".join(json.dumps(value, default=str) for value in schema["enum"][:8])
    elif schema.get("format"):
        yield str(schema["format"])
    elif schema.get("type"):
        yield str(schema["type"])


def start_lines(base: str, name: str, text: str, app_id: str | None) -> dict[str, str]:
    """Return the command lines that start a workflow as the form does."""
    compact = _compact(text)
    app = f" --app-id {shlex.quote(app_id)}" if app_id else ""
    query = f"?appID={quote(app_id, safe='')}" if app_id else ""
    given = f" {shlex.quote(compact)}" if compact else ""
    url = f"{base}/v1.0/workflows/dapr/{quote(name, safe='')}/start{query}"
    data = f" -H 'content-type: application/json' -d {shlex.quote(compact)}" if compact else ""
    return {
        "wfq": f"wfq start {shlex.quote(name)}{given}{app}",
        "curl": f"curl -X POST {shlex.quote(url)}{data}",
    }


def raise_lines(base: str, instance_id: str, event: str, text: str) -> dict[str, str]:
    """Return the command lines that raise an event as the form does."""
    compact = _compact(text)
    given = f" {shlex.quote(compact)}" if compact else ""
    url = f"{base}/v1.0/workflows/dapr/{instance_id}/raiseEvent/{quote(event, safe='')}"
    data = f" -H 'content-type: application/json' -d {shlex.quote(compact)}" if compact else ""
    return {
        "wfq": f"wfq raise {shlex.quote(instance_id)} {shlex.quote(event)}{given}",
        "curl": f"curl -X POST {shlex.quote(url)}{data}",
    }


def _compact(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False) if text.strip() else ""
    except ValueError:
        return text.strip()
