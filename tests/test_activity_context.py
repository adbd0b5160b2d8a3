"""The context of an activity, as a unit test of an activity makes it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from wfq.activity_context import ActivityContext


def test_a_context_can_be_made_to_test_a_function() -> None:
    beats: list[Any] = []
    ctx = ActivityContext("order-1", 3, attempt=2, heartbeat_details=7, on_heartbeat=beats.append)

    ctx.heartbeat(8)
    ctx.heartbeat()

    assert (ctx.workflow_id, ctx.task_id, ctx.attempt) == ("order-1", 3, 2)
    assert ctx.heartbeat_details == 7
    assert beats == [8, None]
    assert not ctx.is_cancelled
    assert not ctx.was_told


def test_cancellation_is_seen_by_who_asks() -> None:
    ctx = ActivityContext()

    ctx.cancel()
    before = ctx.was_told

    assert ctx.is_cancelled
    assert (before, ctx.was_told) == (False, True)


def test_the_key_is_the_same_for_every_attempt() -> None:
    keys = {ActivityContext("order-1", 3, attempt=n).idempotency_key for n in (1, 2)}

    assert len(keys) == 1


def test_log_records_carry_the_ids(caplog: pytest.LogCaptureFixture) -> None:
    ctx = ActivityContext("order-1", 3, attempt=2, activity_name="charge")

    with caplog.at_level(logging.INFO):
        ctx.logger.info("charged %s", "it", extra={"amount": 5})

    (record,) = caplog.records
    assert record.getMessage() == "charged it"
    found = {name: getattr(record, name) for name in ("instance_id", "task_id", "attempt")}
    assert found == {"instance_id": "order-1", "task_id": 3, "attempt": 2}
    assert (record.activity, record.amount) == ("charge", 5)  # type: ignore[attr-defined]  # extras
