"""Whose turn it is to look for dead workers' attempts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq_workers.activities.parts import PartStore
from wfq_workers.activities.store import ActivityStore


@pytest.fixture
def link(valkey_url: str) -> Iterator[SyncLink]:
    opened = SyncLink(valkey_url)
    yield opened
    opened.close()


def test_one_worker_looks_for_all(link: SyncLink) -> None:
    space = Namespace("test", 4)
    one, other = (ActivityStore(link, space, ["a", "b"], who) for who in ("w1", "w2"))

    assert one.turns(60_000) == list(range(8))
    assert other.turns(60_000) == []


def test_on_a_cluster_every_partition_has_a_turn_of_its_own(link: SyncLink) -> None:
    """Else the readers of one worker keep each other from looking, for minutes."""
    space = Namespace("test", 4)
    one, other = (ActivityStore(link, space, ["a"], who) for who in ("w1", "w2"))

    mine = [PartStore(one, ["a"], partition).turns(60_000) for partition in range(4)]
    theirs = [PartStore(other, ["a"], partition).turns(60_000) for partition in range(4)]

    assert (mine, theirs) == ([[0]] * 4, [[]] * 4)
    assert set(link.scan("*turn*")) == {
        space.turn_in(partition, "claim:a").encode() for partition in range(4)
    }
