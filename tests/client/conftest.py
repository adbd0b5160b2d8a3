"""Fixtures of the client tests: on fakeredis, Valkey and redis-server alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.kit import NAMESPACE, Hand
from wfq.client import WorkflowClient


@pytest.fixture
def client(redis_url: str) -> Iterator[WorkflowClient]:
    """A client of an empty store."""
    with WorkflowClient(redis_url=redis_url, namespace=NAMESPACE) as client:
        yield client


@pytest.fixture
def hand(redis_url: str) -> Iterator[Hand]:
    """An orchestrator played by hand, on the client's store."""
    hand = Hand(redis_url)
    yield hand
    hand.close()
