"""What the guard tests look at: our modules, what they import, and the tracked files."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.servers import ROOT
from wfq.analysis.parsing import parse

#: Where each package stands.
PACKAGES = {
    "wfq": ROOT / "wfq",
    "wfq_workers": ROOT / "workers" / "wfq_workers",
    "wfq_cli": ROOT / "cli" / "wfq_cli",
    "wfq_server": ROOT / "server" / "wfq_server",
}


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's target module, and where and how it is made."""

    importer: str
    target: str
    line: int
    #: Inside a function: it happens when the function runs.
    late: bool
    #: Under `if TYPE_CHECKING:`: it never happens.
    typing: bool
    #: The comment on the line or the one above.
    comment: str


@cache
def modules() -> dict[str, Path]:
    """Return every module of ours by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            found[name] = path
    return found


@cache
def imports(module: str) -> tuple[Import, ...]:
    """Return all imports of a module, of ours and of others."""
    text = modules()[module].read_text(encoding="utf-8")
    lines = text.splitlines()
    found = []
    for node, late, typing in _walk(parse(text), False, False):
        above = lines[node.lineno - 2] if node.lineno > 1 else ""
        comment = lines[node.lineno - 1].partition("#")[2] or above.partition("#")[2]
        for target in _targets(module, node):
            found.append(Import(module, target, node.lineno, late, typing, comment.strip()))
    return tuple(found)


def _walk(
    node: ast.AST, late: bool, typing: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, late, typing
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _walk(child, True, typing)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for inner in child.body:
                yield from _walk(ast.Module([inner], []), late, True)
            for inner in child.orelse:
                yield from _walk(ast.Module([inner], []), late, typing)
        else:
            yield from _walk(child, late, typing)


def _targets(module: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        is_package = modules()[module].name == "__init__.py"
        package = module.split(".")[: None if is_package and node.level == 1 else -node.level]
        base = ".".join(filter(None, [*package, base]))
    for alias in node.names:
        inner = f"{base}.{alias.name}"
        yield inner if inner in modules() else base


@cache
def tracked() -> tuple[Path, ...]:
    """Return every file that git knows or would add; without git, every file of the project."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for folder in PACKAGES.values() for path in folder.rglob("*")]
        paths += [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    return tuple(path for path in paths if path.is_file())
