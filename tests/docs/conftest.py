"""A terminal in a directory of the test's own, and the blocks that a test has to execute."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.docs.executed import WHOLE, Shown
from tests.docs.terminal import Terminal
from tests.servers import Processes

_PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether a test has passed: of one that has not, blocks may be left."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Iterator[Shown]:
    """The blocks that `WHOLE` names for this test; it has to use each of them."""
    blocks = Shown(WHOLE[f"{request.path.name}::{request.node.name}"])
    yield blocks
    if request.node.stash.get(_PASSED, False):
        assert [str(block) for block in blocks.left] == [], "the test executes these no more"


@pytest.fixture
def terminal(tmp_path: Path, processes: Processes) -> Iterator[Terminal]:
    """Runs shell blocks in an empty directory; what they started ends with the test."""
    directory = tmp_path / "page"
    directory.mkdir()
    made = Terminal(directory, processes)
    yield made
    made.close()
