"""The table of faults names tests, and they exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.markdown import DOCS
from tests.servers import ROOT

PAGES = (DOCS / "faults.md", DOCS / "reliability.md")
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@cache
def names_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_named_test_exists(page: Path) -> None:
    missing = []
    for file, name in NAMED.findall(page.read_text(encoding="utf-8")):
        path = ROOT / file
        if not path.is_file() or (name and name not in names_in(path)):
            missing.append(f"{file}::{name}")

    assert missing == []


@pytest.mark.parametrize(("heading", "count"), [("Faults", 50), ("Interleavings", 15)])
def test_every_row_has_a_test_or_says_why_not(heading: str, count: int) -> None:
    text = PAGES[0].read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")][1:]

    assert [int(row[0]) for row in rows] == list(range(1, count + 1))
    for row in rows:
        told = NAMED.search(row[-1]) or "scaling.md" in row[-1] or "same test" in row[-1]
        assert told, f"row {row[0]} names no test"
