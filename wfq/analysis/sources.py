"""The source of a workflow function, found and read as a graph."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wfq.analysis.graph import Graph
from wfq.analysis.parsing import parse
from wfq.analysis.reading import Reader, Resolve, Shared
from wfq.analysis.syntax import FunctionNode, first_line


class NoSource(ValueError):
    """The source of a function cannot be found or read."""


def read_function(
    function: Callable[..., Any], name: str, refer: Callable[[Any], str | None] | None = None
) -> Graph:
    """Return the graph of a workflow function.

    refer: the registered name of an activity or workflow function, None for anything else; by
    default what a function is called in the source. Raises: NoSource.
    """
    plain = inspect.unwrap(function)
    code = getattr(plain, "__code__", None)
    if code is None:
        raise NoSource(f"workflow {name!r} is not a function with a source")
    names = {**getattr(plain, "__globals__", {}), **_closure(plain)}

    def resolve(node: ast.expr) -> str | None:
        found = _value_of(node, names)
        return refer(found) if refer is not None and callable(found) else None

    try:
        source = Path(code.co_filename).read_bytes()
        return read_source(source, code.co_filename, code.co_firstlineno, name, resolve)
    except (OSError, SyntaxError, ValueError, RecursionError) as exc:
        raise NoSource(f"the source of workflow {name!r} cannot be read: {exc}") from exc


def read_source(
    source: bytes | str, path: str, line: int, name: str, resolve: Resolve | None = None
) -> Graph:
    """Return the graph of the function that begins at `line`, decorators included.

    Raises: SyntaxError, ValueError.
    """
    module = parse(source, path)
    for node in ast.walk(module):
        if isinstance(node, FunctionNode) and line in (node.lineno, first_line(node)):
            return _graph(module, node, Path(path).name, name, resolve or (lambda _: None))
    raise ValueError(f"no function begins at line {line}")


def _graph(
    module: ast.Module, function: FunctionNode, file: str, name: str, resolve: Resolve
) -> Graph:
    functions = {node.name: node for node in module.body if isinstance(node, FunctionNode)}
    reader = Reader(Shared(functions, resolve), function, 0)
    about = (ast.get_docstring(function) or "").strip().partition("\n")[0]
    return Graph(name, tuple(reader.block(function.body)), about[:200], file, function.lineno)


def _closure(function: Any) -> dict[str, Any]:
    try:
        return dict(inspect.getclosurevars(function).nonlocals)
    except (TypeError, ValueError):
        return {}


def _value_of(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """What a name, or a module's attribute, stands for; None when that needs a run."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and inspect.ismodule(owner := _value_of(node.value, names)):
        return getattr(owner, node.attr, None)
    return None
