"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet
from tests.servers import Processes

#: Starts no workers by itself: `fleet_for(source)` writes the app; tests start what they need.
FleetFor = Callable[[str], Fleet]


@pytest.fixture
def fleet_for(valkey_url: str, tmp_path: Path, processes: Processes) -> Iterator[FleetFor]:
    """Make a fleet for the given source of an app, on the embedded Valkey."""
    fleets: list[Fleet] = []

    def make(source: str) -> Fleet:
        app = tmp_path / "app.py"
        app.write_text(source)
        fleets.append(Fleet(valkey_url, app, processes))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()
