"""run.py: what a fresh clone is started with, before anything is installed."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.servers import ROOT

RUN = ROOT / "run.py"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, working on a directory of its own, with an installer that only notes."""
    spec = importlib.util.spec_from_file_location("wfq_run", RUN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text("")
    (tmp_path / ".venv").mkdir()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "CONSTRAINTS", tmp_path / "constraints.txt")
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "wfq-installed")
    monkeypatch.setattr(module, "works", lambda python: True)
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    module.__dict__["really_with_pip"] = module.with_pip
    monkeypatch.setattr(module, "with_pip", installs.append)
    installs.clear()
    return module


#: Whether each installation made the environment anew.
installs: list[bool] = []


def started(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run run.py as a program after some code."""
    program = f"import runpy, sys; sys.argv = sys.argv[1:]; {code}; "
    program += "runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", program, RUN, *arguments],
        capture_output=True,
        text=True,
        env={},
    )


def test_any_python_3_gets_as_far_as_the_message() -> None:
    ast.parse(RUN.read_text(encoding="utf-8"), feature_version=(3, 6))

    ended = started("sys.version_info = (3, 10, 13, 'final', 0)", "test")

    assert ended.returncode == 1
    assert ended.stderr.startswith("run.py: wfq needs Python 3.11 or newer; this is ")
    assert ended.stderr.count("\n") == 1


def test_it_needs_the_standard_library_only() -> None:
    tree = ast.parse(RUN.read_text(encoding="utf-8"))
    names = {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    names |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}

    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_an_unknown_command_is_one_line_and_status_2() -> None:
    ended = started("pass", "tset")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "run.py: no command 'tset'; see python3 run.py help\n"


def test_the_help_names_every_command(run: ModuleType) -> None:
    for command in run.TASKS:
        assert f"\n  {command} " in run.USAGE


def test_it_installs_when_what_it_installs_from_has_changed(run: ModuleType) -> None:
    run.STAMP.write_text(run.fingerprint())
    run.prepare()
    assert installs == []

    run.CONSTRAINTS.write_text("redis==9\n")
    run.prepare()
    run.prepare()

    assert installs == [False]


def test_an_environment_of_ours_for_another_python_is_made_anew(run: ModuleType) -> None:
    run.STAMP.write_text("cpython 2.7\nabc")

    run.prepare()

    assert installs == [True]


def test_an_environment_that_someone_else_made_is_kept(run: ModuleType) -> None:
    run.prepare()

    assert installs == [False]
    assert run.STAMP.read_text() == run.fingerprint()


def test_a_python_without_ensurepip_is_one_clear_line(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)

    with pytest.raises(SystemExit, match="no ensurepip; apt-get install python3-venv"):
        run.really_with_pip(fresh=True)
