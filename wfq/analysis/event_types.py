"""What a workflow expects as the data of its events, where its source says so.

The API has no type for them; but who writes ``said: Approval = yield
ctx.wait_for_external_event("approved")`` has named one.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from wfq.analysis.parsing import parse
from wfq.analysis.syntax import FunctionNode, first_line


def event_types(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotated type of each event's data, by the event's name as it is written.

    Empty where the source cannot be read.
    """
    plain = inspect.unwrap(function)
    code = getattr(plain, "__code__", None)
    if code is None:
        return {}
    names = {**getattr(plain, "__globals__", {})}
    try:
        names |= inspect.getclosurevars(plain).nonlocals
        module = parse(Path(code.co_filename).read_bytes(), code.co_filename)
    except (OSError, SyntaxError, TypeError, ValueError, RecursionError):
        return {}
    for node in ast.walk(module):
        line = code.co_firstlineno
        if isinstance(node, FunctionNode) and line in (node.lineno, first_line(node)):
            return dict(_annotated(node, names))
    return {}


def _annotated(function: ast.AST, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for node in ast.walk(function):
        if not isinstance(node, ast.AnnAssign):
            continue
        name = _event_of(node.value)
        if name is None:
            continue
        try:
            yield name, _looked_up(node.annotation, names)
        except Exception:  # whatever looking up a name may raise: then its type is not known
            continue


def _event_of(node: ast.expr | None) -> str | None:
    """The event that a ``yield`` or an ``await`` waits for; None for anything else."""
    if not isinstance(node, ast.Yield | ast.Await) or not isinstance(node.value, ast.Call):
        return None
    call = node.value
    if not isinstance(call.func, ast.Attribute) or call.func.attr != "wait_for_external_event":
        return None
    given = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "name")]
    if given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
        return given[0].value
    return None


def _looked_up(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """What an annotation of names stands for. Raises: ValueError where it is more than names.

    And whatever looking up a name, an attribute or an item may raise.
    """
    match node:
        case ast.Constant(value=str(text)):
            return _looked_up(ast.parse(text, mode="eval").body, names)
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names[name] if name in names else getattr(builtins, name)
        case ast.Attribute(value=owner, attr=name):
            return getattr(_looked_up(owner, names), name)
        case ast.Subscript(value=owner, slice=index):
            return _looked_up(owner, names)[_looked_up(index, names)]
        case ast.Tuple(elts=parts):
            return tuple(_looked_up(part, names) for part in parts)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _looked_up(left, names) | _looked_up(right, names)
    raise ValueError("an annotation that would have to be run")
