"""Reporting: outcomes reach Redis once it takes them, and one bad outcome holds up no other."""

from __future__ import annotations

import pytest
import redis

from wfq.errors import StorageUnavailable
from wfq.storage.activities import Completed, Outcome
from wfq.storage.link import ServerReply
from wfq_workers.activities import reporter as activity_reporter
from wfq_workers.activities.attempt import Attempt, Stream
from wfq_workers.activities.board import Board
from wfq_workers.activities.reporter import Reporter
from wfq_workers.backoff import LONGEST_S

STREAM = Stream(0, "default", "key")
MESSAGE = b'["n",1,0,"default","i.0",["A",0,"x",null,null],null]'


class StubWire:
    """Takes outcomes unless told not to."""

    memory = False

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.away = 0
        self.refuses: set[str] = set()
        self.sends: list[int] = []

    def send(self, batches: dict[Stream, list[Outcome]]) -> None:
        self.sends.append(sum(map(len, batches.values())))
        if self.away:
            self.away -= 1
            raise StorageUnavailable("away")

    def receive(self, batches: dict[Stream, list[Outcome]]) -> dict[Stream, ServerReply]:
        refused = {}
        for stream, outcomes in list(batches.items()):
            names = [outcome.instance_id for outcome in outcomes if isinstance(outcome, Completed)]
            if any(name in self.refuses for name in names):
                refused[stream] = ServerReply(redis.ResponseError("WRONGTYPE no"), "Redis")
            else:
                self.taken += names
                del batches[stream]
        return refused

    def check(self, now: float) -> None: ...

    def answered(self) -> bool:
        return True

    def close(self) -> None: ...


@pytest.fixture
def wire() -> StubWire:
    return StubWire()


class Driver:
    """Steps a reporter as the exchange does, on a clock that jumps over every rest."""

    def __init__(self, board: Board, wire: StubWire) -> None:
        self.now = 1000.0
        self.reporter = Reporter(
            board,
            wire,  # type: ignore[arg-type]  # a stand-in
            clock=lambda: self.now,
        )

    def run(self, steps: int = 100) -> None:
        for _ in range(steps):
            self.now += LONGEST_S
            try:
                self.reporter.step(self.now)
                if self.reporter.waiting:
                    self.reporter.take()
            except StorageUnavailable as exc:
                self.reporter.fail(exc)


def finish(board: Board, *orders: str) -> None:
    for n, order in enumerate(orders):
        attempt = Attempt((STREAM, b"%d-0" % n, order, MESSAGE, 1), 0.0)
        board.admit(attempt)
        board.finish(attempt, Completed(attempt.entry_id, "default", order, b"[]"))


def test_outcomes_are_sent_again_until_redis_takes_them(wire: StubWire) -> None:
    board = Board(8)
    wire.away = 30
    finish(board, "a", "b")

    Driver(board, wire).run()

    assert wire.taken == ["a", "b"]
    assert board.held == {}


def test_an_outcome_that_is_refused_does_not_hold_up_the_others(wire: StubWire) -> None:
    board = Board(8)
    wire.refuses = {"bad"}
    finish(board, "a", "bad", "b")
    driver = Driver(board, wire)

    driver.run()
    finish(board, "c")
    driver.run()

    assert sorted(wire.taken) == ["a", "b", "c"]
    assert board.held == {}


def test_a_worker_that_stops_does_not_wait_for_redis_for_ever(wire: StubWire) -> None:
    board = Board(8)
    wire.away = 1_000_000
    finish(board, "a")
    driver = Driver(board, wire)
    driver.run(3)

    driver.reporter.close(LONGEST_S * 5)
    driver.run(3)
    early = driver.reporter.ended
    driver.run(5)

    assert (early, driver.reporter.ended) == (False, True)
    assert driver.reporter.gave_up


def test_a_worker_that_stops_reports_everything_first(wire: StubWire) -> None:
    board = Board(1000)
    finish(board, *[f"order-{n}" for n in range(600)])
    driver = Driver(board, wire)

    driver.reporter.close(60)
    driver.run()

    assert driver.reporter.ended
    assert not driver.reporter.gave_up
    assert len(wire.taken) == 600
    assert max(wire.sends) == activity_reporter.MOST


def test_slots_are_not_filled_while_outcomes_pile_up(wire: StubWire) -> None:
    board = Board(2)
    finish(board, *[f"order-{n}" for n in range(8)])
    before = board.free()

    Driver(board, wire).run()

    assert (before, board.free()) == (0, 2)


def test_large_results_go_out_in_small_groups(
    wire: StubWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_reporter, "MOST_BYTES", 10)
    board = Board(100)
    finish(board, *[f"order-{n}" for n in range(20)])

    Driver(board, wire).run()

    # Two bytes each.
    assert wire.sends == [5, 5, 5, 5]


def test_a_bug_of_ours_in_reporting_costs_the_outcome_and_no_more(wire: StubWire) -> None:
    board = Board(8)
    finish(board, "a")
    driver = Driver(board, wire)

    for _ in range(activity_reporter.REFUSALS):
        driver.reporter.step(driver.now)
        driver.reporter.fail(TypeError("ours"))
        driver.now += LONGEST_S
    finish(board, "b")
    driver.run()

    assert wire.taken == ["b"]
    assert board.held == {}


def test_an_attempt_has_one_outcome_whoever_comes_second() -> None:
    board = Board(1)
    attempt = Attempt((STREAM, b"1-0", "order", MESSAGE, 1), 0.0)
    board.admit(attempt)

    first = board.finish(attempt, Completed(b"1-0", "default", "order", b"[1]"))
    second = board.finish(attempt, Completed(b"1-0", "default", "order", b"[2]"))

    assert (first, second) == (True, False)
    assert len(board.done) == 1
