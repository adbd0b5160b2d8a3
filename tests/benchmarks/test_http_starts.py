"""Starts over HTTP are counted one by one: none is lost, by whichever client."""

from __future__ import annotations

import shutil

import pytest

from benchmarks import http_starts
from benchmarks.http_starts import Client, by_asyncio, by_wrk

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.parametrize(("name", "client"), [("wrk", by_wrk), ("asyncio", by_asyncio)])
def test_no_start_is_lost(name: str, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "wrk" and shutil.which("wrk") is None:
        pytest.skip("wrk is not installed (apt-get install wrk)")
    monkeypatch.setattr(http_starts, "choose_client", lambda: (name, client))

    found = http_starts.measure(requests=300, rounds=1)

    assert found["client"] == name
    assert found["lost"] == 0
    assert found["starts_a_second"] > 0
    assert found["empty_a_second"] > 0
