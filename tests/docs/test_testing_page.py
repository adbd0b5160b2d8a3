"""The page on testing: its programs are run by pytest, its commands by the `wfq` command."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.executed import Shown, on
from tests.docs.markdown import DOCS, Block
from tests.docs.terminal import Terminal
from tests.servers import clean_env, poll
from wfq.testing import Env, assert_replays, fuzz, write_history
from wfq.testing.director import FAULTS
from wfq.testing.fuzzing import __doc__ as fuzzing_says

PAGE = DOCS / "testing.md"

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

ASYNC = """
import asyncio

from test_shop import nothing_is_different_in_async_tests


def test_it_runs(wfq_env):
    asyncio.run(nothing_is_different_in_async_tests(wfq_env))
"""


def write(python: Sequence[Block], directory: Path) -> None:
    """Write the files that the page shows."""
    for block in python:
        file = re.match(r"# (\w+\.py)\n", block.text)
        assert file is not None, f"{block} has no name"
        (directory / file[1]).write_text(block.text)


@pytest.mark.slow
def test_its_tests_pass(shown: Shown, tmp_path: Path) -> None:
    write([shown.use(block) for block in shown.of()], tmp_path)
    installed = any(point.value == "wfq.pytest_plugin" for point in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "wfq.pytest_plugin"]
    # The coroutine that the page shows needs a plugin of the reader's own to be collected.
    (tmp_path / "test_async.py").write_text(ASYNC)
    count = PAGE.read_text().count("\ndef test_") + 1

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey",
         *plugin],
        cwd=tmp_path, env=clean_env(), capture_output=True, text=True,
    )  # fmt: skip

    assert f"{count} passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.slow
def test_its_commands_do_what_they_say(shown: Shown, terminal: Terminal) -> None:
    write(on(PAGE, "python"), terminal.directory)
    terminal.enter("wfq worker shop.py")
    terminal.enter("""wfq start purchase '{"item": "car", "cost": 5000}' --id order-7""")
    poll(lambda: "EventAwaited" in terminal.enter("wfq history order-7"), 30)

    said = "".join(terminal.run(shown.use(block)) for block in shown.of())

    assert said.count("order-7   purchase  fits") == 2
    assert "receipt = 'receipt for car'" in said
    assert "(Pdb)" in said
    assert "the same decisions" in said
    assert "activity 'charge' failed: no money" in said
    assert terminal.errors.count("1 history checked") == 2
    assert "1,000 runs" in terminal.errors


def test_its_failures_look_as_it_shows_them(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(on(PAGE, "python"), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("shop", "test_orders"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    misfit, lost = map(shown.use, shown.of())
    good = load(tmp_path, "", "")
    with Env(good.app) as env:
        order = env.start(good.purchase, good.Order("car", 5000), instance_id="order-7")
        write_history(order.saved, "tests/histories")

    audited = load(
        tmp_path, "    approval =", '    yield ctx.call_activity("audit")\n    approval ='
    )
    with pytest.raises(AssertionError) as replayed:
        assert_replays(audited.app, "tests/histories")
    careless = load(tmp_path, "        yield ctx.call_activity(refund, input=receipt)\n", "")
    check = importlib.import_module("test_orders").nothing_is_lost
    with pytest.raises(AssertionError) as fuzzed:
        fuzz(careless.purchase, careless.Order("car", 5000), events={"approval": "Ada"},
             activities={"charge": "receipt", "refund": None}, check=check)  # fmt: skip

    assert str(replayed.value).replace(f"{tmp_path}/", "") == misfit.text.rstrip()
    assert str(fuzzed.value).startswith(lost.text)


def load(directory: Path, old: str, new: str) -> ModuleType:
    """Import the page's shop.py with a change."""
    source = (directory / "shop.py").read_text()
    assert old in source
    (directory / "shop.py").write_text(source.replace(old, new))
    try:
        spec = importlib.util.spec_from_file_location("shop", directory / "shop.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["shop"] = module
        spec.loader.exec_module(module)
        return module
    finally:
        (directory / "shop.py").write_text(source)


def test_its_table_of_failures_is_that_of_the_code() -> None:
    table = PAGE.read_text().partition("| kind | when |")[2].partition("\n\n")[0]
    shown = re.findall(r"^\| `(\w+)`", table, re.M)

    assert fuzzing_says is not None
    assert shown == re.findall(r"^``(\w+)``", fuzzing_says, re.M)
    assert len(FAULTS) > 8
