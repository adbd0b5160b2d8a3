"""Parsing Python source."""

from __future__ import annotations

import ast
import threading

_ATTEMPTS = 5
_parsing = threading.Lock()


def parse(source: bytes | str, path: str = "<unknown>") -> ast.Module:
    """Return the syntax tree, as `ast.parse` does.

    Some patch releases of Python 3.11 and 3.12 count the depth of all trees under way together:
    where another thread, or the garbage collector, builds one meanwhile they raise SystemError
    for source that is fine (python/cpython#106905). So it is tried again, one thread at a time.

    Raises: SyntaxError, ValueError, RecursionError.
    """
    with _parsing:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return ast.parse(source, path)
            except SystemError as exc:
                if attempt == _ATTEMPTS:
                    raise ValueError(f"{path} cannot be parsed: {exc}") from exc
    raise AssertionError("unreachable")
