"""Stopping before an event, and giving it another result."""

from __future__ import annotations

from types import FrameType
from typing import Any

import pytest

import wfq as wf
from tests.testing.flows import Flow, Order, app, charge, family, purchase
from wfq.errors import ConfigurationError, NonDeterministicWorkflow
from wfq.testing import Env, SavedHistory
from wfq.testing.timetravel import stop_before, what_if

CAR = Order("car", 5000)
#: Numbers of the events of `bought`.
SCHEDULED, COMPLETED, AWAITED, TIMER, RAISED, ENDED = 1, 2, 3, 4, 5, 6


@pytest.fixture
def bought(wfq_env: Env) -> SavedHistory:
    started = wfq_env.start(purchase, CAR, instance_id="po-7")
    started.raise_event("approval", "Ada")
    return started.saved


def names(history: SavedHistory, index: int) -> tuple[str, list[str]]:
    stopped = stop_before(app, history, index)
    return stopped.event.event_type.value, sorted(stopped.frames[0].locals)


def test_each_event_has_the_locals_that_were_there_before_it(bought: SavedHistory) -> None:
    assert names(bought, SCHEDULED) == ("TaskScheduled", ["ctx", "order"])
    assert names(bought, COMPLETED) == ("TaskCompleted", ["ctx", "order"])
    assert names(bought, AWAITED) == ("EventAwaited", ["ctx", "order", "receipt"])
    assert names(bought, TIMER) == ("TimerCreated", ["approval", "ctx", "order", "receipt"])
    assert names(bought, RAISED)[1] == ["approval", "ctx", "late", "order", "receipt"]
    # The function has returned by then; its frame is kept for this.
    assert names(bought, ENDED)[1] == ["approval", "ctx", "late", "order", "receipt", "winner"]


def test_the_locals_are_real_and_typed(bought: SavedHistory) -> None:
    frame = stop_before(app, bought, AWAITED).frames[0]

    assert frame.function.endswith("purchase")
    assert frame.text == 'approval = ctx.wait_for_external_event("approval")'
    assert frame.locals["order"].startswith("Order(item='car', cost=5000")
    assert frame.locals["receipt"].startswith("Receipt(order=Order(")


def test_before_the_start_there_is_no_code(bought: SavedHistory) -> None:
    assert stop_before(app, bought, 0).frames == []


def test_a_debugger_gets_the_live_frames(bought: SavedHistory) -> None:
    seen: list[Any] = []

    def halt(frames: list[FrameType]) -> None:
        seen.append(frames[0].f_locals["order"])

    stop_before(app, bought, AWAITED, halt)

    assert seen == [CAR]


def test_nested_functions_show_innermost_first(wfq_env: Env) -> None:
    runtime = wf.WorkflowRuntime()

    def inner(ctx: wf.WorkflowContext, deep: int) -> Flow:
        yield ctx.call_activity(charge, input=CAR)
        ctx.set_custom_status("charged")
        ctx.is_patched("p")
        yield ctx.wait_for_external_event("x")

    @runtime.workflow
    def outer(ctx: wf.WorkflowContext) -> Flow:
        top = 1
        yield from inner(ctx, top + 1)

    runtime.register_activity(charge)
    with Env(runtime) as env:
        saved = env.start(outer).saved

    for index, text in [
        (2, "yield ctx.call_activity(charge, input=CAR)"),
        (3, 'ctx.set_custom_status("charged")'),
        (4, 'ctx.is_patched("p")'),
        (5, 'yield ctx.wait_for_external_event("x")'),
    ]:
        frames = stop_before(runtime, saved, index).frames
        assert [frame.function.rpartition(".")[2] for frame in frames] == ["inner", "outer"]
        assert frames[0].text == text
        assert frames[1].locals["top"] == "1"


def test_coroutines_stop_too(wfq_env: Env) -> None:
    started = wfq_env.start(family, ["ada"])
    wfq_env.skip(days=3)

    frame = stop_before(app, started.saved, 2).frames[0]

    assert frame.locals["names"] == "['ada']"
    assert "children" in frame.locals


def test_a_number_that_is_not_there_is_said(bought: SavedHistory) -> None:
    with pytest.raises(ConfigurationError, match="has no event 7; its history has 0 to 6"):
        stop_before(app, bought, 7)


def test_code_that_does_not_fit_cannot_be_stopped(bought: SavedHistory) -> None:
    runtime = wf.WorkflowRuntime()

    @runtime.workflow(name="purchase")
    def other(ctx: wf.WorkflowContext, order: Any) -> Flow:
        yield ctx.call_activity("other")

    with pytest.raises(NonDeterministicWorkflow):
        stop_before(runtime, bought, RAISED)
    with pytest.raises(ConfigurationError, match="no code for the workflow 'purchase'"):
        stop_before(wf.WorkflowRuntime(), bought, RAISED)


# -- what if


def test_another_result_shows_other_decisions(bought: SavedHistory) -> None:
    found = what_if(app, bought, COMPLETED, ValueError("no money"))

    assert found.differs
    assert found.before[-1] == 'CompleteWorkflow "101 approved by Ada"'
    assert found.after == ["FailWorkflow with TaskFailedError: activity 'charge' failed: no money"]
    assert found.ending == "it ends FAILED"


def test_another_event_shows_in_the_output(bought: SavedHistory) -> None:
    found = what_if(app, bought, RAISED, "Bob")

    assert found.diff == [
        '-CompleteWorkflow "101 approved by Ada"',
        '+CompleteWorkflow "101 approved by Bob"',
    ]


def test_another_input_goes_through_the_whole_history(bought: SavedHistory) -> None:
    found = what_if(app, bought, 0, {"item": "pen", "cost": 1})

    assert found.after[0].startswith('ScheduleTask \'charge\' (task 0) {"item":"pen"')
    assert found.ending == "it ends COMPLETED"


def test_the_same_result_decides_the_same(bought: SavedHistory) -> None:
    assert not what_if(app, bought, RAISED, "Ada").differs


def test_the_history_answers_only_what_it_was_asked(wfq_env: Env) -> None:
    runtime = wf.WorkflowRuntime()

    @runtime.workflow
    def choosing(ctx: wf.WorkflowContext) -> Flow:
        way = yield ctx.call_activity("choose")
        yield ctx.call_activity(way)
        yield ctx.call_activity("last")

    with Env(runtime) as env:
        env.mock("choose", "left")
        env.mock("left")
        env.mock("last")
        saved = env.start(choosing).saved

    found = what_if(runtime, saved, 2, "right")

    assert found.diff[:2] == ["-ScheduleTask 'left' (task 1)", "-ScheduleTask 'last' (task 2)"]
    assert "+ScheduleTask 'right' (task 1)" in found.diff
    assert "activity 'right' pending" in found.ending
    assert "the history has no answer" in found.ending


def test_only_results_can_be_others(bought: SavedHistory) -> None:
    with pytest.raises(ConfigurationError, match="event 1 is TaskScheduled: only a result"):
        what_if(app, bought, SCHEDULED, 1)
