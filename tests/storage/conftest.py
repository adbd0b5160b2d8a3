"""Fixtures of the storage tests: a `Store` on each kind of server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.storage.kit import Store


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    """An empty store of one partition on fakeredis, Valkey and redis-server."""
    opened = Store(redis_url)
    yield opened
    opened.close()


@pytest.fixture
def real_store(real_redis_url: str) -> Iterator[Store]:
    """An empty store of one partition on Valkey and redis-server."""
    opened = Store(real_redis_url)
    yield opened
    opened.close()


@pytest.fixture
def full_store(real_store: Store) -> Iterator[Store]:
    """The same; `full` makes its server refuse memory, and the fixture undoes it."""
    yield real_store
    real_store.full(False)


@pytest.fixture
def running(store: Store) -> Store:
    """A store that owns partition 0 and holds two instances, their starts read."""
    store.start("a")
    store.start("b")
    store.own()
    return store
