"""What a worker tells of its workflows, so that others can draw them and offer forms.

The description of a workflow is a small JSON object: its graph, the JSON schemas of its input and
of its events, and where it is from. No source code and no values are in it, only what the picture
shows.
"""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import TypeAdapter

from wfq.analysis.event_types import event_types
from wfq.analysis.graph import Graph
from wfq.analysis.sources import NoSource, read_function
from wfq.registry import Registry, WorkflowEntry
from wfq.signatures import EMPTY
from wfq.typeddicts import prepare

#: Bytes of one description; what is larger goes out without its events, graph, input.
MAX_BYTES = 64 * 1024
#: Workflows that one worker describes.
MAX_WORKFLOWS = 200


def graph_of(registry: Registry, entry: WorkflowEntry) -> Graph:
    """Return the graph of a registered workflow. Raises: NoSource."""
    names = {activity.function: activity.name for activity in registry.activities()}
    names.update({workflow.function: workflow.name for workflow in registry.workflows()})

    def refer(function: Any) -> str | None:
        try:
            return names.get(function)
        except TypeError:  # not hashable
            return None

    return read_function(entry.function, entry.name, refer)


def describe_workflows(registry: Registry) -> dict[str, bytes]:
    """Return a description of each workflow as JSON, by its name (``name@version``)."""
    found: dict[str, bytes] = {}
    for entry in registry.workflows():
        if len(found) >= MAX_WORKFLOWS:
            break
        key = f"{entry.name}@{entry.version}" if entry.version else entry.name
        found[key] = _description(registry, entry)
    return found


def _description(registry: Registry, entry: WorkflowEntry) -> bytes:
    document: dict[str, Any] = {
        "name": entry.name,
        "version": entry.version,
        "takes_input": entry.takes_input,
        "input_schema": _input_schema(entry),
        "event_schemas": _event_schemas(entry),
        "graph": None,
    }
    try:
        document["graph"] = graph_of(registry, entry).to_json()
    except NoSource:
        pass
    for too_large in ("event_schemas", "graph", "input_schema"):
        text = orjson.dumps(document)
        if len(text) <= MAX_BYTES:
            return text
        document[too_large] = None
    return orjson.dumps(document)


def _input_schema(entry: WorkflowEntry) -> Any:
    """The JSON schema of the input; None where it is not annotated, or has none."""
    if not entry.takes_input or entry.input_type is EMPTY:
        return None
    return _schema(entry.input_type)


def _event_schemas(entry: WorkflowEntry) -> dict[str, Any]:
    """The JSON schemas of the data of events, by name, where the source tells their types."""
    found = {name: _schema(kind) for name, kind in event_types(entry.function).items()}
    return {name: schema for name, schema in found.items() if schema is not None}


def _schema(kind: Any) -> Any:
    try:
        prepare(kind)
        return TypeAdapter(kind).json_schema()
    except Exception:  # pydantic has many: a type that has no schema is not drawn a form for
        return None
