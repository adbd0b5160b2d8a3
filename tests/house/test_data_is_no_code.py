"""What is stored or received never becomes code: no pickling, no evaluation, no import by a name
that came from outside."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.servers import ROOT

UNSAFE = {"cPickle", "cloudpickle", "dill", "jsonpickle", "marshal", "pickle", "shelve"}
#: Where a name is imported or text evaluated, and whose it is.
KNOWN = {
    ("wfq/__init__.py", "import_module"): "wfq's own names",
    ("wfq/testing/__init__.py", "import_module"): "wfq's own names",
    ("wfq/signatures.py", "eval"): "annotations of the user's functions",
    ("wfq/apps.py", "import_module"): "the app that the command line names",
    ("cli/wfq_cli/app.py", "import_module"): "wfq's own commands",
    ("workers/wfq_workers/activities/child.py", "import_module"): "where the worker found it",
    ("cli/wfq_cli/reload.py", "compile"): "looks for syntax errors, runs nothing",
}  # fmt: skip
CALLS = {"__import__", "compile", "eval", "exec", "import_module"}


def sources() -> list[Path]:
    folders = ("wfq", "workers/wfq_workers", "server/wfq_server", "cli/wfq_cli")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute) and function.attr == "import_module":
        return function.attr
    return ""


def test_nothing_is_unpickled() -> None:
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {(path.name, alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((path.name, node.module or ""))

    assert [item for item in found if item[1].split(".")[0] in UNSAFE] == []


def test_names_are_imported_and_text_evaluated_only_where_it_is_known_whose() -> None:
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and called(node) in CALLS:
                found.add((str(path.relative_to(ROOT)), called(node)))

    assert found == set(KNOWN)
