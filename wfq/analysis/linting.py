"""Finds what workflow code must not do: read a clock, draw random numbers, wait, do I/O.

Such a call gives another answer in each replay, and so does the order of a set. Names are
resolved through the imports of the module. Looked at are the functions that are workflows, what
is nested in them, and the functions of the same module that they call.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wfq.analysis.parsing import parse
from wfq.analysis.syntax import FunctionNode, first_line

_TIME = "use ctx.current_utc_datetime"
_RANDOM = "use ctx.random"
_UUID = "use ctx.new_uuid()"
_SLEEP = "yield ctx.create_timer(...)"
_ACTIVITY = "move it to an activity"
_INPUT = "pass it in the input"

#: Methods of a path that touch the disk.
_PATH_METHODS = (
    "exists", "glob", "is_dir", "is_file", "iterdir", "mkdir", "open", "read_bytes", "read_text",
    "rename", "replace", "rglob", "rmdir", "stat", "touch", "unlink", "write_bytes", "write_text",
)  # fmt: skip

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
    "random.seed": "use ctx.random, which has a seed of the instance's own",
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
    "asyncio.run": "await in an async def workflow",
    "asyncio.open_connection": _ACTIVITY,
    "threading.": _ACTIVITY,
    "multiprocessing.": _ACTIVITY,
    "concurrent.futures.": _ACTIVITY,
    "queue.": _ACTIVITY,
    "subprocess.": _ACTIVITY,
    "socket.": _ACTIVITY,
    "requests.": _ACTIVITY,
    "httpx.": _ACTIVITY,
    "aiohttp.": _ACTIVITY,
    "urllib.request.": _ACTIVITY,
    "redis.": _ACTIVITY,
    "sqlite3.": _ACTIVITY,
    "os.getenv": _INPUT,
    "os.getcwd": _INPUT,
    "pathlib.Path.cwd": _INPUT,
    "pathlib.Path.home": _INPUT,
    "platform.": _INPUT,
    "os.system": _ACTIVITY,
    "os.popen": _ACTIVITY,
    "os.listdir": _ACTIVITY,
    "os.scandir": _ACTIVITY,
    "os.walk": _ACTIVITY,
    "os.stat": _ACTIVITY,
    "os.remove": _ACTIVITY,
    "os.unlink": _ACTIVITY,
    "os.rename": _ACTIVITY,
    "os.makedirs": _ACTIVITY,
    "os.mkdir": _ACTIVITY,
    "os.getpid": _ACTIVITY,
    "os.path.exists": _ACTIVITY,
    "os.path.isfile": _ACTIVITY,
    "os.path.isdir": _ACTIVITY,
    "os.path.getsize": _ACTIVITY,
    "os.path.getmtime": _ACTIVITY,
    "shutil.": _ACTIVITY,
    "tempfile.": _ACTIVITY,
    "glob.": _ACTIVITY,
    "io.open": _ACTIVITY,
    "smtplib.": _ACTIVITY,
    "psycopg.": _ACTIVITY,
    "psycopg2.": _ACTIVITY,
    "boto3.": _ACTIVITY,
    **{f"pathlib.Path().{name}": _ACTIVITY for name in _PATH_METHODS},
    "print": "use ctx.logger, which is silent in a replay",
    "sys.stdout.": "use ctx.logger, which is silent in a replay",
    "sys.stderr.": "use ctx.logger, which is silent in a replay",
    "hash": "use hashlib: the hash of a text differs between processes",
    "open": _ACTIVITY,
    "input": "wait with ctx.wait_for_external_event(...)",
}

#: What reads the clock, or draws its own seed, only when it is called without arguments.
_FIXED_BY_ARGUMENTS = frozenset(
    (
        "time.gmtime", "time.localtime", "time.ctime", "time.asctime",
        "random.Random", "numpy.random.default_rng", "numpy.random.RandomState",
    )
)  # fmt: skip
#: What is done again by each replay, unlike what each replay does otherwise.
_REPEATED = ("print", "sys.stdout.", "sys.stderr.")
#: Values that need no call to be read, and what each differs between.
_VALUES = {"os.environ": "workers", "sys.argv": "processes"}


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
    module = parse(source, path)
    wanted = set(lines)
    names = dict(_imported(ast.walk(module)))
    workflows = [
        node
        for node in ast.walk(module)
        if isinstance(node, FunctionNode) and first_line(node) in wanted
    ]
    for function in _with_callees(workflows, module):
        who = f"workflow {function.name!r}"
        if function not in workflows:
            who = f"{function.name!r}, which a workflow calls,"
        visible = _visible(names, function)
        for line, what, remedy in (
            *_in_function(function, visible),
            *_orders(function),
            *_dropped(function, visible),
        ):
            yield Finding(path, line, f"{who} {what}", remedy)


def _with_callees(workflows: list[FunctionNode], module: ast.Module) -> list[FunctionNode]:
    """Return workflows and the module's functions that they call: these run within a turn, too."""
    there = {node.name: node for node in module.body if isinstance(node, FunctionNode)}
    found = list(workflows)
    for function in found:
        for node in _body(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                callee = there.get(node.func.id)
                if callee is not None and callee not in found:
                    found.append(callee)
    return found


def _body(function: FunctionNode) -> Iterator[ast.AST]:
    for statement in function.body:
        yield from ast.walk(statement)


_OTHERWISE = "a replay cannot repeat"

#: A line, what is wrong there, and the remedy.
_Flaw = tuple[int, str, str]


def _in_function(function: FunctionNode, names: Mapping[str, str]) -> Iterator[_Flaw]:
    for node in _body(function):
        if isinstance(node, ast.Call):
            name = _full_name(node.func, names)
            remedy = _remedy(name, node) if name else None
            if name and remedy:
                why = "every replay does again" if name.startswith(_REPEATED) else _OTHERWISE
                yield node.lineno, f"calls {name}(), which {why}", remedy
        elif isinstance(node, ast.Attribute | ast.Name):
            value = _full_name(node, names)
            if value in _VALUES:
                what = f"reads {value}, which differs between {_VALUES[value]}"
                yield node.lineno, what, _INPUT


# -- the order of sets

#: What gives the same whatever the order of its argument.
_ORDERLESS = frozenset(
    ("all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum", "Counter")
)
_MAKERS = frozenset(("set", "frozenset"))
_SET_METHODS = frozenset(("union", "intersection", "difference", "symmetric_difference", "copy"))
#: What hands on the order of its argument.
_ORDERED = frozenset(("list", "tuple", "enumerate", "iter", "zip", "map", "filter", "join"))


def _orders(function: FunctionNode) -> Iterator[_Flaw]:
    """Yield where something goes through a set in its order."""
    sets = _set_names(function)
    calm: set[ast.AST] = set()
    for node in _body(function):
        if isinstance(node, ast.Call) and _called(node) in _ORDERLESS:
            calm.update(node.args)
    for node in _body(function):
        for gone_through in _iterated(node, calm):
            if _is_set(gone_through, sets):
                what = "goes through a set, whose order differs between processes"
                yield gone_through.lineno, what, "go through sorted(...)"


def _iterated(node: ast.AST, calm: set[ast.AST]) -> Iterator[ast.expr]:
    if isinstance(node, ast.For):
        yield node.iter
    elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp) and node not in calm:
        yield from (part.iter for part in node.generators)
    elif isinstance(node, ast.Call) and node not in calm:
        if _called(node) in _ORDERED:
            yield from node.args
        if isinstance(node.func, ast.Attribute) and node.func.attr == "pop" and not node.args:
            yield node.func.value
    elif isinstance(node, ast.Starred):
        yield node.value


def _called(node: ast.Call) -> str:
    func = node.func
    return func.id if isinstance(func, ast.Name) else getattr(func, "attr", "")


def _set_names(function: FunctionNode) -> set[str]:
    """Names that are bound to sets only."""
    bound: dict[str, bool] = {}
    for node in _body(function):
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                is_one = _is_set(value, {name for name, good in bound.items() if good})
                bound[target.id] = bound.get(target.id, True) and is_one
    return {name for name, good in bound.items() if good}


def _is_set(node: ast.expr, sets: set[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Name):
        return node.id in sets
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub):
        return _is_set(node.left, sets) or (
            not isinstance(node.op, ast.Sub) and _is_set(node.right, sets)
        )
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            return node.func.id in _MAKERS
        if isinstance(node.func, ast.Attribute) and node.func.attr in _SET_METHODS:
            return _is_set(node.func.value, sets)
    return False


# -- tasks that nobody waits for

_COMPOSITES = frozenset(("when_all", "when_any"))
#: Methods of a context whose tasks do nothing unless somebody waits for them.
_WAITS = frozenset(("create_timer", "wait_for_external_event"))


def _dropped(function: FunctionNode, names: Mapping[str, str]) -> Iterator[_Flaw]:
    """Yield composites and waits that are made and never waited for."""
    verb = "await" if isinstance(function, ast.AsyncFunctionDef) else "yield"
    loaded = {
        node.id
        for node in _body(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    for node in _body(function):
        call: ast.expr | None = None
        if isinstance(node, ast.Expr | ast.Return):
            call = node.value
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
            if isinstance(target, ast.Name) and target.id not in loaded:
                call = node.value
        if not isinstance(call, ast.Call):
            continue
        name = _called(call)
        full = _full_name(call.func, names) or name
        waits = name in _WAITS and isinstance(call.func, ast.Attribute)
        if (name in _COMPOSITES and full.split(".")[0] in ("wfq", name)) or (
            waits and isinstance(node, ast.Expr)
        ):
            yield call.lineno, f"does not wait for its {name}(...)", f"{verb} it"


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
    while isinstance(node, ast.Attribute | ast.Call):
        if isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        else:
            # Of what a call returns, only the methods of a path are known.
            node = node.func
            inner = _full_name(node, names)
            return None if inner is None else ".".join([f"{inner}()", *reversed(parts)])
    if not isinstance(node, ast.Name) or node.id not in names:
        return None
    return ".".join([names[node.id], *reversed(parts)])


def _remedy(name: str, call: ast.Call) -> str | None:
    if name in _FIXED_BY_ARGUMENTS and call.args:
        return None
    if name in REMEDIES:
        return REMEDIES[name] or None
    if "()" in name:
        return None  # the call that made the object is found by itself
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        if remedy := REMEDIES.get(".".join(parts[:end]) + "."):
            return remedy
    return None
