"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet
from tests.groups import ClusterGroup, SentinelGroup
from tests.servers import Processes

#: Starts no workers by itself: `fleet_for(source)` writes the app; tests start what they need.
FleetFor = Callable[[str], Fleet]


def _fleets(url: str, tmp_path: Path, processes: Processes) -> Iterator[FleetFor]:
    fleets: list[Fleet] = []

    def make(source: str) -> Fleet:
        app = tmp_path / "app.py"
        app.write_text(source)
        fleets.append(Fleet(url, app, processes))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()


@pytest.fixture
def fleet_for(
    request: pytest.FixtureRequest, tmp_path: Path, processes: Processes
) -> Iterator[FleetFor]:
    """Make a fleet for the given source of an app: on the embedded Valkey, or what --on names."""
    yield from _fleets(request.getfixturevalue("any_url"), tmp_path, processes)


@pytest.fixture
def cluster_fleet_for(
    cluster: ClusterGroup, tmp_path: Path, processes: Processes
) -> Iterator[FleetFor]:
    """Make a fleet on a cluster of three masters."""
    yield from _fleets(cluster.url, tmp_path, processes)


@pytest.fixture
def sentinel_fleet_for(
    sentinel_group: SentinelGroup, tmp_path: Path, processes: Processes
) -> Iterator[FleetFor]:
    """Make a fleet on a Sentinel group."""
    yield from _fleets(sentinel_group.url, tmp_path, processes)
