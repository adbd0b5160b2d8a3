"""Source as short text for pictures."""

from __future__ import annotations

import ast
from collections.abc import Mapping

#: Characters of source that a picture shows.
_SHOWN = 44
#: The arguments of timedelta, as people say them.
_UNITS: Mapping[str, str] = {
    "weeks": "weeks",
    "days": "d",
    "hours": "h",
    "minutes": "min",
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "us",
}


def source_text(node: ast.AST | None) -> str:
    """Return the source of an expression on one line, cut where it is long."""
    if node is None:
        return ""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def duration_text(node: ast.expr | None) -> str:
    """Return a duration or time as people say it: ``24 h``, else its source."""
    if node is None:
        return ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        # `ctx.current_utc_datetime + timedelta(...)`: so long from then.
        for base, added in ((node.left, node.right), (node.right, node.left)):
            if isinstance(base, ast.Attribute) and base.attr == "current_utc_datetime":
                return duration_text(added)
    if isinstance(node, ast.Call) and _called(node) == "timedelta":
        words = [(word.arg or "", source_text(word.value)) for word in node.keywords]
        words += [("days", source_text(argument)) for argument in node.args[:1]]
        if words and len(node.args) < 2 and all(unit in _UNITS for unit, _ in words):
            return " ".join(f"{number} {_UNITS[unit]}" for unit, number in words)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return f"{node.value:g} s"
    return source_text(node)


def _called(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
