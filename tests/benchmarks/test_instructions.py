"""The commands whose instructions are counted do the work of whole chains."""

from __future__ import annotations

import shutil

import pytest

from benchmarks import instructions
from benchmarks.instructions import BATCH, PHASES, Chains, measure, no_phase
from benchmarks.server import RedisMeter
from tests.servers import find_binary


def test_a_round_brings_a_batch_of_chains_to_their_end(valkey_url: str) -> None:
    chains = Chains(valkey_url)
    meter = RedisMeter(valkey_url)
    before = meter.count("COMPLETED")

    chains.round(no_phase)

    assert meter.count("COMPLETED") == before + BATCH
    assert meter.backlog() == 0
    meter.close()
    chains.close()


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.skipif(find_binary("redis") is None, reason="no redis-server >= 7.0 on PATH")
@pytest.mark.timeout(120)
def test_every_phase_has_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "BATCH", 4)

    found = measure(1, "redis")

    assert set(found) == set(PHASES)
    assert all(count > 1 for count in found.values())
