"""Starts of one event loop go together, and each has its own answer or error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from wfq.errors import StorageUnavailable
from wfq.management import gathering
from wfq.management.gathering import StartGate
from wfq.storage.instances import NewInstance, StartReply
from wfq.storage.keys import Namespace
from wfq.storage.link import AsyncLink
from wfq.storage.scripts import Call

pytestmark = pytest.mark.anyio

NS = Namespace("test", 4)


class FakeLink:
    """Answers each item with its own incarnation; partitions in `broken` are away."""

    def __init__(self) -> None:
        self.round_trips: list[list[int]] = []
        self.broken: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def run_many(self, calls: Sequence[Call[Any]]) -> list[Any]:
        self.round_trips.append([int(call.args[0]) for call in calls])
        await self.gate.wait()
        return [self._answer(call) for call in calls]

    async def run(self, call: Call[Any]) -> Any:
        return self._answer(call)

    def _answer(self, call: Call[Any]) -> list[StartReply]:
        if call.keys[0] in self.broken:
            raise StorageUnavailable("this shard is away")
        count = int(call.args[0])
        # Starts that are alike are told by three arguments each, after four for all.
        assert len(call.args) == 4 + 3 * count
        return [StartReply("started", str(call.args[5 + 3 * n])) for n in range(count)]


def new(number: int, payload: bytes = b"1") -> NewInstance:
    return NewInstance(f"i{number}", f"inc{number}", "default", "flow", payload)


async def test_starts_of_one_moment_share_a_round_trip() -> None:
    link = FakeLink()
    gate = StartGate(link, NS)  # type: ignore[arg-type]

    replies = await asyncio.gather(*(gate.start(new(n)) for n in range(100)))

    assert [reply.incarnation for reply in replies] == [f"inc{n}" for n in range(100)]
    (calls,) = link.round_trips
    assert (len(calls), sum(calls)) == (4, 100)


async def test_what_comes_while_round_trips_are_under_way_waits_for_the_next() -> None:
    link = FakeLink()
    link.gate.clear()
    gate = StartGate(link, NS)  # type: ignore[arg-type]
    started = []
    for number in range(10):
        started.append(asyncio.create_task(gate.start(new(number))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    link.gate.set()
    await asyncio.gather(*started)

    assert [sum(calls) for calls in link.round_trips] == [1, 1, 8]


async def test_one_partition_in_trouble_fails_its_own_starts_alone() -> None:
    link = FakeLink()
    link.broken = {NS.prefix(0)}
    gate = StartGate(link, NS)  # type: ignore[arg-type]

    replies = await asyncio.gather(*(gate.start(new(n)) for n in range(40)), return_exceptions=True)

    for number, reply in enumerate(replies):
        away = NS.partition_of(f"i{number}") == 0
        assert isinstance(reply, StorageUnavailable if away else StartReply)


async def test_large_inputs_are_spread_over_calls() -> None:
    link = FakeLink()
    gate = StartGate(link, Namespace("test", 1))  # type: ignore[arg-type]
    half = b"x" * (gathering.CALL_BYTES // 2)

    await asyncio.gather(*(gate.start(new(n, half)) for n in range(5)))

    assert link.round_trips == [[2, 2, 1]]


async def test_a_caller_that_goes_away_takes_nobody_with_it() -> None:
    link = FakeLink()
    link.gate.clear()
    gate = StartGate(link, NS)  # type: ignore[arg-type]
    gone, stays = (asyncio.create_task(gate.start(new(n))) for n in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    gone.cancel()
    link.gate.set()

    assert (await stays).outcome == "started"


async def test_the_same_id_twice_at_once_is_one_instance(redis_url: str) -> None:
    link = AsyncLink(redis_url)
    gate = StartGate(link, NS)
    twin = NewInstance("i1", "another", "default", "flow", b"2")

    first, second, again = await asyncio.gather(
        gate.start(new(1)), gate.start(twin), gate.start(new(1))
    )

    assert (first.outcome, second.outcome, again.outcome) == ("started", "exists", "started")
    assert second.incarnation == "inc1"
    await link.close()
