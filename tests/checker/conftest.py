"""Fixtures of the checker's tests."""

from __future__ import annotations

import pytest

from tests.checker.scene import Scene
from tests.storage.conftest import store
from tests.storage.kit import Store

__all__ = ["store"]


@pytest.fixture
def scene(store: Store) -> Scene:
    """A scene on each kind of server."""
    return Scene(store)
