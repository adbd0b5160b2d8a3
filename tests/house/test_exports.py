"""What modules say they export."""

from __future__ import annotations

import ast

import pytest

from tests.house.sources import modules


def exported(module: str) -> list[str] | None:
    """Return a module's `__all__` as written, or None where it has none."""
    for node in ast.parse(modules()[module].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
                names: list[str] = list(ast.literal_eval(node.value))
                return names
    return None


WITH_ALL = [module for module in modules() if exported(module) is not None]


@pytest.mark.parametrize("module", WITH_ALL)
def test_all_is_sorted_and_says_nothing_twice(module: str) -> None:
    names = exported(module) or []

    assert names == sorted(set(names))


@pytest.mark.parametrize("module", WITH_ALL)
def test_what_is_exported_exists(module: str) -> None:
    found = __import__(module, fromlist=["*"])

    assert [name for name in exported(module) or [] if not hasattr(found, name)] == []
