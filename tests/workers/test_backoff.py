"""Waits between attempts, and what is said of them."""

from __future__ import annotations

import logging
import threading

import pytest

from wfq_workers.backoff import LONGEST_S, Backoff, one_line

log = logging.getLogger("wfq.test")


def test_waits_double_up_to_a_limit_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(log, "cannot", jitter=lambda: 1.0)

    waits = [backoff.next_delay_s() for _ in range(10)]
    backoff.clear()

    assert waits[:4] == [0.05, 0.1, 0.2, 0.4]
    assert waits[-1] == LONGEST_S
    assert backoff.next_delay_s() == 0.05


def test_jitter_shortens_a_wait_by_up_to_a_half() -> None:
    shortest = Backoff(log, "cannot", jitter=lambda: 0.0)

    assert [shortest.next_delay_s() for _ in range(8)][-1] == LONGEST_S / 2


def test_every_wait_is_one_line_that_cannot_be_forged(caplog: pytest.LogCaptureFixture) -> None:
    backoff = Backoff(log, "cannot read")
    stop = threading.Event()
    stop.set()

    assert backoff.wait(ValueError("lost\nERROR forged \x1b[31m"), stop)

    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert "\x1b" not in record.getMessage()
    assert "ValueError: lost ERROR forged" in record.getMessage()


def test_one_line_is_bounded_whatever_the_error() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert len(one_line(ValueError("x" * 10_000))) < 400
    assert one_line(Unprintable()) == "Unprintable: its message cannot be shown"
    assert one_line(ValueError()) == "ValueError"
