from __future__ import annotations

import pytest

from wfq_workers import clock
from wfq_workers.clock import ServerClock


class Times:
    """Stands for the time module."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    times = Times()
    monkeypatch.setattr(clock, "time", times)
    return times


def test_a_reading_is_carried_on(times: Times) -> None:
    server = ServerClock()
    server.set(5_000)
    times.now += 0.25

    assert server.now_ms() == 5_250


def test_a_reading_that_was_looked_at_late_does_not_set_the_clock_back(times: Times) -> None:
    server = ServerClock()
    server.set(5_000)
    times.now += 1.0
    server.set(5_750)  # told at 5_750, looked at 250 ms later

    assert server.now_ms() == 6_000


def test_a_server_whose_clock_was_set_back_is_followed(times: Times) -> None:
    server = ServerClock()
    server.set(500_000)
    times.now += 1.0
    server.set(1_000)

    assert server.now_ms() == 1_000


def test_an_old_reading_gives_way_and_an_aged_one_is_no_clock(times: Times) -> None:
    server = ServerClock()
    server.set(5_000)
    times.now += 6.0
    server.set(10_900)

    assert server.now_ms() == 10_900
    times.now += 31.0
    assert server.now_ms() is None
