"""Finds what workflow code must not do: read a clock, draw random numbers, wait, do I/O.

Such a call gives another answer in each replay. Names are resolved through the imports of the
module, and only the functions that are workflows are looked at, with what is nested in them.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TIME = "use ctx.current_utc_datetime"
_RANDOM = "use ctx.random"
_UUID = "use ctx.new_uuid()"
_SLEEP = "yield ctx.create_timer(...)"
_ACTIVITY = "move it to an activity"

#: What a call is by its full name, and what to do instead. A name that ends with a dot stands
#: for all below it; the longest name that fits decides.
REMEDIES: Mapping[str, str] = {
    "time.": _TIME,
    "time.sleep": _SLEEP,
    "time.strftime": "",
    "time.strptime": "",
    "datetime.datetime.now": _TIME,
    "datetime.datetime.today": _TIME,
    "datetime.datetime.utcnow": _TIME,
    "datetime.date.today": _TIME,
    "random.": _RANDOM,
    "random.Random": "",
    "numpy.random.": _RANDOM,
    "secrets.": _RANDOM,
    "os.urandom": _RANDOM,
    "uuid.uuid1": _UUID,
    "uuid.uuid4": _UUID,
    "uuid.uuid7": _UUID,
    "asyncio.sleep": "await ctx.create_timer(...)",
    "asyncio.gather": "await wf.when_all(...)",
    "asyncio.wait": "await wf.when_any(...)",
    "asyncio.wait_for": "use the timeout= of the task, or when_any with a timer",
    "asyncio.create_task": "call ctx.call_activity(...), which runs at once",
    "asyncio.to_thread": _ACTIVITY,
    "threading.": _ACTIVITY,
    "subprocess.": _ACTIVITY,
    "socket.": _ACTIVITY,
    "requests.": _ACTIVITY,
    "httpx.": _ACTIVITY,
    "aiohttp.": _ACTIVITY,
    "urllib.request.": _ACTIVITY,
    "redis.": _ACTIVITY,
    "sqlite3.": _ACTIVITY,
    "os.getenv": "pass it in the input",
    "os.environ.": "pass it in the input",
    "os.system": _ACTIVITY,
    "open": _ACTIVITY,
    "input": "wait with ctx.wait_for_external_event(...)",
}

#: What reads the clock only when it is called without arguments.
_FIXED_BY_ARGUMENTS = frozenset(("time.gmtime", "time.localtime", "time.ctime", "time.asctime"))


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One call in workflow code that replays cannot repeat. `line` counts from 1."""

    path: str
    line: int
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}; {self.remedy}"


def lint_functions(functions: Iterable[Callable[..., Any]]) -> list[Finding]:
    """Return what workflow functions do that replays cannot repeat, by file and line.

    Functions whose source cannot be found or read are passed over.
    """
    places: dict[str, set[int]] = {}
    for function in functions:
        plain = inspect.unwrap(function)
        code = getattr(plain, "__code__", None)
        if code is not None:
            places.setdefault(code.co_filename, set()).add(code.co_firstlineno)
    findings: set[Finding] = set()
    for path, lines in places.items():
        try:
            findings.update(lint_source(Path(path).read_bytes(), path, lines))
        except (OSError, SyntaxError, ValueError, RecursionError):
            # The code runs all the same: what cannot be read cannot be judged.
            continue
    return sorted(findings)


def lint_source(source: bytes | str, path: str, lines: Iterable[int]) -> Iterator[Finding]:
    """Yield what is found in the functions that begin at `lines`, decorators included.

    Raises: SyntaxError, ValueError.
    """
    module = ast.parse(source, path)
    wanted = set(lines)
    names = dict(_imported(ast.walk(module)))
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first in wanted:
                yield from _in_function(node, path, _visible(names, node))


def _in_function(
    function: ast.FunctionDef | ast.AsyncFunctionDef, path: str, names: Mapping[str, str]
) -> Iterator[Finding]:
    for statement in function.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                name = _full_name(node.func, names)
                remedy = _remedy(name, node) if name else None
                if remedy:
                    what = (
                        f"workflow {function.name!r} calls {name}(), which a replay cannot repeat"
                    )
                    yield Finding(path, node.lineno, what, remedy)


def _imported(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """Yield the names that imports bind, each with the full name of what it is."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    yield alias.asname, alias.name
                else:
                    top = alias.name.partition(".")[0]
                    yield top, top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _visible(names: Mapping[str, str], function: ast.AST) -> dict[str, str]:
    """Return the imported names that nothing in a function hides: parameters, assignments."""
    bound = {
        node.arg if isinstance(node, ast.arg) else node.id
        for node in ast.walk(function)
        if isinstance(node, ast.arg)
        or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    }
    # Builtins are names that nothing imports.
    builtin = {name: name for name in REMEDIES if "." not in name}
    return {name: full for name, full in {**builtin, **names}.items() if name not in bound}


def _full_name(node: ast.expr, names: Mapping[str, str]) -> str | None:
    """Return the dotted name of what is called, None when it is not one that was imported."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return None
    return ".".join([names[node.id], *reversed(parts)])


def _remedy(name: str, call: ast.Call) -> str | None:
    if name in _FIXED_BY_ARGUMENTS and call.args:
        return None
    if name in REMEDIES:
        return REMEDIES[name] or None
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        if remedy := REMEDIES.get(".".join(parts[:end]) + "."):
            return remedy
    return None
