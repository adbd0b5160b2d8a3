"""Which streams a worker reads next: pure, so every case is a list of values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wfq_workers.activities.reading import Reading, ReadPlan


def test_an_idle_worker_waits_on_all_streams() -> None:
    plan = ReadPlan(16)

    for _ in range(3):
        reading = plan.next(64)
        plan.note(reading, {})

        assert reading == Reading(range(16), 4, wait=True)


def test_streams_with_a_backlog_are_read_deeper_each_once_then_all() -> None:
    plan = ReadPlan(16)
    first = plan.next(64)
    plan.note(first, dict.fromkeys(range(16), 4))

    deeper = [plan.next(64) for _ in range(4)]
    after = plan.next(64)

    assert [list(reading.streams) for reading in deeper] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
        [12, 13, 14, 15],
    ]
    assert {reading.count for reading in deeper} == {16}
    assert not any(reading.wait for reading in deeper)
    assert after == first


def test_one_busy_stream_gets_all_the_slots() -> None:
    plan = ReadPlan(16)
    plan.note(plan.next(64), {3: 4, 5: 1})

    assert plan.next(64) == Reading([3], 64, wait=False)
    assert plan.next(64).wait


def test_fewer_slots_than_streams_are_filled_in_turn() -> None:
    plan = ReadPlan(4)
    seen = []

    for _ in range(4):
        reading = plan.next(2)
        plan.note(reading, {reading.streams[0]: 1})
        seen.append(list(reading.streams))

    assert seen == [[0, 1], [2, 3], [0, 1], [2, 3]]


def test_fewer_slots_than_streams_wait_only_when_all_are_empty() -> None:
    plan = ReadPlan(4)

    readings = []
    for _ in range(4):
        readings.append(plan.next(2))
        plan.note(readings[-1], {})

    assert [reading.wait for reading in readings] == [False, False, True, True]


@given(
    streams=st.integers(1, 40),
    steps=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 5)), max_size=40),
)
def test_a_read_that_does_not_wait_never_asks_for_more_than_the_slots(
    streams: int, steps: list[tuple[int, int]]
) -> None:
    plan = ReadPlan(streams)

    for free, busy in steps:
        reading = plan.next(free)
        assert reading.count >= 1
        assert len(set(reading.streams)) == len(reading.streams)
        if not reading.wait or free >= streams:
            assert reading.count * len(reading.streams) <= free
        plan.note(reading, dict.fromkeys(list(reading.streams)[:busy], reading.count))


@given(streams=st.integers(1, 20), free=st.integers(1, 40))
def test_no_stream_starves_while_another_has_a_backlog(streams: int, free: int) -> None:
    plan = ReadPlan(streams)
    looked_at: set[int] = set()

    for _ in range(3 * streams + 3):
        reading = plan.next(free)
        looked_at.update(reading.streams)
        plan.note(reading, {0: reading.count} if 0 in reading.streams else {})

    assert looked_at == set(range(streams))
