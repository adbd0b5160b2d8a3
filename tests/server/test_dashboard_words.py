"""Why an instance waits, durations, forms: the words of the dashboard."""

from __future__ import annotations

from typing import Any

import pytest

from wfq.analysis.spans import Span
from wfq.checker.explanation import Explanation
from wfq.checker.waiting import Error, Lack, WaitingTask
from wfq_server.dashboard.forms import example_of, fields_of, raise_lines, start_lines
from wfq_server.dashboard.timeline import attempts_of, make_timeline, take_attempts
from wfq_server.dashboard.why import failure_chain, reasons
from wfq_server.dashboard.wording import ago, percentile

NOW = 1_700_000_000_000
NO_WORKER = Lack("worker", "default", "charge")


def explained(*tasks: WaitingTask, status: str = "RUNNING", **more: Any) -> Explanation:
    return Explanation("o-1", status, tasks=list(tasks), now_ms=NOW, **more)


def why(told: Explanation, **children: Explanation) -> list[str]:
    found = reasons(told, {"o-1": told, **children})
    return [
        ("! " if one.bad else "") + one.text + (f" ({one.detail})" if one.detail else "")
        for one in found
    ]


def charge(state: str, **more: Any) -> WaitingTask:
    return WaitingTask(
        task_id=0, kind="activity", name="charge", state=state, since_ms=NOW - 90_000,
        **{"queue": "default", "attempt": 1, **more},
    )  # fmt: skip


def child(state: str, **more: Any) -> WaitingTask:
    return WaitingTask(
        task_id=1, kind="child", name="deliver", state=state, since_ms=NOW - 90_000,
        child_id="kid", **more,
    )  # fmt: skip


def awaited(**more: Any) -> WaitingTask:
    return WaitingTask(
        task_id=0, kind="event", name="approved", state="waiting", since_ms=NOW - 7_500_000, **more
    )


def test_an_event_says_since_when_and_until_when() -> None:
    task = awaited(due_ms=NOW + 3_600_000, raised=("aproved",))

    assert why(explained(task)) == [
        (
            "Waits for the event approved, for 2 h 5 min now; gives up in 1 h. "
            "(events that came so far: aproved)"
        )
    ]


def test_a_retry_says_which_attempt_comes_when_and_what_went_wrong() -> None:
    more: dict[str, Any] = {"due_ms": NOW + 12_000, "last_error": Error("ValueError", "no card")}

    limited = why(explained(charge("retrying", attempt=3, of=5, **more)))
    unlimited = why(explained(charge("retrying", attempt=2, due_ms=NOW - 1)))

    assert limited == [
        "charge has failed 2 times: attempt 3 of 5 in 12 s. (last error: ValueError: no card)"
    ]
    assert unlimited == ["charge has failed once: attempt 2 now."]


def test_a_running_attempt_says_where() -> None:
    running = charge("running", attempt=3, of=5, worker="host-1-ab", worker_alive=True)
    left = charge("running", worker="host-1-ab", worker_alive=False)

    assert why(explained(running)) == [
        "charge runs on host-1-ab, attempt 3 of 5, for 1 min 30 s now."
    ]
    assert "not alive any more; another worker takes it over" in why(explained(left))[0]


def test_an_activity_that_no_worker_has_needs_one() -> None:
    busy = why(explained(charge("queued", busy=8)))
    missing = why(explained(charge("queued", lacks=(NO_WORKER,))))
    misspelt = why(explained(charge(
        "unknown", due_ms=NOW, lacks=(Lack("activity", "default", "charge", "charges"),)
    )))  # fmt: skip

    assert busy == [
        "charge waits for a free worker, for 1 min 30 s now (queue default: all 8 slots are busy)."
    ]
    assert missing == [
        "! No live worker has the activity charge (queue default). Start one, and it goes on."
    ]
    assert "They have charges." in misspelt[0]


def test_what_holds_of_many_tasks_is_said_once() -> None:
    many = [charge("queued", lacks=(NO_WORKER,)) for _ in range(50)]

    found = why(explained(*many, awaited(), further=1200))

    assert found[0].startswith("! No live worker has the activity charge")
    assert found[0].endswith("That holds for 50 tasks.")
    assert found[-1] == "And 1,200 further tasks."
    assert len(found) == 3


def test_a_parent_says_what_keeps_its_child() -> None:
    stalled = child("STALLED", child_reason="no worker has the workflow 'deliver'")
    stuck = explained(charge("queued", lacks=(NO_WORKER,)))
    grandchild = explained(child("RUNNING"))
    fine = explained(awaited())

    assert why(explained(stalled)) == [
        "! The child workflow deliver is stalled: no worker has the workflow 'deliver'."
    ]
    assert why(explained(child("SUSPENDED"))) == [
        "! The child workflow deliver is suspended: it goes on when somebody resumes it."
    ]
    assert why(explained(child("RUNNING")), kid=stuck) == [
        (
            "! The child workflow deliver is stuck: no live worker has the activity charge "
            "(queue default). Start one, and it goes on."
        )
    ]
    assert why(explained(child("RUNNING")), kid=fine) == [
        (
            "The child workflow deliver has been running for 1 min 30 s. "
            "(Waits for the event approved, for 2 h 5 min now.)"
        )
    ]
    # A family that goes round in a circle, which none does, ends all the same.
    assert why(explained(child("RUNNING")), kid=grandchild)
    assert reasons(explained(stalled), {})[0].child == "kid"


def test_what_needs_a_person_comes_first() -> None:
    timer = WaitingTask(
        task_id=0, kind="timer", name="", state="waiting", since_ms=NOW, due_ms=NOW + 5000
    )
    suspended = explained(timer, status="SUSPENDED", wrong=["W4 it has no timer"])
    stalled = explained(status="STALLED", stalled="no worker has it", todo=["start one"])

    assert why(suspended) == [
        "! Suspended: it goes on when somebody resumes it.",
        "! Something it needs is missing: W4 it has no timer. (wfq doctor --repair puts it back)",
        "A timer fires in 5.0 s.",
    ]
    assert why(stalled) == ["! Stalled: no worker has it. (start one)"]


def test_a_start_says_what_it_needs() -> None:
    lack = Lack("orchestrator", "shop", "order")
    later = explained(begun=False, start_due_ms=NOW + 5000, status="PENDING")

    assert why(explained(begun=False, lacks=[lack])) == [
        "! No live worker has its code (application shop). Start one, and it goes on."
    ]
    assert why(explained(begun=False)) == ["It is about to begin."]
    assert why(later) == ["It starts in 5.0 s, at 2023-11-14T22:13:25.000Z."]
    assert why(explained()) == ["It is about to go on."]


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


def bar(**more: Any) -> Span:
    return Span("activity", "charge", 1, NOW - 90_000, task_id=0, **more)


def test_bars_lie_within_their_row() -> None:
    spans = [bar(end_ms=NOW, state="done"), Span("timer", "", 2, NOW, task_id=1)]

    found = make_timeline(spans, NOW - 90_000, NOW)

    assert [row.took for row in found.rows] == ["1 min 30 s", "0 ms"]
    assert 'x="996.0"' in found.rows[1].picture
    assert found.marks == ["0", "+22 s", "+45 s", "+1 min 7 s", "+1 min 30 s"]


def test_ticks_stand_where_attempts_began_and_what_is_between_is_dashed() -> None:
    times = [(NOW - 90_000, NOW - 81_000), (NOW - 45_000, NOW)]
    span = bar(end_ms=NOW, state="done", attempts=2, attempt_times=times)

    picture = make_timeline([span], NOW - 90_000, NOW).rows[0].picture

    assert '<rect class="bar-fill bar-try" x="0.0" y="3" width="100.0"' in picture
    assert '<rect class="bar-fill" x="500.0" y="3" width="500.0"' in picture
    assert '<rect class="bar-tick" x="500.0"' in picture
    assert picture.count("bar-line") == 1


def test_an_open_activity_shows_its_attempts_so_far() -> None:
    past = ((NOW - 90_000, NOW - 81_000), (NOW - 50_000, NOW - 45_000))
    retrying, queued, running, first = bar(), bar(), bar(), bar()

    take_attempts([retrying], [charge("retrying", attempt=3, attempt_times=past, due_ms=NOW)])
    take_attempts([queued], [charge("queued")])
    take_attempts([running], [charge(
        "running", attempt=3, attempt_times=past, queued_ms=NOW - 9_000, worker="w",
        worker_alive=True,
    )])  # fmt: skip
    take_attempts([first], [charge("running", worker="w", worker_alive=True)])
    pictures = [
        make_timeline([span], NOW - 90_000, NOW).rows[0].picture
        for span in (retrying, queued, running, first)
    ]

    assert [attempts_of(span) for span in (retrying, queued, running, first)] == [
        "2 failed attempts", "", "attempt 3", "",
    ]  # fmt: skip
    assert [p.count("bar-tick") for p in pictures] == [2, 0, 3, 0]
    assert [p.count("bar-try") for p in pictures] == [2, 0, 2, 0]
    assert [p.count("bar-line") for p in pictures] == [1, 1, 1, 0]
    assert '<rect class="bar-fill" x="900.0" y="3" width="100.0"' in pictures[2]


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
