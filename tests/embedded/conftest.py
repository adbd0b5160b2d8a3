"""A directory for an embedded server, which must be gone when the test ends."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import WHY_SKIPPED, find_binary, poll, runs
from wfq.storage import embedded_watch


@pytest.fixture
def store() -> Iterator[Path]:
    """A directory with a short path; after the test nothing may run on it or beside it."""
    if find_binary("valkey") is None:
        pytest.skip(WHY_SKIPPED["valkey"])
    parent = Path(tempfile.mkdtemp(prefix="wfq-test-"))
    yield parent / ".wfq"
    watchers = {watcher_of(lock.parent) for lock in parent.rglob(embedded_watch.WATCH_LOCK)} - {0}
    try:
        poll(lambda: not any(map(runs, watchers)), 10)
    except AssertionError:
        for left in filter(runs, watchers):
            os.kill(left, signal.SIGTERM)
        raise
    finally:
        shutil.rmtree(parent)


def watcher_of(directory: Path) -> int:
    """Return the pid of the directory's last supervisor; 0 where there was none."""
    try:
        return int((directory / embedded_watch.WATCH_LOCK).read_text() or 0)
    except (FileNotFoundError, ValueError):
        return 0
