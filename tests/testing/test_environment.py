"""`Env`: the engine's rules, in memory, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

import wfq as wf
from tests.testing.flows import (
    RETRIES,
    Flow,
    Order,
    Receipt,
    app,  # noqa: F401 - found here by the plugin
    charge,
    counter,
    family,
    mail,
    monitor,
    person,
    purchase,
    trial,
)
from wfq.errors import (
    ConfigurationError,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    NonDeterministicWorkflow,
)
from wfq.testing import HANGS, Env, Stuck

CAR = Order("car", 5000)


@pytest.fixture
def env(wfq_env: Env) -> Env:
    """The plugin has found `app` in this module."""
    return wfq_env


# -- time


def test_a_month_takes_no_time(env: Env) -> None:
    begin = time.perf_counter()
    sent = env.mock(mail)
    started = env.start(trial, "ada")

    env.skip(days=29, hours=23)
    assert (started.status, started.custom_status) == ("RUNNING", "day 29")
    env.skip(hours=1)

    assert (started.status, started.output) == ("COMPLETED", "ended")
    assert sent.inputs == ["welcome ada", "goodbye ada"]
    assert env.now == datetime(2026, 1, 31)
    assert time.perf_counter() - begin < 10.0


def test_verbs_may_be_awaited(env: Env) -> None:
    async def test() -> Any:
        started = await env.start(trial, "ada")
        await env.skip(timedelta(days=30))
        return started.output

    assert asyncio.run(test()) == "ended"


def test_timers_fire_in_order_each_at_its_own_time(env: Env) -> None:
    env.start(trial, "a")
    env.skip(hours=12)
    env.start(trial, "b")

    env.skip(days=40)

    ends = [(call.input, call.at) for call in env.calls if "goodbye" in call.input]
    assert ends == [
        ("goodbye a", datetime(2026, 1, 31)),
        ("goodbye b", datetime(2026, 1, 31, 12)),
    ]


def test_run_skips_time_by_itself(env: Env) -> None:
    assert env.run(trial, "ada") == "ended"
    assert env.now == datetime(2026, 1, 31)


@pytest.mark.wfq(skip_time=True, start=datetime(2030, 5, 1))
def test_the_marker_sets_options(env: Env) -> None:
    assert env.start(family, ["ada", "li"]).result() == [
        {"name": "ada", "age": 36},
        {"name": "li", "age": 36},
    ]
    assert env.now == datetime(2030, 5, 4)


def test_a_result_that_needs_time_says_so(env: Env) -> None:
    started = env.start(trial, "ada")

    with pytest.raises(Stuck, match=r"waits for timer #1; the next timer is due at 2026-01-02"):
        started.result()


def test_a_result_that_needs_an_event_says_so(env: Env) -> None:
    started = env.start(counter, 0)

    with pytest.raises(Stuck, match=r"waits for event 'add'; raise it .*nothing more can happen"):
        started.result()


def test_skipping_skips_no_timer_that_was_cancelled(env: Env) -> None:
    started = env.start(purchase, CAR)
    started.raise_event("approval", "Ada")

    assert started.result() == "101 approved by Ada"
    assert env.skip_to_next() is False
    assert env.now == datetime(2026, 1, 1)


def test_a_delayed_start_waits(env: Env) -> None:
    started = env.start(trial, "ada", start_at=timedelta(hours=2))
    assert (started.status, env.calls) == ("PENDING", [])

    env.skip(hours=2)

    assert started.status == "RUNNING"
    assert env.calls[0].at == datetime(2026, 1, 1, 2)


def test_an_eternal_workflow_keeps_its_generations(env: Env) -> None:
    started = env.start(monitor, 0)

    env.skip(days=30)

    assert len(env.generations(started)) == 30 * 24 + 1
    assert started.state.generation == 720
    assert started.status == "RUNNING"


# -- activities


def test_results_and_inputs_are_typed(env: Env) -> None:
    seen = []

    def charged(order: Order) -> Receipt:
        seen.append(order)
        return Receipt(order, 7)

    env.mock(charge, calls=charged)
    back = env.mock("refund")

    assert env.run(purchase, CAR) == "refunded"
    assert seen == [CAR]
    assert back.inputs == [Receipt(CAR, 7)]


def test_a_mock_by_name_value_exception_and_sequence(env: Env) -> None:
    env.mock("mail", side_effect=["one", ValueError("two"), ValueError, "four"])
    started = env.start(trial, "ada")

    env.skip(days=31)

    assert started.output == "ended"
    attempts = [(call.attempt, call.at.minute) for call in env.calls[1:]]
    # At once, then after 1 and 2 minutes of virtual backoff.
    assert attempts == [(1, 0), (2, 1), (3, 3)]


def test_a_failure_without_retries_fails_the_workflow(env: Env) -> None:
    env.mock(charge, raises=wf.NonRetryableError("no money"))
    started = env.start(purchase, CAR)

    assert started.status == "FAILED"
    assert "no money" in started.failure.message
    with pytest.raises(wf.TaskFailedError, match="no money"):
        started.result()


def test_a_mock_may_hang_until_its_timeout(env: Env) -> None:
    env.mock(charge, HANGS)
    started = env.start(purchase, CAR)
    env.skip(minutes=9)
    assert started.status == "RUNNING"

    env.skip(minutes=1)

    assert started.failure.cause.error_type == "ActivityTimeout"


def test_a_mock_may_take_its_time(env: Env) -> None:
    env.mock("mail", "sent", after=timedelta(hours=3))
    started = env.start(monitor, 0)
    env.skip(hours=2)
    assert [event.event_type.value for event in started.history][-1] == "TaskScheduled"

    env.skip(hours=1)

    assert [event.event_type.value for event in started.history][-1] == "TimerCreated"


@pytest.mark.parametrize("double", [MagicMock(return_value="x"), AsyncMock(return_value="x")])
def test_mocks_of_unittest_are_called_with_the_input(env: Env, double: Any) -> None:
    double.reset_mock()
    env.mock(mail, calls=double)

    env.run(trial, "ada")

    assert [call.args for call in double.call_args_list] == [("welcome ada",), ("goodbye ada",)]


def test_a_child_workflow_is_mocked_like_an_activity(env: Env) -> None:
    child = env.mock(person, {"name": "mock"})

    assert env.run(family, ["ada", "li"]) == [{"name": "mock"}] * 2
    assert child.inputs == ["ada", "li"]


def test_an_activity_that_nobody_has_stalls_until_it_is_mocked() -> None:
    runtime = wf.WorkflowRuntime()

    @runtime.workflow
    def lost(ctx: wf.WorkflowContext) -> Flow:
        return (yield ctx.call_activity("elsewhere", input=1))

    with Env(runtime) as env:
        started = env.start(lost)
        assert started.status == "STALLED"
        assert "no worker" in (started.state.stalled_reason or "")

        env.mock("elsewhere", 5)

        assert (started.status, started.output) == ("COMPLETED", 5)


def test_a_child_that_nobody_has_is_named() -> None:
    runtime = wf.WorkflowRuntime()

    @runtime.workflow
    def parent(ctx: wf.WorkflowContext) -> Flow:
        yield ctx.call_child_workflow("elsewhere")

    with Env(runtime) as env:
        started = env.start(parent)
        assert [child.status for child in started.children] == ["STALLED"]
        with pytest.raises(Stuck, match="no worker has the workflow 'elsewhere'"):
            started.result()


def test_heartbeat_details_reach_the_next_attempt() -> None:
    runtime = wf.WorkflowRuntime()

    @runtime.activity
    def copy(ctx: wf.ActivityContext, _: int) -> int:
        done = ctx.heartbeat_details or 0
        ctx.heartbeat(done + 10)
        if done < 20:
            raise OSError("again")
        return done

    @runtime.workflow
    def copying(ctx: wf.WorkflowContext) -> Flow:
        return (yield ctx.call_activity(copy, input=1, retry_policy=RETRIES))

    with Env(runtime) as env:
        assert env.run(copying) == 20


# -- verbs


def test_suspended_instances_keep_their_events(env: Env) -> None:
    started = env.start(purchase, CAR)
    started.suspend()
    started.raise_event("APPROVAL", "Ada")
    assert started.status == "SUSPENDED"

    started.resume()

    assert started.result() == "101 approved by Ada"


def test_terminate_takes_the_children_along(env: Env) -> None:
    started = env.start(family, ["ada", "li"])

    started.terminate("enough")

    assert (started.status, started.output) == ("TERMINATED", "enough")
    assert [child.status for child in started.children] == ["TERMINATED", "TERMINATED"]
    with pytest.raises(Stuck, match="it has ended: TERMINATED"):
        started.result()


def test_events_are_counted_once_and_carried_over_generations(env: Env) -> None:
    started = env.start(counter, 0)
    started.raise_event("add", 1, event_id="m1")
    started.raise_event("add", 1, event_id="m1")
    assert started.status == "RUNNING"

    started.raise_event("add", 2)

    assert started.result() == 3


def test_workflows_send_each_other_events() -> None:
    runtime = wf.WorkflowRuntime()

    @runtime.workflow
    def sender(ctx: wf.WorkflowContext, target: str) -> None:
        ctx.send_event(target, "add", 3)

    runtime.register_workflow(counter)
    with Env(runtime) as mine:
        target = mine.start("counter", 0)
        mine.run(sender, str(target))
        assert target.result() == 3


def test_a_crash_loses_nothing(env: Env) -> None:
    started = env.start(family, ["ada", "li"])
    for _ in range(4):
        env.crash()
        env.skip(days=1)

    assert started.result() == [{"name": "ada", "age": 36}, {"name": "li", "age": 36}]


def test_versions_and_patches_are_those_of_the_engine(env: Env) -> None:
    assert env.run("onboard") == "v2"
    assert [call.input for call in env.calls] == ["hello", "mail"]


def test_wrong_use_is_said(env: Env) -> None:
    done = env.start(trial, "ada", instance_id="t-1")

    with pytest.raises(InstanceAlreadyExists, match="t-1"):
        env.start(trial, "ada", instance_id="t-1")
    with pytest.raises(InstanceNotFound, match="there are: t-1"):
        env.raise_event("t-2", "x")
    with pytest.raises(ConfigurationError, match="no workflow 'nowhere'"):
        env.start("nowhere")
    done.terminate()
    with pytest.raises(InstanceFinished, match="is TERMINATED"):
        done.suspend()
    with pytest.raises(TypeError, match="one of"):
        env.mock("x", "value", raises=ValueError)


def test_without_an_app_there_is_none() -> None:
    with pytest.raises(ConfigurationError, match="has no app yet"):
        Env().start("trial")


def test_the_app_is_found_with_the_first_workflow() -> None:
    with Env() as env:
        assert env.run(trial, "ada") == "ended"


# -- code that is not deterministic


def _drawn(ctx: wf.WorkflowContext) -> Flow:
    yield ctx.call_activity("draw", input=random.random())


def _branching(ctx: wf.WorkflowContext) -> Flow:
    if not ctx.is_replaying:
        yield ctx.call_activity("draw")
    yield ctx.create_timer(timedelta(days=1))


def _late(ctx: wf.WorkflowContext) -> Flow:
    yield ctx.create_timer(timedelta(hours=time.perf_counter()))


@pytest.mark.parametrize("workflow", [_drawn, _branching, _late])
def test_code_that_is_not_deterministic_fails_its_test(workflow: Any) -> None:
    runtime = wf.WorkflowRuntime()
    runtime.register_workflow(workflow)
    with Env(runtime) as env:
        env.mock("draw")

        with pytest.raises(NonDeterministicWorkflow) as raised:
            env.run(workflow)

    assert workflow.__name__ in (raised.value.source or str(raised.value))


def test_a_workflow_that_never_rests_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wfq.testing.environment.MAX_STEPS", 500)
    runtime = wf.WorkflowRuntime()

    @runtime.workflow
    def spinning(ctx: wf.WorkflowContext) -> Flow:
        while True:
            yield ctx.call_activity("spin")

    with Env(runtime) as mine:
        mine.mock("spin")
        with pytest.raises(Stuck, match="do not come to rest within 500"):
            mine.start(spinning)
