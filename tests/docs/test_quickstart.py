"""The quickstart from its first line to its last, as a reader would do it."""

from __future__ import annotations

import re

import pytest

from tests.docs.executed import Shown
from tests.docs.markdown import DOCS, Block
from tests.docs.terminal import Terminal, matches
from tests.servers import poll

PAGE = DOCS / "quickstart.md"
STOP = "<!-- test: stop the service -->"

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(180)]


def test_every_step_works_and_prints_what_the_page_shows(shown: Shown, terminal: Terminal) -> None:
    text = PAGE.read_text(encoding="utf-8")
    stop_at = text[: text.index(STOP)].count("\n")
    stopped, printed = False, ""

    for block in map(shown.use, shown.of()):
        if not stopped and block.line > stop_at:
            terminal.stop()
            stopped = True
        if block.language == "python":
            name = re.match(r"# (\w+\.py)\n", block.text)
            assert name is not None, f"{block}: the first line names the file"
            (terminal.directory / name[1]).write_text(block.text)
        elif block.language == "sh":
            printed = _printed(terminal, block)
        else:
            assert matches(block.text, printed), f"{block} is not what was printed:\n{printed}"

    assert stopped


def _printed(terminal: Terminal, block: Block) -> str:
    """Run a block; a look at an instance is repeated until its first turns are done."""
    if "wfq get" not in block.text:
        return terminal.run(block)
    start, get = block.text.splitlines(keepends=True)
    started = terminal.run(Block(block.page, block.line, "sh", start))
    look = Block(block.page, block.line + 1, "sh", get)
    return started + poll(lambda: _if_waiting(terminal.run(look)), 20)


def _if_waiting(printed: str) -> str | None:
    return printed if "custom status" in printed else None
