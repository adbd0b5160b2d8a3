"""Finding the program of a worker, and saying in one line why there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wfq as wf
from wfq.apps import load_app
from wfq.errors import ConfigurationError

WITH_RUNTIME = """
import wfq as wf
wfr = wf.WorkflowRuntime()

@wfr.workflow
def order(ctx: wf.WorkflowContext, n: int):
    yield ctx.call_activity(charge, input=n)

@wfr.activity
def charge(ctx, n: int) -> int:
    return n
"""

PLAIN = """
from dataclasses import dataclass
import json
from os.path import join
import wfq as wf

@dataclass
class Order:
    cost: float

def flow(ctx: wf.DaprWorkflowContext, order: Order):
    yield ctx.call_activity(charge, input=order)

async def other(ctx: "wf.WorkflowContext"):
    pass

def charge(ctx, order: Order): ...
def ship(order: Order): ...
def _third(_, order: Order) -> None: ...
def nothing(): ...
def three(a, b, c): ...
def stream(ctx, x):
    yield x
shape = lambda x: x
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of our own; what was imported from it is forgotten."""
    # Another test of this process may have loaded a file of that name.
    for name in ("shop", "app"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(app_target: str | None = None) -> tuple[set[str], set[str]]:
    registry = load_app(app_target).runtime.registry
    return {e.name for e in registry.workflows()}, {e.name for e in registry.activities()}


def test_the_runtime_of_a_file_is_found(place: Path) -> None:
    (place / "shop.py").write_text(WITH_RUNTIME)

    app = load_app("shop.py")

    assert app.runtime is app.module.wfr
    assert app.module.__name__ == "shop"
    assert names("shop.py") == ({"order"}, {"charge"})


def test_a_module_without_runtime_is_made_of_its_functions(place: Path) -> None:
    (place / "plain.py").write_text(PLAIN)

    assert names("plain.py") == ({"flow", "other"}, {"charge", "ship", "_third"})


@pytest.mark.parametrize("target", ["pkg.mod", "pkg/mod.py", "pkg.mod:second", "pkg/mod.py:second"])
def test_packages_and_names_are_found(place: Path, target: str) -> None:
    (place / "pkg").mkdir()
    (place / "pkg" / "__init__.py").write_text("")
    (place / "pkg" / "helper.py").write_text("VALUE = 1")
    second = "" if ":" not in target else "\nsecond = wf.WorkflowRuntime()\n"
    (place / "pkg" / "mod.py").write_text("from .helper import VALUE\n" + WITH_RUNTIME + second)

    app = load_app(target)

    assert app.module.__name__ == "pkg.mod"
    assert app.runtime is getattr(app.module, "second" if second else "wfr")


def test_a_file_elsewhere_finds_its_neighbours(place: Path) -> None:
    (place / "deep").mkdir()
    (place / "deep" / "neighbour_of_app.py").write_text("VALUE = 1")
    (place / "deep" / "an_app.py").write_text("import neighbour_of_app\n" + WITH_RUNTIME)

    assert load_app("deep/an_app.py").module.__name__ == "an_app"


def test_a_file_named_like_a_module_is_itself(place: Path) -> None:
    (place / "json.py").write_text(WITH_RUNTIME)
    (place / "my-app.py").write_text(WITH_RUNTIME)

    assert names("json.py") == names("my-app.py") == ({"order"}, {"charge"})


@pytest.mark.parametrize("name", ["app.py", "workflows.py", "main.py"])
def test_the_usual_files_are_found_without_being_named(place: Path, name: str) -> None:
    (place / name).write_text(WITH_RUNTIME)

    assert load_app().target == name


def test_settings_name_the_app(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "app.py").write_text("raise RuntimeError")
    (place / "shop.py").write_text(WITH_RUNTIME)
    (place / "pyproject.toml").write_text('[tool.wfq]\napp = "shop.py"\n')
    assert load_app().target == "shop.py"

    monkeypatch.setenv("WFQ_APP", "shop:wfr")
    assert load_app().target == "shop:wfr"


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (None, "gone.py", "no app file 'gone.py' in "),
        (None, "gone.mod", "no module 'gone' for the app 'gone.mod'"),
        (None, None, "no app: there is no app.py, workflows.py or main.py in "),
        (None, "what is this", "'what is this' is no app"),
        ("import wfq as wf\n", "shop.py", "no WorkflowRuntime, and no workflow function"),
        ("def f(:\n", "shop.py", "does not import: SyntaxError: "),
        ("import nowhere_at_all\n", "shop.py", "does not import: ModuleNotFoundError: No module"),
        ("\n1/0\n", "shop.py", "ZeroDivisionError: division by zero (PLACE/shop.py:2)"),
        ("raise SystemExit(3)\n", "shop.py", "does not import: SystemExit: 3"),
        ("raise ValueError('a\\nb')\n", "shop.py", "ValueError: a b"),
        (WITH_RUNTIME + "b = wf.WorkflowRuntime()", "shop.py", "shop.py:wfr or shop.py:b"),
        (WITH_RUNTIME, "shop.py:other", "the app 'shop.py:other' has no 'other'"),
        (WITH_RUNTIME, "shop.py:charge", "'shop.py:charge' is function, not a WorkflowRuntime"),
        (
            "import wfq as wf\ndef f(ctx: wf.WorkflowContext, a, b): ...\n",
            "shop.py",
            "must take (ctx) or (ctx, input)",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    place: Path, source: str | None, target: str | None, message: str
) -> None:
    if source is not None:
        (place / "shop.py").write_text(source)

    with pytest.raises(ConfigurationError) as caught:
        load_app(target)

    assert message.replace("PLACE", str(place)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_runtime_under_two_names_is_one(place: Path) -> None:
    (place / "shop.py").write_text(WITH_RUNTIME + "\nagain = wfr\n")

    assert isinstance(load_app("shop.py").runtime, wf.WorkflowRuntime)
