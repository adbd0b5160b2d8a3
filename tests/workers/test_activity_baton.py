"""What is over at once runs in the thread that has read it; where it is not, another drives on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.servers import poll
from tests.workers.activity_kit import Shop
from wfq.logs import ACTIVITY
from wfq_workers.activities import pace
from wfq_workers.activities.baton import Baton
from wfq_workers.activities.pace import KNOWN_AFTER, TRIVIAL_S, Pace

EXCHANGE = "wfq-activity-exchange"


class Deputy:
    """A thread that stands by; `took_over` once it was its turn."""

    def __init__(self, baton: Baton) -> None:
        self.took_over: bool | None = None
        self._baton = baton
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.took_over = self._baton.stand_by()


@pytest.fixture
def baton() -> Iterator[Baton]:
    baton = Baton()
    yield baton
    baton.end()


def test_whoever_comes_back_in_time_drives_on(baton: Baton) -> None:
    deputy = Deputy(baton)
    done: list[int] = []

    assert all(baton.run(done.append, n) for n in range(1000))

    baton.end()
    deputy.thread.join(10)
    assert (done, deputy.took_over) == ([*range(1000)], False)


def test_who_is_held_up_finds_that_the_other_drives(baton: Baton) -> None:
    deputy = Deputy(baton)

    # The job waits for the other thread to take over.
    assert not baton.run(deputy.thread.join, 10.0)

    assert deputy.took_over
    assert not baton.watched


def test_a_thread_that_sleeps_for_want_of_jobs_is_woken_by_the_next(baton: Baton) -> None:
    for _ in range(3):
        deputy = Deputy(baton)
        poll(lambda: baton._asleep)
        assert not baton.run(deputy.thread.join, 10.0)
        assert deputy.took_over


def test_a_sleeping_thread_is_let_go_at_the_end(baton: Baton) -> None:
    deputy = Deputy(baton)
    poll(lambda: baton._asleep)

    baton.end()

    deputy.thread.join(10)
    assert deputy.took_over is False


def test_what_is_trivial_is_known_after_some_calls_and_forgotten_after_a_long_one() -> None:
    known = Pace()
    for _ in range(KNOWN_AFTER):
        assert not known.is_trivial
        known.note(TRIVIAL_S / 2)
    assert known.is_trivial

    known.note(0.01)

    assert not known.is_trivial


@pytest.fixture
def shop(
    valkey_url: str, open_shop: Callable[[str], Shop], monkeypatch: pytest.MonkeyPatch
) -> Shop:
    # However slow the machine is.
    monkeypatch.setattr(pace, "TRIVIAL_S", 60.0)
    return open_shop(valkey_url)


def test_trivial_activities_run_where_they_are_read(shop: Shop) -> None:
    names: list[str] = []
    shop.activity(lambda ctx, _: names.append(threading.current_thread().name), name="name")
    shop.worker(concurrency=4)
    for _ in range(KNOWN_AFTER):
        shop.schedule("name")
    poll(lambda: len(names) == KNOWN_AFTER and shop.entries() == 0)
    assert not any(name.startswith(EXCHANGE) for name in names)

    for _ in range(100):
        shop.schedule("name")

    poll(lambda: len(names) == KNOWN_AFTER + 100 and shop.entries() == 0)
    assert any(name.startswith(EXCHANGE) for name in names[KNOWN_AFTER:])


def test_who_comes_back_late_is_in_no_activity_any_more(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    stood_by: list[object] = []
    stand_by = Baton.stand_by

    def spy(baton: Baton) -> bool:
        stood_by.append(ACTIVITY.get())
        return stand_by(baton)

    def look() -> bool:
        shop.wait_event(shop.schedule("work", 0.05))
        return len(stood_by) > 1

    monkeypatch.setattr(Baton, "stand_by", spy)
    shop.activity(lambda ctx, seconds: threading.Event().wait(seconds), name="work")
    shop.worker(concurrency=4)
    for _ in range(KNOWN_AFTER):
        shop.schedule("work", 0.0)
    poll(lambda: shop.entries() == 0)

    # The first to stand by has run nothing yet; the second was too long in one.
    poll(look, 30)

    assert set(stood_by) == {None}


def test_logging_that_raises_ends_no_thread_that_drives(shop: Shop) -> None:
    class Raises(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            failed.append(threading.current_thread().name)
            raise KeyError("of the program's own")

    def work(ctx: object, fails: bool) -> None:
        if fails:
            raise ValueError

    def drivers() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name.startswith(EXCHANGE)]

    def fail() -> bool:
        shop.schedule("work", True)
        return any(name.startswith(EXCHANGE) for name in failed)

    failed: list[str] = []
    shop.activity(work, name="work")
    worker = shop.worker(concurrency=64)
    for _ in range(KNOWN_AFTER):
        shop.schedule("work", False)
    poll(lambda: shop.entries() == 0)
    before = drivers()
    logger, raises = logging.getLogger("wfq.activity"), Raises()
    logger.addFilter(raises)
    try:
        poll(fail)
        assert shop.wait_event(shop.schedule("work", False))[0] == "C"
    finally:
        logger.removeFilter(raises)

    assert drivers() == before
    worker.stop(0.1)


def test_one_that_hangs_after_all_holds_up_nobody(shop: Shop) -> None:
    release = threading.Event()
    where: list[str] = []

    def work(ctx: object, patient: bool) -> str:
        where.append(threading.current_thread().name)
        if patient:
            release.wait(30)
        return "done"

    shop.activity(work, name="work")
    worker = shop.worker(concurrency=4)
    for _ in range(3):
        for _ in range(KNOWN_AFTER):
            shop.schedule("work", False)
        poll(lambda: shop.entries() == 0)
        del where[:]
        release.clear()
        hanging = shop.schedule("work", True)
        poll(lambda: len(where) == 1)
        # One of the two threads is in there: the other reads, has it run, and reports.
        others = [shop.schedule("work", False) for _ in range(20)]
        for other in others:
            assert shop.wait_event(other)[0] == "C"
        assert not shop.events_of(hanging)

        release.set()

        assert shop.wait_event(hanging)[0] == "C"
        # It stands by again, or works: a worker that stops waits for neither for ever.
    worker.stop(5.0)
    assert shop.entries() == 0
