"""Why an instance waits, durations, forms: the words of the dashboard."""

from __future__ import annotations

from typing import Any

import pytest

from wfq.analysis.spans import Span
from wfq_server.dashboard.forms import example_of, fields_of, raise_lines, start_lines
from wfq_server.dashboard.source import Worker
from wfq_server.dashboard.timeline import make_timeline
from wfq_server.dashboard.why import failure_chain, reasons
from wfq_server.dashboard.wording import ago, percentile

NOW = 1_700_000_000_000
WORKER = Worker(
    "host-1-ab",
    NOW,
    {
        "roles": ["orchestrator", "activity"],
        "app_id": "default",
        "queues": ["default"],
        "activities": ["charge"],
    },
)


def why(
    spans: list[Span],
    explanation: str = "",
    *,
    status: str = "RUNNING",
    workers: tuple[Worker, ...] = (WORKER,),
) -> list[str]:
    found = reasons(
        status, "no worker has it", spans, explanation, workers, queue="default", now_ms=NOW
    )
    return [f"! {reason.text}" if reason.bad else reason.text for reason in found]


def charge(**more: Any) -> Span:
    return Span("activity", "charge", 1, NOW - 90_000, task_id=0, **more)


def test_an_event_says_since_when_and_until_when() -> None:
    span = Span("event", "approved", 1, NOW - 7_500_000, task_id=0, due_ms=NOW + 3_600_000)

    assert why([span]) == ["Waits for the event approved, for 2 h 5 min now; gives up in 1 h."]


def test_a_retry_says_when_it_comes_and_how_often_at_most() -> None:
    span = charge(retry_policy=[1000, 5, 1.0, None, None, 0, []])
    told = "activity charge (task 0): next attempt due 2023-11-14T22:13:32.000Z"

    assert why([span], told) == ["charge failed; its next attempt is in 12 s (5 attempts at most)."]


def test_a_running_attempt_says_where() -> None:
    span = charge(retry_policy=[1000, 5, 1.0, None, None, 0, []])
    told = "activity charge (task 0), attempt 3, pending on worker host-1-ab (silent for 0.1 s)"

    assert why([span], told) == ["charge runs on host-1-ab, attempt 3 of 5, for 1 min 30 s now."]


def test_an_activity_that_no_worker_has_needs_one() -> None:
    told = "activity charge (task 0), attempt 1, waits for a worker of queue default"

    busy = why([charge()], told)
    missing = why([charge()], told, workers=())

    assert busy == ["charge waits for a free worker, for 1 min 30 s now."]
    assert missing == [
        "! No live worker has the activity charge (queue default). Start one, and it goes on."
    ]


def test_what_needs_a_person_comes_first() -> None:
    timer = Span("timer", "", 1, NOW, task_id=0, due_ms=NOW + 5000)

    assert why([timer], "wrong: it has no timer", status="SUSPENDED") == [
        "! Suspended: it goes on when somebody resumes it.",
        "! It has no timer.",
        "A timer fires in 5.0 s.",
    ]
    assert why([], status="STALLED")[0] == "! Stalled: no worker has it."


def test_a_failure_shows_its_causes() -> None:
    cause = {"type": "OSError", "message": "away", "stack": ""}
    failure = {"type": "ValueError", "message": "no", "stack": "x", "cause": cause}

    assert [one["type"] for one in failure_chain(failure)] == ["ValueError", "OSError"]
    assert failure_chain(None) == []


@pytest.mark.parametrize(
    ("ms", "text"),
    [(-5, "0 ms"), (8, "8 ms"), (1234, "1.2 s"), (59_999, "59 s"), (61_000, "1 min 1 s"),
     (3_600_000, "1 h"), (93_600_000, "1 d 2 h")],
)  # fmt: skip
def test_durations_have_two_units(ms: int, text: str) -> None:
    assert ago(ms) == text


def test_percentiles_of_few_values() -> None:
    assert percentile([], 0.5) == 0
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([1, 2], 0.95) == 2


def test_bars_lie_within_their_row() -> None:
    spans = [
        charge(end_ms=NOW, state="failed", attempts=3),
        Span("timer", "", 2, NOW, task_id=1),
    ]

    found = make_timeline(spans, NOW - 90_000, NOW)

    assert [row.took for row in found.rows] == ["1 min 30 s", "0 ms"]
    assert found.rows[0].picture.count("bar-tick") == 2
    assert 'x="996.0"' in found.rows[1].picture
    assert found.marks == ["0", "+22 s", "+45 s", "+1 min 7 s", "+1 min 30 s"]


def test_an_example_has_the_shape_of_the_schema() -> None:
    schema = {
        "$defs": {"Item": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
            "size": {"enum": ["S", "M"]},
            "at": {"type": "string", "format": "date-time"},
            "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "cost": {"type": "number", "default": 2.5},
            "me": {"$ref": "#"},
        },
        "required": ["items"],
    }

    found = example_of(schema)

    assert found["items"] == [{"name": ""}]
    assert (found["size"], found["cost"], found["note"]) == ("S", 2.5, "")
    assert ("size", '"S" or "M"', False) in fields_of(schema)
    assert ("items", "array", True) in fields_of(schema)
    assert example_of(None) is None


def test_lines_are_quoted_for_a_shell() -> None:
    start = start_lines("http://h:1", "my flow", '{"a": "it\'s"}', "shop")
    raised = raise_lines("http://h:1", "o-1", "a b", "")

    assert start["wfq"].startswith("wfq start 'my flow' ")
    assert start["wfq"].endswith(" --app-id shop")
    assert "/my%20flow/start?appID=shop" in start["curl"]
    assert raised == {
        "wfq": "wfq raise o-1 'a b'",
        "curl": "curl -X POST http://h:1/v1.0/workflows/dapr/o-1/raiseEvent/a%20b",
    }
