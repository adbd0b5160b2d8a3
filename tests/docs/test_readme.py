"""Everything that the README shows, done as it is printed."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.docs.executed import README, Shown
from tests.docs.markdown import Block, blocks
from tests.docs.terminal import Terminal, matches
from tests.servers import ROOT, clean_env, poll

#: Lines that a newcomer reads.
SHORTEST, LONGEST = 120, 180


def of(*languages: str) -> list[Block]:
    return [block for block in blocks(README) if block.language in languages]


def program() -> str:
    """The file that the page's Python makes."""
    return "\n\n".join(block.text for block in of("python"))


def test_it_is_a_page_and_no_book() -> None:
    assert SHORTEST <= README.read_text().count("\n") <= LONGEST


def test_the_first_screen_says_what_it_is_and_how_to_try_it() -> None:
    screen = "\n".join(README.read_text().splitlines()[:22])

    for words in ("Durable workflows", "Redis", "run.py demo", "run.py test"):
        assert words in screen


@pytest.mark.long
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_set_up_commands_run_in_a_clone(shown: Shown) -> None:
    run = _run_py()
    if not run.STAMP.is_file() or run.STAMP.read_text() != run.fingerprint():
        pytest.skip("this environment is not the one that `python3 run.py test` makes")
    block, demo = map(shown.use, shown.of())

    done = subprocess.run(
        ["bash", "-e", "-c", block.text + "wfq --version"],
        cwd=ROOT,
        # All tests within one of them would never end: they are listed.
        env=clean_env({"PYTEST_ADDOPTS": "--collect-only -q -p no:cacheprovider"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Every pattern gave the right answer" in done.stdout + done.stderr
    for line in demo.text.splitlines():
        assert _without_figures(line.removesuffix("...")) in _without_figures(done.stdout)
    assert "test_the_set_up_commands_run_in_a_clone" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("wfq ")


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_its_commands_give_the_answers_that_it_promises(shown: Shown, terminal: Terminal) -> None:
    python = "\n\n".join(shown.use(block).text for block in shown.of("python"))
    (terminal.directory / "app.py").write_text(python)
    dev, verbs, curl = map(shown.use, shown.of("sh"))
    (answer,) = map(shown.use, shown.of("text"))

    terminal.run(dev)
    printed = terminal.run(verbs)

    # Lines that are left out are not marked one by one.
    excerpt = answer.text.strip().replace("\n", "\n...")
    assert matches(f'consent-7\n..."https://lectures.example/monads.mp4"\n{excerpt}', printed)
    accepted, status = terminal.run(curl).replace("}{", "}\n{").splitlines()[:2]
    assert json.loads(accepted) == {"instanceID": "consent-8"}
    assert json.loads(status)["runtimeStatus"] == "RUNNING"
    assert _output(terminal, "wfq wait consent-8") == "kept private"


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_its_other_workflows_run(terminal: Terminal) -> None:
    (terminal.directory / "app.py").write_text(program())
    terminal.run(of("sh")[1])

    assert _output(terminal, "wfq start transcribe 45 --wait") == sum(
        90 + n % 20 for n in range(45)
    )
    failed = _json(terminal, """wfq start release '"draft"' --wait -o json || test $? = 3""")
    assert failed["runtime_status"] == "FAILED"
    assert "not finished" in failed["failure_details"]["message"]
    (dev,) = terminal.services
    assert "deleting draft.mp4" in dev.log()
    terminal.enter("wfq start watch_disk --id disk")
    poll(lambda: _json(terminal, "wfq get disk -o json")["custom_status"] == "fine", 20)


def _without_figures(text: str) -> str:
    """The words: processes, times and shares differ from run to run."""
    return " ".join(re.sub(r"\d+(\.\d+)?", "#", text).split())


def _json(terminal: Terminal, command: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(terminal.enter(command))
    return found


def _output(terminal: Terminal, command: str) -> object:
    return _json(terminal, f"{command} -o json")["output"]


def _run_py() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run", Path(ROOT / "run.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
