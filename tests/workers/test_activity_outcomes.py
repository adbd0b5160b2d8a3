"""What is reported of an attempt: values in, values out."""

from __future__ import annotations

import time
from typing import Any

import orjson

from tests.workers.activity_kit import retry
from wfq.core.failures import make_failure
from wfq.storage.activities import Completed, Note, Outcome, Retry
from wfq_workers.activities import outcomes
from wfq_workers.activities.attempt import Attempt, Stream

STREAM = Stream(0, "gpu", "wfq:{default:0}:activities:gpu")


def attempt(
    *,
    number: int = 1,
    options: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
    deliveries: int = 1,
) -> Attempt:
    action = ["A", 4, "charge", {"n": 1}, options]
    message = ["nonce", number, 1000, "home", "i.0", action, extra]
    return Attempt((STREAM, b"5-0", "order", orjson.dumps(message), deliveries), 0.0)


def failing(one: Attempt, *, now_ms: int = 1000, names: tuple[str, ...] = ()) -> Completed | Retry:
    failure = make_failure("ValueError", "no")
    return outcomes.failed(one, failure, names, now_ms=now_ms, rand=lambda: 0.5)


def message_of(outcome: Any) -> Any:
    return orjson.loads(outcome.message)


def test_success_tells_attempts_only_beyond_the_first() -> None:
    first = outcomes.succeeded(attempt(), 42)
    third = outcomes.succeeded(attempt(number=3), 42)

    assert orjson.loads(first.event) == ["C", 4, "nonce", 42]
    assert orjson.loads(third.event) == ["C", 4, "nonce", 42, 3]
    assert first.orchestrator_queue == "home"


def test_a_retry_carries_the_next_number_and_the_heartbeat() -> None:
    one = attempt(options={"r": retry(3, first_ms=50).to_opts()}, extra={"deliveries": 2})
    one.details = b'{"row":1}'

    outcome = failing(one)

    assert isinstance(outcome, Retry)
    assert (outcome.delay_ms, outcome.run, outcome.task_id) == (50, "i.0", 4)
    message = message_of(outcome)
    assert message[1] == 2
    assert message[5] == ["A", 4, "charge", {"n": 1}, one.options]
    # Deliveries are those of one attempt.
    assert message[6] == {
        "hb": {"row": 1}, "past": [[1000, 1000]], "error": ["ValueError", "no"],
    }  # fmt: skip


def test_attempts_keep_when_they_began_and_ended_and_the_first_says_nothing() -> None:
    options = {"r": retry(3).to_opts()}
    first = attempt(options=options)
    first.started_at = time.monotonic() - 2
    second = attempt(number=2, options=options, extra=message_of(failing(first))[6])
    ((began_ms, ended_ms),) = second.extra["past"]

    done = orjson.loads(outcomes.succeeded(second, 42, 5000).event)
    lost = orjson.loads(outcomes.worker_lost(second).event)
    last = make_failure("ValueError", "no", non_retryable=True)
    failed = outcomes.failed(second, last, (), now_ms=5000, rand=lambda: 0.5)
    assert isinstance(failed, Completed)
    final = orjson.loads(failed.event)

    assert ended_ms == 1000
    assert -1500 < began_ms <= -1000
    assert done == ["C", 4, "nonce", 42, 2, [[began_ms, 1000], [5000, 5000]]]
    assert final[4:] == done[4:]
    assert lost[4:] == [2, [[began_ms, 1000]]]


def test_of_many_attempts_the_last_are_kept_and_long_errors_are_cut() -> None:
    one = attempt(options={"r": retry(99).to_opts()}, extra={"past": [[1, 2]] * 20})

    outcome = outcomes.failed(
        one, make_failure("ValueError", "x" * 9000), (), now_ms=9, rand=lambda: 0.5
    )

    message = message_of(outcome)
    assert message[6]["past"] == [[1, 2]] * 19 + [[9, 9]]
    assert len(message[6]["error"][1]) == 500


def test_the_retry_timeout_counts_from_the_scheduling() -> None:
    from datetime import timedelta

    policy = retry(9, first_ms=100, retry_timeout=timedelta(seconds=1)).to_opts()

    assert isinstance(failing(attempt(options={"r": policy}), now_ms=1899), Retry)
    assert isinstance(failing(attempt(options={"r": policy}), now_ms=1901), Completed)


def test_a_class_without_retries_is_named_by_any_of_its_bases() -> None:
    options = {"r": retry(9, non_retryable=["LookupError"]).to_opts()}

    assert isinstance(failing(attempt(options=options), names=("KeyError",)), Retry)
    final = failing(attempt(options=options), names=("KeyError", "LookupError"))

    assert isinstance(final, Completed)
    assert orjson.loads(final.event)[:3] == ["X", 4, "nonce"]


def test_an_unknown_activity_is_put_off_longer_and_longer() -> None:
    delays = []
    extra: dict[str, Any] | None = None
    now_ms = 1000

    for _ in range(12):
        one = attempt(extra=extra)
        (later,) = outcomes.unknown(one, now_ms=now_ms, grace_ms=60_000_000)
        assert isinstance(later, Retry)
        message = message_of(later)
        # No attempt is counted.
        assert message[1] == 1
        extra = message[6]
        delays.append(later.delay_ms)
        now_ms += later.delay_ms

    assert delays == [250, 250, 500, 1000, 2000, 4000, 8000, 10000, 10000, 10000, 10000, 10000]
    assert extra == {"unknown": 1000}


def test_an_unknown_activity_is_told_of_once_after_the_grace() -> None:
    before = outcomes.unknown(attempt(extra={"unknown": 1000}), now_ms=30_999, grace_ms=30_000)
    after = outcomes.unknown(attempt(extra={"unknown": 1000}), now_ms=31_000, grace_ms=30_000)
    told = outcomes.unknown(attempt(extra=message_of(after[-1])[6]), now_ms=99_000, grace_ms=30_000)

    assert [type(outcome) for outcome in before] == [Retry]
    assert [type(outcome) for outcome in after] == [Note, Retry]
    assert [type(outcome) for outcome in told] == [Retry]
    assert isinstance(after[0], Note)
    assert orjson.loads(after[0].event) == [
        "U",
        4,
        "nonce",
        "no worker of queue 'gpu' knows activity 'charge'; start one that registers it",
    ]


def test_a_hand_back_counts_a_delivery_only_if_it_was_started() -> None:
    fresh = attempt()
    again = attempt(deliveries=2, extra={"deliveries": 1})

    assert message_of(outcomes.hand_back(fresh, started=False))[6] is None
    assert message_of(outcomes.hand_back(fresh, started=True))[6] == {"deliveries": 1}
    assert message_of(outcomes.hand_back(again, started=False))[6] == {"deliveries": 2}
    assert message_of(outcomes.hand_back(again, started=True))[6] == {"deliveries": 3}


def test_a_lost_worker_is_final_and_says_how_often() -> None:
    dead = outcomes.worker_lost(attempt(deliveries=6))

    failure = orjson.loads(dead.event)[3]

    assert failure["type"] == "WorkerLost"
    assert failure["non_retryable"] is True
    assert "5 times" in failure["message"]
    assert (dead.task_id, dead.nonce) == (4, "nonce")


def test_an_unknown_activity_is_given_up_at_its_schedule_to_start_timeout() -> None:
    one = attempt(options={"s": 600})
    begin = one.scheduled_ms

    def at(ms: int) -> Outcome:
        (outcome,) = outcomes.unknown(one, now_ms=begin + ms, grace_ms=30_000)
        return outcome

    early, near, late = at(0), at(500), at(600)
    assert isinstance(early, Retry)
    assert isinstance(near, Retry)
    assert (early.delay_ms, near.delay_ms) == (250, 100)
    assert isinstance(late, Completed)
    failure = orjson.loads(late.event)[3]
    assert failure["type"] == "ActivityTimeout"
    assert "no worker of queue 'gpu' that knows activity 'charge'" in failure["message"]


def test_a_later_attempt_has_no_schedule_to_start_timeout() -> None:
    one = attempt(number=2, options={"s": 600})

    (later,) = outcomes.unknown(one, now_ms=one.scheduled_ms + 10_000, grace_ms=30_000)

    assert isinstance(later, Retry)
