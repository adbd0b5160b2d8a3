"""Every log line about an instance has the instance's id as a field of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.house.sources import modules

LEVELS = {"critical", "debug", "error", "exception", "info", "warning"}
#: What the arguments of a line are called that tells of one instance.
OF_ONE = {"attempt", "instance_id", "target"}


def calls(path: Path) -> Iterator[ast.Call]:
    """Yield the calls of `log` in a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
        ):
            yield node


def names(call: ast.Call) -> set[str]:
    """Return the names and attributes among the arguments of a line."""
    found = set()
    for argument in call.args[1:]:
        for node in ast.walk(argument):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
                if node.attr == "id":
                    found.add("instance_id")
    return found


def test_a_line_about_an_instance_has_its_id() -> None:
    lines = [(name, call) for name, path in modules().items() for call in calls(path)]
    about = [(name, call) for name, call in lines if names(call) & OF_ONE]
    lacking = [
        f"{name}:{call.lineno}"
        for name, call in about
        if "extra" not in {keyword.arg for keyword in call.keywords}
    ]

    assert len(about) > 10
    assert lacking == []
