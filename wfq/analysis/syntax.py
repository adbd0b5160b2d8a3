"""Small questions to the syntax tree of workflow code."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from wfq.analysis.wording import duration_text, source_text

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_GROUPS = {"when_all": "all", "when_any": "any"}


def first_line(function: FunctionNode) -> int:
    """Return the line at which a function begins, decorators included."""
    return min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])


def awaited_names(function: FunctionNode) -> Iterator[str]:
    """Names in what is awaited, or given to when_all and when_any."""
    for node in ast.walk(function):
        waits = isinstance(node, ast.Yield | ast.Await | ast.YieldFrom)
        if waits or (isinstance(node, ast.Call) and group_mode(node) is not None):
            yield from (part.id for part in ast.walk(node) if isinstance(part, ast.Name))


def held_by(node: ast.stmt) -> Iterator[str]:
    """Names that a statement binds, or stores into: ``a =``, ``a[k] =``, ``a.append(...)``."""
    targets: Iterable[ast.expr] = ()
    match node:
        case ast.Assign():
            targets = node.targets
        case ast.AugAssign() | ast.AnnAssign():
            targets = [node.target]
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.expr() as owner))):
            targets = [owner]
        case _:
            pass
    for target in targets:
        yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))


def group_mode(call: ast.Call) -> str | None:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else None
    return _GROUPS.get(function.id if isinstance(function, ast.Name) else name or "")


def arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(word.value for word in call.keywords)]


def in_order(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node in the order of evaluation: what is assigned comes before its target."""
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value is not None:
        yield node.value
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from targets
    else:
        yield from ast.iter_child_nodes(node)


def options_text(options: Mapping[str, ast.expr]) -> str:
    told = []
    if "retry_policy" in options:
        told.append("with retries")
    if "timeout" in options:
        told.append(f"at most {duration_text(options['timeout'])}")
    if "queue" in options or "app_id" in options:
        told.append(f"on {source_text(options.get('queue') or options['app_id'])}")
    return ", ".join(told)
