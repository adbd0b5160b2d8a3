"""The order fuzzer: it finds what is planted, shrinks it, and leaves good code alone."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

import wfq as wf
from tests.testing.flows import Flow, Order, app, purchase
from wfq.errors import ConfigurationError
from wfq.testing import Finding, Outcome, Report, fuzz

CAR = Order("car", 5000)


def found(workflow: Any, value: Any = None, **options: Any) -> Finding:
    """Fuzz what must fail."""
    runtime = options.pop("app", None)
    if runtime is None:
        runtime = wf.WorkflowRuntime()
        runtime.register_workflow(workflow)
    with pytest.raises(AssertionError) as raised:
        fuzz(workflow, value, app=runtime, **options)
    finding: Finding = raised.value.finding  # type: ignore[attr-defined]  # it is a Found
    # Whatever is found can be found again by its script.
    with pytest.raises(AssertionError) as again:
        fuzz(workflow, value, app=runtime, script=finding.script, **options)
    assert again.value.finding.kind == finding.kind  # type: ignore[attr-defined]  # as above
    return finding


def test_good_workflows_are_left_alone() -> None:
    report = fuzz(purchase, CAR, events={"approval": "Ada"}, seeds=150)

    assert isinstance(report, Report)
    assert report.runs == 150
    assert report.orders > 50
    assert report.statuses.keys() == {"COMPLETED", "FAILED"}


def test_families_versions_and_generations_are_left_alone() -> None:
    fuzz("family", ["ada", "li"], app=app, seeds=30)
    fuzz("onboard", app=app, seeds=30)
    fuzz("counter", 0, app=app, events=[("add", 1), ("ADD", 2)], seeds=60)
    fuzz("monitor", 0, app=app, seeds=3, max_steps=60)


def _clocked(ctx: wf.WorkflowContext) -> Flow:
    try:
        yield ctx.call_activity("a")
    except wf.TaskFailedError:
        yield ctx.call_activity("undo", input=random.random())


def test_nondeterminism_in_a_rare_branch_is_found_by_one_step() -> None:
    finding = found(_clocked, activities={"a": 1, "undo": 1})

    assert finding.kind == "nondeterminism"
    assert finding.script == ["fail a#0"]
    assert "_clocked" in finding.message


def _careless(ctx: wf.WorkflowContext) -> Flow:
    done = []
    try:
        for name in ("a", "b", "c"):
            yield ctx.call_activity(name)
            done.append(name)
    except wf.TaskFailedError:
        yield ctx.call_activity("undo", input=done[1])


def test_a_mistake_in_the_compensation_is_found() -> None:
    finding = found(_careless, activities=dict.fromkeys(("a", "b", "c", "undo")))

    assert finding.kind == "failed"
    assert finding.message.startswith("IndexError")
    assert finding.script in (["fail a#0"], ["fail b#1"])
    assert "It takes these steps" in finding.explain()


def _forgetful(ctx: wf.WorkflowContext, round_: int) -> Flow:
    yield ctx.call_activity("a")
    yield ctx.wait_for_external_event("go")
    if round_ < 2:
        ctx.continue_as_new(round_ + 1)


def test_an_event_that_gets_lost_leaves_it_stuck() -> None:
    finding = found(_forgetful, 1, events=[("go", 1), ("go", 2)], activities={"a": 1})

    assert finding.kind == "stuck"
    assert "waits for event 'go'" in finding.message
    # One event alone comes too early for the first generation to hand on.
    assert len(finding.script) <= 2
    assert all(step.startswith("raise go#") for step in finding.script)


def test_an_event_that_was_not_given_is_not_a_failure() -> None:
    runtime = wf.WorkflowRuntime()
    runtime.register_workflow(_forgetful)

    report = fuzz(_forgetful, 2, app=runtime, activities={"a": 1}, seeds=20)

    assert report.waiting == {"go"}


def test_code_that_is_missing_is_found() -> None:
    finding = found(_forgetful, 2, events={"go": 1})

    assert finding.kind == "stalled"
    assert "'a'" in finding.message
    assert finding.script == []


def _orphaned(ctx: wf.WorkflowContext) -> Flow:
    yield ctx.call_child_workflow("elsewhere")


def test_a_child_that_is_missing_is_found() -> None:
    finding = found(_orphaned)

    assert finding.kind == "stalled"
    assert finding.message == "no worker has the workflow 'elsewhere'"


def _reserved(ctx: wf.WorkflowContext) -> Flow:
    yield ctx.call_activity("reserve")
    late = ctx.create_timer(timedelta(hours=1))
    paid = ctx.call_activity("charge")
    if (yield wf.when_any([paid, late])) is late:
        yield ctx.call_activity("release")
        return "too late"
    return "sold"


def _sells_once(outcome: Outcome) -> None:
    if outcome.status == "COMPLETED" and outcome.done("charge"):
        assert not outcome.done("release"), "charged and released"


def test_what_the_user_asks_for_is_checked() -> None:
    activities = dict.fromkeys(("reserve", "charge", "release"))

    finding = found(_reserved, activities=activities, check=_sells_once)

    assert finding.kind == "check"
    assert finding.message == "_sells_once: charged and released"
    assert finding.script == ["fire timer#1"]


def test_a_check_may_return_false() -> None:
    finding = found(_forgetful, 2, events={"go": 1}, activities={"a": 1}, check=lambda o: False)

    assert finding.kind == "check"
    assert finding.script == []


def _refusing(ctx: wf.WorkflowContext) -> Flow:
    yield ctx.call_activity("a")
    raise RuntimeError("never")


def test_failing_without_a_fault_is_found_unless_allowed() -> None:
    finding = found(_refusing, activities={"a": 1})
    assert finding.message == "RuntimeError: never, though no fault was put in"

    runtime = wf.WorkflowRuntime()
    runtime.register_workflow(_refusing)
    fuzz(_refusing, app=runtime, activities={"a": 1}, allow=[RuntimeError], seeds=20)


def test_an_activity_that_raises_by_itself_is_no_fault() -> None:
    runtime = wf.WorkflowRuntime()

    @runtime.activity
    def picky(value: int) -> int:
        raise ValueError("never that")

    @runtime.workflow
    def trusting(ctx: wf.WorkflowContext) -> Flow:
        yield ctx.call_activity(picky, input=1)

    finding = found(trusting, app=runtime)

    assert (finding.kind, finding.script) == ("failed", [])
    fuzz(trusting, app=runtime, allow=["ValueError"], seeds=20)


def test_a_fault_excuses_a_failure_unless_it_must_complete() -> None:
    finding = found(purchase, CAR, app=app, must_complete=True, seeds=50)

    assert finding.script in (["fail charge#0"], ["time-out charge#0"])


def test_a_seed_repeats_itself() -> None:
    def orders(seed: int) -> tuple[int, dict[str, int]]:
        report = fuzz(purchase, CAR, events={"approval": 1}, seeds=40, seed=seed)
        return report.orders, report.statuses

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)


def test_each_activity_is_called_once_for_each_input() -> None:
    calls = []
    runtime = wf.WorkflowRuntime()

    @runtime.activity
    def a(value: int) -> int:
        calls.append(value)
        return value

    @runtime.workflow
    def twice(ctx: wf.WorkflowContext) -> Flow:
        yield ctx.call_activity(a, input=1)
        yield ctx.call_activity(a, input=2)

    fuzz(twice, seeds=30, app=runtime)

    assert sorted(calls) == [1, 2]


def test_an_unknown_workflow_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"no workflow 'nowhere'; it has .*purchase"):
        fuzz("nowhere", app=app)
