"""A history as spans, and spans laid over the picture."""

from __future__ import annotations

import textwrap
from typing import Any

from wfq.analysis.graph import Graph
from wfq.analysis.progress import Progress, lay_over
from wfq.analysis.sources import read_source
from wfq.analysis.spans import Span, spans_of
from wfq.analysis.svg import to_svg
from wfq.core.history import HistoryEvent


def read(body: str) -> Graph:
    source = f"def flow(ctx, given):\n{textwrap.indent(textwrap.dedent(body), '    ')}"
    return read_source(source, "flow.py", 1, "flow")


def history(*told: tuple[str, dict[str, Any]]) -> list[HistoryEvent]:
    """Events a second apart."""
    return [
        HistoryEvent(number, 1000 * number, kind, number, fields)
        for number, (kind, fields) in enumerate(told)
    ]


def scheduled(task_id: int, name: str) -> tuple[str, dict[str, Any]]:
    return "TaskScheduled", {"task_id": task_id, "name": name}


def completed(task_id: int, **more: Any) -> tuple[str, dict[str, Any]]:
    return "TaskCompleted", {"task_id": task_id, **more}


def states(found: dict[int, Progress]) -> list[str]:
    return [found[number].state for number in sorted(found)]


# --- spans


def test_a_span_goes_from_its_schedule_to_its_outcome() -> None:
    first, second = spans_of(
        history(
            ("ExecutionStarted", {}),
            scheduled(0, "charge"),
            scheduled(1, "ship"),
            completed(0, result=7, attempts=3),
        )
    )

    assert (first.name, first.start_ms, first.end_ms, first.state) == ("charge", 1000, 3000, "done")
    assert (first.result, first.attempts) == (7, 3)
    assert (second.state, second.end_ms) == ("open", None)


def test_waits_get_events_in_order_and_in_any_case() -> None:
    found = spans_of(
        history(
            ("EventRaised", {"name": "GO", "data": 1}),
            ("EventAwaited", {"task_id": 0, "name": "go"}),
            ("EventAwaited", {"task_id": 1, "name": "Go"}),
            ("EventAwaited", {"task_id": 2, "name": "go"}),
            ("EventRaised", {"name": "go", "data": 2}),
        )
    )

    assert [(s.state, s.result) for s in found] == [("done", 1), ("done", 2), ("open", None)]
    assert found[0].end_ms == found[0].start_ms


def test_a_wait_that_timed_out_takes_no_later_event() -> None:
    first, second = spans_of(
        history(
            ("EventAwaited", {"task_id": 0, "name": "go"}),
            ("EventTimedOut", {"task_id": 0, "name": "go"}),
            ("EventAwaited", {"task_id": 1, "name": "go"}),
            ("EventRaised", {"name": "go"}),
        )
    )

    assert (first.state, second.state) == ("failed", "done")


def test_what_is_open_at_the_end_is_dropped() -> None:
    (span,) = spans_of(
        history(("TimerCreated", {"task_id": 0, "fire_at_ms": 99}), ("ExecutionCompleted", {}))
    )

    assert (span.state, span.due_ms, span.end_ms) == ("dropped", 99, 1000)


# --- progress

ORDER = """
    if given < 1000:
        return "auto"
    yield ctx.call_activity("ask")
    event = ctx.wait_for_external_event("approved")
    late = ctx.create_timer(timedelta(hours=24))
    winner = yield wf.when_any([event, late])
    if winner == late:
        return "cancelled"
    yield ctx.call_activity("place")
    return f"done by {given}"
"""


def test_a_waiting_order_shows_what_is_done_waited_for_and_ahead() -> None:
    spans = spans_of(
        history(
            scheduled(0, "ask"),
            completed(0),
            ("EventAwaited", {"task_id": 1, "name": "approved"}),
            ("TimerCreated", {"task_id": 2, "fire_at_ms": 1}),
        )
    )

    found = lay_over(read(ORDER), spans, ended=False)

    # return "auto", ask, approved, 24 h, return "cancelled", place, return
    assert states(found) == ["skipped", "done", "waiting", "waiting", "ahead", "ahead", "ahead"]


def test_an_approved_order_took_one_way_and_not_the_others() -> None:
    spans = spans_of(
        history(
            scheduled(0, "ask"),
            completed(0),
            ("EventAwaited", {"task_id": 1, "name": "approved"}),
            ("TimerCreated", {"task_id": 2, "fire_at_ms": 1}),
            ("EventRaised", {"name": "Approved"}),
            scheduled(3, "place"),
            completed(3),
            ("ExecutionCompleted", {"output": "done by 7"}),
        )
    )

    found = lay_over(read(ORDER), spans, ended=True, completed=True, output="done by 7")

    assert states(found) == ["skipped", "done", "done", "skipped", "skipped", "done", "done"]


def test_a_constant_result_tells_which_return_was_taken() -> None:
    found = lay_over(read(ORDER), [], ended=True, completed=True, output="auto")

    assert states(found)[0] == "done"
    assert set(states(found)[1:]) == {"skipped"}


def test_rounds_of_a_loop_are_counted() -> None:
    graph = read(
        """
        for x in given:
            yield ctx.call_activity("a")
            yield ctx.call_activity("b")
        yield ctx.call_activity("c")
        """
    )
    spans = spans_of(
        history(scheduled(0, "a"), completed(0), scheduled(1, "b"), completed(1), scheduled(2, "a"))
    )

    found = lay_over(graph, spans, ended=False)

    assert found[0] == Progress("running", done=1, open=1)
    assert found[0].badge == "1 of 2"
    assert (found[1].state, found[2].state) == ("done", "ahead")


def test_steps_of_one_name_are_told_apart_by_order() -> None:
    graph = read('yield ctx.call_activity("a")\nyield ctx.call_activity("a")')

    found = lay_over(graph, [span("a", "done"), span("a", "failed")], ended=True)

    assert states(found) == ["done", "failed"]


def test_a_step_whose_name_only_a_run_knows_takes_what_no_other_fits() -> None:
    graph = read('yield ctx.call_activity(given)\nyield ctx.call_activity("b")')

    found = lay_over(graph, [span("x", "done"), span("b", "open")], ended=False)

    assert states(found) == ["done", "running"]


def test_the_picture_shows_states_and_counts() -> None:
    graph = read('yield wf.when_all([ctx.call_activity("a") for x in given])')
    spans = [span("a", "done"), span("a", "done"), span("a", "open")]

    svg = to_svg(graph, lay_over(graph, spans, ended=False), alone=False)

    assert "g-running" in svg
    assert "2 of 3" in svg
    assert "<style" not in svg


def span(name: str, state: Any) -> Span:
    return Span("activity", name, 0, 0, state=state)
