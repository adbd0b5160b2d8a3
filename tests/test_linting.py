"""What `wfq dev` warns of: calls in workflow code that a replay cannot repeat."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from wfq.linting import Finding, lint_functions

SOURCE = """
import asyncio, os, time as clock, uuid
import datetime as dt
import random
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
    order.time()
    ctx.random.shuffle([1])
    dt.datetime(2030, 1, 1)
    dt.timedelta(seconds=1)
    clock.gmtime(0)
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
        ("print(f'{uuid.uuid4()}')", "uuid.uuid4", "ctx.new_uuid()"),
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

    assert (found.path, found.line) == (str(tmp_path / "linted.py"), 16)
    assert found.what == f"workflow 'bad' calls {name}(), which a replay cannot repeat"
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
