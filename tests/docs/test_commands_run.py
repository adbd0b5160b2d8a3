"""Commands that other pages show are run, not only parsed, in a directory with such a program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.markdown import DOCS, Block, blocks
from tests.docs.terminal import Terminal
from tests.servers import ROOT, poll

#: Pages whose commands speak of a program of the reader's own.
PAGES = ("troubleshooting", "versioning", "operations", "dashboard")
#: What does not end by itself.
ENDLESS = ("--watch", "--follow", "wfq dev")

APP = """
import wfq as wf

app = wf.WorkflowRuntime()


@app.workflow
def release(ctx: wf.WorkflowContext, version: str):
    built = yield ctx.call_activity(build, input=version)
    return (yield ctx.wait_for_external_event("go"))


@app.activity
def build(version: str) -> str:
    return version
"""

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(180)]


def line(command: str) -> Block:
    return Block(DOCS, 0, "sh", f"{command}\n")


def test_commands_about_an_instance_work(terminal: Terminal) -> None:
    (terminal.directory / "app.py").write_text(APP)
    terminal.run(line("wfq dev app.py"))
    terminal.run(line("""wfq start release '"1.0"' --id order-7"""))
    poll(lambda: "go" in terminal.run(line("wfq explain order-7")), 20)

    commands = [
        command
        for page in PAGES
        for block in blocks(DOCS / f"{page}.md")
        if block.language == "sh"
        for command in block.text.splitlines()
        if not any(word in command for word in ENDLESS)
    ]
    for command in commands:
        terminal.run(line(re.sub(r"\bID\b", "order-7", command)))

    assert len(commands) > 8


def test_the_patterns_run_as_they_are_shown(terminal: Terminal) -> None:
    shown = [block for block in blocks(DOCS / "patterns.md") if block.language == "sh"]
    for block in shown:
        terminal.run(line(f"wfq dev {_example(block)}"))
        terminal.run(block)
        terminal.stop()

    assert len(shown) == 6


def _example(block: Block) -> Path:
    """The example that has the workflow which a block starts."""
    started = re.search(r"wfq start (\w+)|wfq/(\w+)/start", block.text)
    assert started is not None
    name = started[1] or started[2]
    (found,) = [
        path for path in (ROOT / "examples").glob("*.py") if f"def {name}(" in path.read_text()
    ]
    return found
