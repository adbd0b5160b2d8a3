"""Fixtures of the fault tests."""

from __future__ import annotations

from tests.e2e.conftest import cluster_fleet_for, fleet_for, sentinel_fleet_for

__all__ = ["cluster_fleet_for", "fleet_for", "sentinel_fleet_for"]
