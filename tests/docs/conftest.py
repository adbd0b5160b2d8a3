"""A terminal in a directory of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.terminal import Terminal
from tests.servers import Processes


@pytest.fixture
def terminal(tmp_path: Path, processes: Processes) -> Iterator[Terminal]:
    """Runs shell blocks in an empty directory; what they started ends with the test."""
    directory = tmp_path / "page"
    directory.mkdir()
    made = Terminal(directory, processes)
    yield made
    made.close()
