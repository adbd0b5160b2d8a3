"""Reporting: outcomes reach Redis once it takes them, and one bad outcome holds up no other."""

from __future__ import annotations

import threading

import pytest
import redis

from tests.servers import poll
from wfq.errors import StorageUnavailable
from wfq.storage.activities import Completed, Outcome
from wfq.storage.link import ServerReply
from wfq_workers import activity_reporter
from wfq_workers.activity_board import Board
from wfq_workers.activity_reporter import Reporter
from wfq_workers.attempt import Attempt, Stream

STREAM = Stream(0, "default", "key")
MESSAGE = b'["n",1,0,"default","i.0",["A",0,"x",null,null],null]'


class StubStore:
    """Takes outcomes unless told not to."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.away = 0
        self.refuses: set[str] = set()
        self.calls = 0

    def report(self, batches: dict[Stream, list[Outcome]]) -> dict[Stream, ServerReply]:
        self.calls += 1
        if self.away:
            self.away -= 1
            raise StorageUnavailable("away")
        refused = {}
        for stream, outcomes in list(batches.items()):
            if any(outcome.instance_id in self.refuses for outcome in outcomes):
                refused[stream] = ServerReply(redis.ResponseError("WRONGTYPE no"), "Redis")
            else:
                self.taken += [outcome.instance_id for outcome in outcomes]
                del batches[stream]
        return refused


@pytest.fixture
def store() -> StubStore:
    return StubStore()


def finish(board: Board, *orders: str) -> None:
    for n, order in enumerate(orders):
        attempt = Attempt((STREAM, b"%d-0" % n, order, MESSAGE, 1), 0.0)
        board.admit(attempt)
        board.finish(attempt, Completed(b"1-0", "default", order, b"[]"))


def start(store: StubStore, board: Board) -> Reporter:
    reporter = Reporter(board, store)  # type: ignore[arg-type]  # a stand-in
    reporter.start()
    return reporter


def test_outcomes_are_sent_again_until_redis_takes_them(store: StubStore) -> None:
    board = Board(8)
    store.away = 3
    finish(board, "a", "b")

    reporter = start(store, board)
    poll(lambda: store.taken == ["a", "b"])
    reporter.close(1)

    assert board.held == {}


def test_an_outcome_that_is_refused_does_not_hold_up_the_others(store: StubStore) -> None:
    board = Board(8)
    store.refuses = {"bad"}
    finish(board, "a", "bad", "b")

    reporter = start(store, board)
    poll(lambda: sorted(store.taken) == ["a", "b"], 30)
    finish(board, "c")
    poll(lambda: sorted(store.taken) == ["a", "b", "c"])
    reporter.close(1)

    assert board.held == {}


def test_a_worker_that_stops_does_not_wait_for_redis_for_ever(store: StubStore) -> None:
    board = Board(8)
    store.away = 1_000_000
    finish(board, "a")
    reporter = start(store, board)

    closing = threading.Thread(target=reporter.close, args=(0.2,))
    closing.start()
    closing.join(10)

    assert not closing.is_alive()
    assert store.taken == []


def test_slots_are_not_filled_while_outcomes_pile_up(store: StubStore) -> None:
    board = Board(2)
    finish(board, *[f"order-{n}" for n in range(8)])
    assert board.free() == 0

    reporter = start(store, board)

    assert board.wait_until_free(10) > 0
    poll(lambda: board.free() == 2)
    reporter.close(1)


def test_outcomes_go_out_in_groups(store: StubStore) -> None:
    board = Board(1000)
    finish(board, *[f"order-{n}" for n in range(600)])

    reporter = start(store, board)
    poll(lambda: len(store.taken) == 600)
    reporter.close(1)

    assert store.calls == -(-600 // activity_reporter.MOST)


def test_an_attempt_has_one_outcome_whoever_comes_second() -> None:
    board = Board(1)
    attempt = Attempt((STREAM, b"1-0", "order", MESSAGE, 1), 0.0)
    board.admit(attempt)

    first = board.finish(attempt, Completed(b"1-0", "default", "order", b"[1]"))
    second = board.finish(attempt, Completed(b"1-0", "default", "order", b"[2]"))

    assert (first, second) == (True, False)
    assert board.done.qsize() == 1
