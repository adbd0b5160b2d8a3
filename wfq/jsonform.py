"""Writing values of user code as JSON text, or saying which part of them cannot be.

NaN, integers of more than 64 bits, broken Unicode, keys that are not scalars, objects without
a JSON form and nesting beyond `MAX_DEPTH` are refused, never changed in silence.
"""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import math
import types
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Set
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any

import orjson

from wfq.core.tasks import Task, short
from wfq.errors import PayloadError

#: Containers within containers. orjson gives up at 254, and records add levels of their own.
MAX_DEPTH = 200

_TOO_DEEP = f"more than {MAX_DEPTH} levels of nesting"

_DUMP = orjson.OPT_PASSTHROUGH_DATACLASS
_DUMP_ANY_KEY = _DUMP | orjson.OPT_NON_STR_KEYS
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def write_json(value: Any) -> bytes:
    """Return `value` as JSON text.

    Raises: PayloadError with the path of the first part that JSON cannot say.
    """
    try:
        data = _dump(value)
    except Exception as exc:
        raise _refusal(_find_problem(value), f"no JSON form: {exc}") from exc
    if _depth_exceeds(data, MAX_DEPTH):
        raise _refusal(_find_problem(value), _TOO_DEEP)
    # orjson writes NaN as null: only where there is a null is it worth looking.
    if b"null" in data:
        found = _find_problem(value, only_nan=True)
        if found is not None:
            raise _refusal(found, "")
    return data


def _refusal(found: tuple[str, str] | None, otherwise: str) -> PayloadError:
    path, reason = found or ("$", otherwise)
    return PayloadError(f"{reason} at {path}", path)


def _dump(value: Any) -> bytes:
    try:
        return orjson.dumps(value, _convert, _DUMP)
    except TypeError as exc:
        # Keys that are not strings are written as strings, as the json module does; the
        # option is slow, so it is tried only where it is needed.
        if "Dict key must be str" not in str(exc):
            raise
        return orjson.dumps(value, _convert, _DUMP_ANY_KEY)


def _convert(value: Any) -> Any:
    """Return what stands for a value that orjson does not know. Raises: TypeError."""
    names = _HELD.get(type(value))
    if names is not None:
        held: dict[str, Any] = value.__dict__
        # As they are, unless attributes that are no fields were added, or some are missing.
        if tuple(held) == names:
            return held
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "__pydantic_serializer__"):
            return _by_pydantic(value)
        return {name: getattr(value, name) for name in _field_names(type(value))}
    if hasattr(value, "__pydantic_serializer__") and not isinstance(value, type):
        return _by_pydantic(value)
    if isinstance(value, (Set, deque)):
        return _listed(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise TypeError(f"the decimal {value} is not a number")
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, types.SimpleNamespace):
        return vars(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float):
        return float(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, _NEVER):
        raise TypeError("no JSON form")
    from pydantic_core import to_jsonable_python  # only exotic values need it

    try:
        return to_jsonable_python(value, by_alias=True)
    except ValueError as exc:
        raise TypeError("no JSON form") from exc


#: What pydantic would consume or spell out, though it cannot be meant as a value.
_NEVER = (types.GeneratorType, types.CoroutineType, types.FunctionType, Task, BaseException)


def _by_pydantic(value: Any) -> orjson.Fragment:
    return orjson.Fragment(value.__pydantic_serializer__.to_json(value, by_alias=True))


def _listed(values: Any) -> list[Any]:
    """Return a set in a stable order where its members have one."""
    try:
        return sorted(values) if isinstance(values, Set) else list(values)
    except TypeError:
        return list(values)


_FIELDS: dict[type, tuple[str, ...]] = {}
#: Fields of the dataclasses that hold them in their `__dict__`, and nowhere else.
_HELD: dict[type, tuple[str, ...]] = {}


def _field_names(cls: type) -> tuple[str, ...]:
    names = _FIELDS.get(cls)
    if names is None:
        names = _FIELDS[cls] = tuple(field.name for field in dataclasses.fields(cls))
        if _holds_fields(cls, names):
            _HELD[cls] = names
    return names


def _holds_fields(cls: type, names: tuple[str, ...]) -> bool:
    """Whether reading a field is reading the object's `__dict__`: no slots, no properties."""
    lookup: Any = cls.__getattribute__
    if hasattr(cls, "__pydantic_serializer__") or lookup is not object.__getattribute__:
        return False
    return cls.__dictoffset__ != 0 and not any(
        hasattr(inspect.getattr_static(cls, name, None), "__set__") for name in names
    )


def _depth_exceeds(data: bytes, limit: int) -> bool:
    """Tell whether JSON text nests deeper than `limit`."""
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(data.split(b'"')[::2])
    brackets = outside_strings.translate(_TO_SQUARE, _NOT_BRACKETS)
    depth = 0
    # Each round removes the innermost level everywhere; real data needs a handful of rounds.
    while brackets:
        brackets = brackets.replace(b"[]", b"")
        depth += 1
        if depth > limit:
            return True
    return False


# -- finding the offending part


def _find_problem(value: Any, *, only_nan: bool = False) -> tuple[str, str] | None:
    """Return path and reason of the first part that JSON cannot say, in document order.

    A loop, since what is nested too deeply, or within itself, ends up here.
    """
    pending: list[tuple[Any, str, int]] = [(value, "$", 0)]
    while pending:
        part, path, depth = pending.pop()
        reason = None
        members: Any = ()
        if isinstance(part, Enum):
            members = ()
            pending.append((part.value, path, depth))
        elif isinstance(part, float):
            if not math.isfinite(part):
                return bounded_path(path), f"{part} is not a JSON number"
        elif isinstance(part, (int, str)):
            reason = _scalar_problem(part)
        elif part is not None:
            members = _members(part)
            if members is None:
                reason = f"{short(part)} has no JSON form"
            elif depth >= MAX_DEPTH and members is not _LEAF:
                reason = _TOO_DEEP
            elif isinstance(members, dict):
                reason, path = _key_problem(members, path)
        if reason is not None and not only_nan:
            return bounded_path(path), reason
        if reason is None:
            pending.extend(reversed([(m, below, depth + 1) for m, below in _below(members, path)]))
    return None


_LEAF: tuple[Any, ...] = ()


def _members(part: Any) -> Any:
    """Return the dict, list or tuple that `part` is or stands for; None where there is no form."""
    if isinstance(part, (dict, list)):
        return part
    if hasattr(part, "__pydantic_serializer__") and not isinstance(part, type):
        if dataclasses.is_dataclass(part):
            return {name: getattr(part, name) for name in _field_names(type(part))}
        return dict(vars(part))
    try:
        converted = _convert(part)
    except TypeError:
        try:
            orjson.dumps(part, option=_DUMP)
        except TypeError:
            return None
        return _LEAF  # orjson's own: a date, a UUID, a Fragment
    if isinstance(converted, (dict, list)):
        return converted
    return [converted] if isinstance(converted, float) else _LEAF


def _below(members: Any, path: str) -> Iterator[tuple[Any, str]]:
    if isinstance(members, dict):
        for key, member in members.items():
            yield member, key_path(path, key)
    else:
        for index, member in enumerate(members):
            yield member, f"{path}[{index}]"


def _key_problem(members: dict[Any, Any], path: str) -> tuple[str | None, str]:
    for key in members:
        if isinstance(key, (str, int)):
            reason = _scalar_problem(key)
            if reason is not None:
                return f"a key is {reason}", path
        elif not isinstance(key, _KEYS) and key is not None:
            return f"the key {short(key)} has no JSON form", path
    return None, path


_KEYS = (float, Enum, datetime.datetime, datetime.date, datetime.time, uuid.UUID)


def _scalar_problem(part: int | str) -> str | None:
    if isinstance(part, int):
        inside = -(1 << 63) <= part < 1 << 64
        return None if inside else "an integer of more than 64 bits (send it as text)"
    try:
        part.encode()
    except UnicodeEncodeError:
        return "text with a lone surrogate, which is not Unicode"
    return None


def key_path(path: str, key: Any) -> str:
    """Return the path of a member: ``$.a`` or ``$['a b']``."""
    text = key if isinstance(key, str) else str(key)
    if text.isidentifier():
        return f"{path}.{text}"
    return f"{path}[{text[:60]!a}]"


def bounded_path(path: str) -> str:
    """Return a path that fits an error message."""
    return path if len(path) <= 200 else f"{path[:90]}...{path[-90:]}"
