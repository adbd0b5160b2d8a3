"""Payloads: values of user code as JSON, and back by annotation.

Encoding takes a snapshot: scalars pass through as they are, everything else becomes an
`orjson.Fragment` that is embedded in records without being looked at again. What JSON cannot
say (see `jsonform`) is refused with the path of the offending part, never changed in silence.

Decoding without an annotation gives plain JSON values. With one, a pydantic TypeAdapter that
was built at registration validates it.
"""

from __future__ import annotations

import base64
import functools
import inspect
import math
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import orjson

from wfq.core.events import Payload
from wfq.core.ports import Decoder
from wfq.errors import PayloadError, PayloadLocked, PayloadTooLarge
from wfq.jsonform import bounded_path, key_path, write_json
from wfq.typeddicts import prepare

if TYPE_CHECKING:
    from pydantic import TypeAdapter

#: Bytes of one encoded value. Larger ones belong into a store of their own.
MAX_BYTES = 1024 * 1024
#: Characters up to which an ASCII string is passed on without being measured as JSON.
_SHORT_STRING = 1_000
#: Begins a payload that a PayloadCodec has transformed.
_MARK = "wfq+codec:"

_SCALARS = frozenset((type(None), bool, int, float, str))


def is_transformed(payload: Payload) -> bool:
    """Whether a payload is what a PayloadCodec made of it: unreadable without that."""
    return type(payload) is str and payload.startswith(_MARK)


class PayloadCodec(Protocol):
    """Transforms encoded payloads on their way into Redis, to encrypt or compress them.

    ``decode(encode(data)) == data`` for ever: histories hold what `encode` once made.
    """

    def encode(self, data: bytes) -> bytes: ...

    def decode(self, data: bytes) -> bytes: ...


class Codec:
    """Encodes and decodes payloads. Without state but its options; safe to share."""

    def __init__(
        self, *, max_bytes: int = MAX_BYTES, transform: PayloadCodec | None = None
    ) -> None:
        self._max_bytes = max_bytes
        self._transform = transform

    def encode(self, value: Any, what: str, name: str) -> Payload:
        """Return a snapshot of `value` for embedding in a record.

        `what` and `name` begin an error's message: ``input of activity 'charge'``; the name
        may be empty.
        Raises: PayloadError with the path of what cannot be encoded; PayloadTooLarge.
        """
        if self._transform is None:
            kind = type(value)
            if value is None or kind is bool:
                return value
            if kind is str and len(value) <= _SHORT_STRING and value.isascii():
                return value
            if kind is int and -0x8000_0000_0000_0000 <= value <= 0xFFFF_FFFF_FFFF_FFFF:
                return value
            if kind is float and math.isfinite(value):
                return value
            return orjson.Fragment(self.to_json(value, what, name))
        if value is None:
            return None  # "no input" is written so, and nothing is given away
        data = self._transform.encode(self.to_json(value, what, name))
        return _MARK + base64.b64encode(data).decode("ascii")

    def to_json(self, value: Any, what: str, name: str) -> bytes:
        """Return `value` as JSON text. Raises: PayloadError, PayloadTooLarge."""
        try:
            data = write_json(value)
        except PayloadError as exc:
            raise PayloadError(f"{_subject(what, name)}: {exc}", exc.path) from exc.__cause__
        if len(data) > self._max_bytes:
            raise PayloadTooLarge(
                f"{_subject(what, name)}: {len(data)} bytes of JSON are over the limit of "
                f"{self._max_bytes}; store the data elsewhere and pass a reference"
            )
        return data

    def plain(self, payload: Payload) -> Any:
        """Return a payload as plain JSON values that belong to the caller alone.

        Raises: PayloadLocked when the PayloadCodec cannot transform it back.
        """
        kind = type(payload)
        if kind in _SCALARS:
            if kind is str and self._transform is not None and payload.startswith(_MARK):
                return orjson.loads(self._restore(payload))
            return payload
        # A copy: what user code does to it must not reach the record it came from.
        return orjson.loads(orjson.dumps(payload))

    def decoder(self, annotation: Any, what: str, name: str) -> Decoder:
        """Return what decodes payloads for a parameter or result of that annotation.

        No annotation, Any, None, and what pydantic has no schema for mean plain JSON. A null
        stays None whatever the annotation says: "no input" is passed to functions as None.
        """
        adapter = _adapter(annotation)
        if adapter is None:
            return self.plain
        exact = next((t for t in (int, str, bool, float) if annotation is t), None)
        transform, to_text = self._transform, self._text

        def decode(payload: Payload) -> Any:
            kind = type(payload)
            if payload is None or (kind is exact and transform is None):
                return payload
            text = to_text(payload)
            try:
                return adapter.validate_json(text)
            except Exception as exc:
                raise _misfit(exc, what, name) from exc

        return decode

    def _text(self, payload: Payload) -> bytes:
        if self._transform is not None and type(payload) is str and payload.startswith(_MARK):
            return self._restore(payload)
        return orjson.dumps(payload)

    def _restore(self, payload: str) -> bytes:
        assert self._transform is not None
        try:
            data = self._transform.decode(base64.b64decode(payload[len(_MARK) :], validate=True))
            orjson.loads(data)
        except PayloadLocked:
            raise
        except Exception as exc:  # a user's codec raises what it likes
            raise PayloadLocked(f"a payload cannot be transformed back: {exc!r:.200}") from exc
        return data


def _subject(what: str, name: str) -> str:
    return f"{what} {name!r}" if name else what


@functools.lru_cache(maxsize=4096)
def _cached_adapter(annotation: Any) -> TypeAdapter[Any] | None:
    # Imported here: it takes a tenth of a second, and most commands of the CLI decode nothing.
    from pydantic import TypeAdapter

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    except Exception as exc:  # pydantic raises half a dozen unrelated classes: "no schema"
        if getattr(exc, "code", "") != "typed-dict-version":
            return None
        try:
            prepare(annotation)
            adapter = TypeAdapter(annotation)
        except Exception:
            return None
    return adapter if adapter.pydantic_complete else None


_PLAIN = (None, type(None), Any, object, inspect.Parameter.empty)


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """Return the cached adapter of an annotation; None where it means plain JSON."""
    if any(annotation is plain for plain in _PLAIN) or isinstance(annotation, (str, TypeVar)):
        return None
    try:
        return _cached_adapter(annotation)
    except TypeError:  # unhashable metadata in Annotated
        return _cached_adapter.__wrapped__(annotation)


def _misfit(exc: Exception, what: str, name: str) -> PayloadError:
    """Return a pydantic error, or what a validator raised, as ours, in one line."""
    errors = getattr(exc, "errors", None)
    if errors is None:
        return PayloadError(
            f"{_subject(what, name)}: {type(exc).__name__} while decoding: {exc}"[:1000]
        )
    found = errors(include_url=False, include_context=False, include_input=False)
    first = found[0]
    path = "$"
    for part in first["loc"]:
        path = f"{path}[{part}]" if isinstance(part, int) else key_path(path, part)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    path = bounded_path(path)
    return PayloadError(f"{_subject(what, name)}: {first['msg'][:500]} at {path}{more}", path)
