"""Messages from elsewhere: plain JSON and CloudEvents 1.0, decoded.

In a CloudEvent (structured mode, JSON) a rule's paths are looked up in its data first, then in
the envelope: a rule written for plain messages goes on to work when their sender wraps them, and
`$.type` or `$.subject` are there for those who want them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from wfq.errors import PayloadError
from wfq.jsontext import parse_json
from wfq.rules import PathMissing, look_up

#: Attributes that every CloudEvent 1.0 has.
_REQUIRED = ("id", "source", "type")

#: The field of a stream entry that holds a message, where there is such a field.
DATA_FIELD = b"data"


class Rejected(Exception):
    """A message that cannot be delivered; the text is the reason, in one line."""


@dataclass(frozen=True, slots=True)
class Message:
    """One decoded message: `body` is its content, `envelope` the CloudEvent around it."""

    body: Any
    envelope: Mapping[str, Any] | None = None

    @property
    def event_id(self) -> str | None:
        """What makes the message unique by its sender's account: source and id of a CloudEvent."""
        if self.envelope is None:
            return None
        return f"{self.envelope['source']}:{self.envelope['id']}"

    def find(self, steps: Sequence[str | int]) -> Any:
        """Return what a path leads to. Raises: PathMissing."""
        try:
            return look_up(self.body, steps)
        except PathMissing:
            if self.envelope is None:
                raise
            return look_up(self.envelope, steps)


def decode(raw: bytes, *, limit: int) -> Message:
    """Return the message in `raw`, of at most `limit` bytes. Raises: Rejected."""
    if len(raw) > limit:
        raise Rejected(f"{len(raw)} bytes are over the limit of {limit}")
    try:
        value = parse_json(raw)
    except PayloadError as exc:
        raise Rejected(str(exc)) from exc
    if isinstance(value, dict) and "specversion" in value:
        return _cloud_event(value)
    return Message(value)


def decode_entry(fields: Mapping[bytes, bytes], *, limit: int) -> Message:
    """Return the message in a stream entry. Raises: Rejected.

    It is the JSON of the field ``data``, or of the only field; else the fields are the message,
    as text. Fields that are the attributes of a CloudEvent become its envelope.
    """
    if b"specversion" in fields:
        return _cloud_event(_attributes(fields, limit))
    if DATA_FIELD in fields:
        return decode(fields[DATA_FIELD], limit=limit)
    if len(fields) == 1:
        (only,) = fields.values()
        return decode(only, limit=limit)
    return Message(_text_fields(fields, limit))


def _text_fields(fields: Mapping[bytes, bytes], limit: int) -> dict[str, Any]:
    size = sum(len(name) + len(value) for name, value in fields.items())
    if size > limit:
        raise Rejected(f"{size} bytes are over the limit of {limit}")
    try:
        return {name.decode(): value.decode() for name, value in fields.items()}
    except UnicodeDecodeError as exc:
        raise Rejected("not UTF-8 text") from exc


def _attributes(fields: Mapping[bytes, bytes], limit: int) -> dict[str, Any]:
    attributes = _text_fields(fields, limit)
    if DATA_FIELD in fields:
        attributes["data"] = decode(fields[DATA_FIELD], limit=limit).body
    return attributes


def raw_entry(fields: Mapping[bytes, bytes]) -> bytes:
    """Return a stream entry as one text that `decode` reads in the same way, for dead letters."""
    shown: dict[str, Any] = {
        k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in fields.items()
    }
    if b"specversion" in fields:
        if DATA_FIELD in fields:
            shown["data"] = _parsed_or_text(fields[DATA_FIELD])
    elif DATA_FIELD in fields:
        return fields[DATA_FIELD]
    elif len(fields) == 1:
        return next(iter(fields.values()))
    return orjson.dumps(shown)


def _parsed_or_text(data: bytes) -> Any:
    try:
        return parse_json(data)
    except PayloadError:
        return data.decode("utf-8", "replace")


def _cloud_event(value: dict[str, Any]) -> Message:
    version = value["specversion"]
    if version != "1.0":
        raise Rejected(f"a CloudEvent of version {str(version)[:20]!r}; 1.0 is understood")
    for name in _REQUIRED:
        if not isinstance(value.get(name), str) or not value[name]:
            raise Rejected(f"a CloudEvent without {name}")
    if "data_base64" in value:
        return Message(_binary_data(value), value)
    return Message(value.get("data"), value)


def _binary_data(event: Mapping[str, Any]) -> Any:
    """Return the data of a CloudEvent that carries it in base64; JSON where it is JSON."""
    try:
        data = base64.b64decode(event["data_base64"], validate=True)
    except (binascii.Error, ValueError, TypeError) as exc:
        raise Rejected("a CloudEvent whose data_base64 is not base64") from exc
    declared = str(event.get("datacontenttype", "application/json"))
    kind = declared.partition(";")[0].strip().lower()
    if not (kind == "application/json" or kind.endswith("+json")):
        # JSON is all that a workflow takes: other content stays the text that it came as.
        return event["data_base64"]
    try:
        return parse_json(data)
    except PayloadError as exc:
        raise Rejected(f"unusable data of a CloudEvent: {exc}") from exc
