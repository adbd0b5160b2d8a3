"""What `wfq dev` warns of: calls in workflow code that a replay cannot repeat."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.servers import ROOT
from wfq.analysis.linting import Finding, lint_functions, lint_source
from wfq.analysis.parsing import parse
from wfq.analysis.syntax import FunctionNode, first_line

SOURCE = """
import asyncio, os, time as clock, uuid
import datetime as dt
import random
import random as chance
from datetime import datetime, timezone
from time import sleep as nap, time


def plain(function):
    return function


@plain
@plain
def bad(ctx, order):
    {call}
    yield


def good(ctx, order):
    def later(time):
        return time()

    random = ctx.random
    random.choice([1, 2])
    order.print("x")
    environ = order["environ"]
    environ["x"]
    order.time()
    ctx.random.shuffle([1])
    dt.datetime(2030, 1, 1)
    dt.timedelta(seconds=1)
    clock.gmtime(0)
    chance.Random(order).random()
    uuid.uuid5(uuid.NAMESPACE_DNS, "x")
    yield


def activity(ctx, order):
    return time()
"""


def load(path: Path, source: str) -> ModuleType:
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("linted", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("call", "name", "remedy"),
    [
        ("time()", "time.time", "ctx.current_utc_datetime"),
        ("clock.monotonic()", "time.monotonic", "ctx.current_utc_datetime"),
        ("clock.gmtime()", "time.gmtime", "ctx.current_utc_datetime"),
        ("nap(5)", "time.sleep", "ctx.create_timer"),
        ("datetime.now(timezone.utc)", "datetime.datetime.now", "ctx.current_utc_datetime"),
        ("dt.datetime.utcnow()", "datetime.datetime.utcnow", "ctx.current_utc_datetime"),
        ("dt.date.today()", "datetime.date.today", "ctx.current_utc_datetime"),
        ("random.choice([1])", "random.choice", "ctx.random"),
        ("order(f'{uuid.uuid4()}')", "uuid.uuid4", "ctx.new_uuid()"),
        ("random.Random().random()", "random.Random", "ctx.random"),
        ("dice = random.Random()", "random.Random", "ctx.random"),
        ("random.SystemRandom().random()", "random.SystemRandom", "ctx.random"),
        ("import numpy; numpy.random.default_rng()", "numpy.random.default_rng", "ctx.random"),
        ("os.getenv('REGION', 'eu')", "os.getenv", "input"),
        ("os.urandom(8)", "os.urandom", "ctx.random"),
        ("import requests; requests.get('http://x')", "requests.get", "activity"),
        ("[open(n) for n in order]", "open", "activity"),
        ("asyncio.sleep(1)", "asyncio.sleep", "ctx.create_timer"),
    ],
)
def test_a_call_is_named_with_its_line_and_remedy(
    tmp_path: Path, call: str, name: str, remedy: str
) -> None:
    module = load(tmp_path / "linted.py", SOURCE.replace("{call}", call))

    (found,) = lint_functions([module.bad])

    assert (found.path, found.line) == (str(tmp_path / "linted.py"), 17)
    assert found.what == f"workflow 'bad' calls {name}(), which a replay cannot repeat"
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("line", "what", "remedy"),
    [
        ("print('begins')", "calls print(), which every replay does again", "ctx.logger"),
        ("import sys; sys.stdout.write('x')", "calls sys.stdout.write(), which", "ctx.logger"),
        ("order(os.environ['REGION'])", "reads os.environ, which differs between", "input"),
        ("os.environ.get('REGION')", "reads os.environ, which differs between", "input"),
        ("from os import environ; 'X' in environ", "reads os.environ", "input"),
        ("import sys; sys.argv[1]", "reads sys.argv, which differs between", "input"),
    ],
)
def test_output_and_the_environment_are_found(
    tmp_path: Path, line: str, what: str, remedy: str
) -> None:
    module = load(tmp_path / "linted.py", SOURCE.replace("{call}", line))

    (found,) = lint_functions([module.bad])

    assert found.line == 17
    assert found.what.startswith(f"workflow 'bad' {what}")
    assert remedy in found.remedy


def test_names_that_mean_something_else_and_other_functions_are_left_alone(tmp_path: Path) -> None:
    module = load(tmp_path / "linted.py", SOURCE.replace("{call}", "time()"))

    assert lint_functions([module.good]) == []


def test_what_has_no_source_is_passed_over() -> None:
    namespace: dict[str, object] = {}
    exec("def made(ctx): open('x')", namespace)

    assert lint_functions([namespace["made"], len]) == []  # type: ignore[list-item]  # on purpose


def test_a_finding_is_one_line() -> None:
    finding = Finding("app.py", 7, "workflow 'w' calls time.time()", "use ctx")

    assert str(finding) == "app.py:7: workflow 'w' calls time.time(); use ctx"


SHAPES = """
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import wfq as wf


def plain(function):
    return function


def helper(ctx):
    return hash("x")


@plain
def bad(ctx, order):
    names = {"b", "a"}
    {line}
    yield


@plain
async def worse(ctx, order):
    wf.when_all([ctx.call_activity("a")])


@plain
def good(ctx, order):
    names = {"b", "a"}
    both = wf.when_all([ctx.call_activity("a")])
    yield both
    yield wf.when_any([ctx.create_timer(timedelta(days=1))])
    ctx.call_activity("runs all the same")
    names = names | {"c"}
    if "a" in names and len(names) > 1:
        yield from (ctx.call_activity(name) for name in sorted(names))
    rows = {"a": 1}
    rows.pop("a")
    for row in rows:
        yield ctx.call_activity(row)
    return max(name for name in names)
"""


@pytest.mark.parametrize(
    ("line", "what", "remedy"),
    [
        ("for name in names: pass", "goes through a set", "sorted(...)"),
        ("[n for n in set(order)]", "goes through a set", "sorted(...)"),
        ("tuple(names - {'a'})", "goes through a set", "sorted(...)"),
        ("','.join(names)", "goes through a set", "sorted(...)"),
        ("names.pop()", "goes through a set", "sorted(...)"),
        ("wf.when_all([ctx.call_activity('a')])", "does not wait for its when_all", "yield it"),
        ("both = wf.when_any([])", "does not wait for its when_any", "yield it"),
        ("return wf.when_all([])", "does not wait for its when_all", "yield it"),
        ("ctx.create_timer(timedelta(1))", "does not wait for its create_timer", "yield it"),
        ("threading.Thread(target=print).start()", "calls threading.Thread()", "activity"),
        ("ThreadPoolExecutor()", "calls concurrent.futures.ThreadPoolExecutor()", "activity"),
        ("Path('x').read_text()", "calls pathlib.Path().read_text()", "activity"),
    ],
)
def test_sets_threads_files_and_what_nobody_waits_for_are_found(
    tmp_path: Path, line: str, what: str, remedy: str
) -> None:
    module = load(tmp_path / "linted.py", SHAPES.replace("{line}", line))

    (found,) = lint_functions([module.bad])

    assert found.line == 21
    assert found.what.startswith(f"workflow 'bad' {what}")
    assert remedy in found.remedy


def test_what_a_workflow_calls_in_its_module_is_looked_at(tmp_path: Path) -> None:
    module = load(tmp_path / "linted.py", SHAPES.replace("{line}", "helper(ctx)"))

    (found,) = lint_functions([module.bad])

    assert found.line == 15
    assert found.what.startswith("'helper', which a workflow calls, calls hash()")
    assert "hashlib" in found.remedy


def test_in_async_workflows_it_is_await(tmp_path: Path) -> None:
    module = load(tmp_path / "linted.py", SHAPES.replace("{line}", "pass"))

    (found,) = lint_functions([module.worse])

    assert found.remedy == "await it"


def test_good_code_has_no_findings(tmp_path: Path) -> None:
    module = load(tmp_path / "linted.py", SHAPES.replace("{line}", "pass"))

    assert lint_functions([module.good, module.bad]) == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem
)
def test_the_examples_have_nothing_to_find(path: Path) -> None:
    source = path.read_bytes()
    functions = [node for node in ast.walk(parse(source)) if isinstance(node, FunctionNode)]
    workflows = [one for one in functions if one.args.args and one.args.args[0].arg == "ctx"]

    found = list(lint_source(source, path.name, map(first_line, workflows)))

    assert found == []
