"""Fixtures of the fault tests."""

from __future__ import annotations

from tests.e2e.conftest import fleet_for

__all__ = ["fleet_for"]
