"""Listener rules: how a message from elsewhere becomes an external event, or starts a workflow.

A rule names its source (one of `channel`, `pattern`, `stream`) and where in the message the
event name, the instance id, the data and the event id are found. Every rule of a source is tried
on each of its messages. Paths are the plain part of
JSONPath: ``$.order.id``, ``order.id``, ``$.lines[0].sku``, ``$['odd name']``; ``$`` is the whole
message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

#: ``name``, ``[3]``, ``['any name']`` or ``["any name"]``, each with an optional dot before it.
_STEP = re.compile(
    r"""\.?(?P<name>[^\W\d][\w\-]*) | \[(?P<index>\d{1,9})\] | \[(?P<q>['"])(?P<key>.+?)(?P=q)\]""",
    re.VERBOSE,
)


class PathMissing(LookupError):
    """The message has nothing at the path."""


def parse_path(path: str) -> tuple[str | int, ...]:
    """Return the keys and indexes that `path` goes through; ``$`` gives none.

    Raises: ValueError, in one line.
    """
    steps: list[str | int] = []
    text = path.strip()
    position = 1 if text.startswith("$") else 0
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None or (position > 0 and found["name"] and text[position] != "."):
            break
        if found["index"] is not None:
            steps.append(int(found["index"]))
        else:
            steps.append(found["name"] or found["key"])
        position = found.end()
    if not text or position < len(text) or text.startswith("."):
        raise ValueError(f"{path!r} is not a path; write it like $.order.id or $.lines[0]")
    return tuple(steps)


def look_up(message: object, steps: Sequence[str | int]) -> object:
    """Return what `message` (decoded JSON) holds at `steps`. Raises: PathMissing."""
    value = message
    for step in steps:
        if isinstance(value, Mapping) and isinstance(step, str) and step in value:
            value = value[step]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            raise PathMissing(f"the message has no {step!r}")
    return value


def _check_path(path: str) -> str:
    parse_path(path)
    return path


MessagePath = Annotated[str, AfterValidator(_check_path)]
_Named = Annotated[str, Field(min_length=1, max_length=500)]


class ListenerRule(BaseModel):
    """One source and how its messages become events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: A pub/sub channel, a channel pattern, or a stream: exactly one.
    channel: _Named | None = None
    pattern: _Named | None = None
    stream: _Named | None = None
    #: What to do, exactly one: raise an event whose name is fixed, or found in the message; or
    #: start a workflow.
    event: _Named | None = None
    event_from: MessagePath | None = None
    workflow: _Named | None = None
    #: The instance that is meant. A started one gets an id of its own where this is not given.
    instance_id_from: MessagePath | None = None
    #: The event's data or the workflow's input; the whole message unless given.
    data_from: MessagePath = "$"
    #: The id that makes a message count once; CloudEvents have one of their own.
    event_id_from: MessagePath | None = None
    #: The consumer group of a stream source, shared by every listener of this rule.
    group: _Named = "wfq"
    #: The application whose instances are meant; the listener's own unless given.
    app_id: _Named | None = None

    @model_validator(mode="after")
    def _one_source_and_one_name(self) -> Self:
        sources = [s for s in (self.channel, self.pattern, self.stream) if s is not None]
        if len(sources) != 1:
            raise ValueError("a listener rule needs exactly one of channel, pattern, stream")
        verbs = [v for v in (self.event, self.event_from, self.workflow) if v is not None]
        if len(verbs) != 1:
            raise ValueError("a listener rule needs exactly one of event, event_from, workflow")
        if self.workflow is None and self.instance_id_from is None:
            raise ValueError("a listener rule needs instance_id_from: whom is the event for?")
        return self

    @property
    def source(self) -> str:
        """The source in words for logs: ``channel approvals``."""
        for kind in ("channel", "pattern", "stream"):
            name = getattr(self, kind)
            if name is not None:
                return f"{kind} {name}"
        raise AssertionError("validated above")
