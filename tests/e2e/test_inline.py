"""Inline activities: run within the turn, recorded like any other, at least once."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

import wfq as wf
from tests.e2e.conftest import FleetFor
from tests.e2e.fleet import task_results
from tests.servers import command_client, poll
from wfq.storage.keys import Namespace

SLOW_S = 0.05


class Stage:
    """A runtime with inline activities; `worker` is False for one that runs no activities."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.runtime = wf.WorkflowRuntime(redis_url=url)
        self.client = wf.WorkflowClient(redis_url=url)

    def output(self, workflow: Any, value: Any = None) -> Any:
        name = self.client.schedule_new_workflow(workflow, input=value)
        state = self.client.wait_for_workflow_completion(name, timeout_in_seconds=20)
        assert state is not None
        assert state.runtime_status.name == "COMPLETED", state
        self.last = name
        return state.output()

    def added(self) -> int:
        """Activity entries that were ever added."""
        total = 0
        with command_client(self.url) as client:
            for p in range(16):
                key = Namespace("default", 16).activities(p, "default")
                if client.exists(key):
                    total += client.xinfo_stream(key)["entries-added"]
        return total

    def turns(self) -> int:
        """Turn records of the last instance."""
        namespace = Namespace("default", 16)
        key = namespace.history(self.last)
        with command_client(self.url) as client:
            return int(client.llen(key)) - 1


@pytest.fixture
def stage(valkey_url: str) -> Any:
    stage = Stage(valkey_url)
    yield stage
    stage.runtime.shutdown()
    stage.client.close()


def test_inline_activities_cost_no_entry_and_stand_in_the_history(stage: Stage) -> None:
    @stage.runtime.activity(inline=True)
    def add_one(ctx: wf.ActivityContext, x: int) -> int:
        assert ctx.attempt == 1
        assert ctx.idempotency_key.startswith(ctx.workflow_id)
        return x + 1

    @stage.runtime.workflow
    def chain(ctx: wf.WorkflowContext, x: int) -> Any:
        for _ in range(3):
            x = yield ctx.call_activity(add_one, input=x)
        both = yield wf.when_all([ctx.call_activity(add_one, input=n) for n in (x, 10)])
        return both

    stage.runtime.start()

    assert stage.output(chain, 1) == [5, 11]
    assert stage.added() == 0
    history = list(stage.client.get_workflow_history(stage.last))
    assert task_results(history) == [0, 1, 2, 3, 4]


def test_what_goes_on_and_on_lets_the_others_have_their_turn(stage: Stage) -> None:
    @stage.runtime.activity(inline=True)
    def add_one(x: int) -> int:
        return x + 1

    @stage.runtime.workflow
    def long(ctx: wf.WorkflowContext, steps: int) -> Any:
        x = 0
        for _ in range(steps):
            x = yield ctx.call_activity(add_one, input=x)
        return x

    stage.runtime.start()

    assert stage.output(long, 300) == 300
    assert 1 <= stage.added() <= 10, "some of them were ordinary"


def test_time_goes_on_while_inline_activities_run(stage: Stage) -> None:
    """Those that come late in a batch set their timers from then on, not from its beginning."""
    ended: dict[int, float] = {}
    woken: dict[int, float] = {}

    @stage.runtime.activity(inline=True)
    def work(number: int) -> None:
        time.sleep(SLOW_S)
        ended[number] = time.monotonic()

    @stage.runtime.activity(inline=True)
    def wake(number: int) -> None:
        woken.setdefault(number, time.monotonic())

    @stage.runtime.workflow
    def flow(ctx: wf.WorkflowContext, number: int) -> Any:
        yield ctx.call_activity(work, input=number)
        yield ctx.create_timer(timedelta(seconds=6 * SLOW_S))
        yield ctx.call_activity(wake, input=number)

    namespace = Namespace("default", 16)
    of_one_batch = [n for n in range(1000) if namespace.partition_of(f"i-{n}") == 0][:12]
    for n in of_one_batch:
        stage.client.schedule_new_workflow(flow, input=n, instance_id=f"i-{n}")
    stage.runtime.start()

    poll(lambda: len(woken) == len(of_one_batch), 20)

    # Redis tells the time in whole milliseconds.
    assert min(woken[n] - ended[n] for n in of_one_batch) > 6 * SLOW_S - 0.01


def test_a_further_attempt_is_an_ordinary_one(stage: Stage) -> None:
    @stage.runtime.activity(inline=True)
    def flaky(ctx: wf.ActivityContext, _: Any) -> int:
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return ctx.attempt

    @stage.runtime.workflow
    def calls(ctx: wf.WorkflowContext, _: Any) -> Any:
        policy = wf.RetryPolicy(
            first_retry_interval=timedelta(milliseconds=20), max_number_of_attempts=3
        )
        return (yield ctx.call_activity(flaky, retry_policy=policy))

    stage.runtime.start()

    assert stage.output(calls) == 3
    assert stage.added() == 2


def test_failures_and_timeouts_reach_the_workflow(stage: Stage) -> None:
    @stage.runtime.activity(inline=True)
    def fails(_: Any) -> None:
        raise KeyError("nothing there")

    @stage.runtime.activity(inline=True)
    def slow(_: Any) -> None:
        time.sleep(SLOW_S)

    @stage.runtime.workflow
    def calls(ctx: wf.WorkflowContext, _: Any) -> Any:
        found = []
        for activity in (fails, slow):
            try:
                yield ctx.call_activity(
                    activity, input=1, timeout=timedelta(milliseconds=SLOW_S * 500)
                )
            except wf.TaskFailedError as exc:
                found.append(exc.details.error_type)
        return found

    stage.runtime.start()

    assert stage.output(calls) == ["KeyError", "ActivityTimeout"]


def test_one_without_options_fails_as_others_do(stage: Stage) -> None:
    @stage.runtime.activity(inline=True)
    def fails(ctx: wf.ActivityContext, x: int) -> None:
        raise SystemExit(f"{ctx.activity_name} of {x}")

    @stage.runtime.activity(inline=True)
    def odd(_: Any) -> Any:
        return {1: object()}

    @stage.runtime.workflow
    def calls(ctx: wf.WorkflowContext, _: Any) -> Any:
        found = []
        for activity in (fails, odd):
            try:
                yield ctx.call_activity(activity, input=3)
            except wf.TaskFailedError as exc:
                found.append(exc.details.message.partition(":")[0])
        return found

    stage.runtime.start()

    assert stage.output(calls) == ["fails of 3", "result of activity 'odd'"]
    assert stage.added() == 0


def test_the_retry_of_an_ended_run_is_not_waited_for(stage: Stage) -> None:
    @stage.runtime.activity(inline=True)
    def flaky(_: Any) -> None:
        raise ValueError("not yet")

    @stage.runtime.activity(inline=True)
    def good(_: Any) -> int:
        return 7

    @stage.runtime.workflow
    def either(ctx: wf.WorkflowContext, _: Any) -> Any:
        policy = wf.RetryPolicy(first_retry_interval=timedelta(minutes=1), max_number_of_attempts=3)
        tasks = [ctx.call_activity(flaky, retry_policy=policy), ctx.call_activity(good)]
        winner: Any = yield wf.when_any(tasks)
        return winner.get_result()

    stage.runtime.start()

    assert stage.output(either) == 7
    namespace = Namespace("default", 16)
    number = namespace.partition_of(stage.last)
    with command_client(stage.url) as client:
        assert not client.zcard(namespace.timers(number))
        assert not client.hlen(namespace.tasks(number))


def test_on_another_queue_or_unawaited_at_the_end_it_is_an_ordinary_one(stage: Stage) -> None:
    seen: list[int] = []

    @stage.runtime.activity(inline=True)
    def note(x: int) -> None:
        seen.append(x)

    @stage.runtime.workflow
    def leaves(ctx: wf.WorkflowContext, _: Any) -> Any:
        ctx.call_activity(note, input=7)
        return "left"

    stage.runtime.start()

    assert stage.output(leaves) == "left"
    poll(lambda: seen == [7])
    assert stage.added() == 1


def test_results_of_a_moment_share_a_turn_and_large_ones_do_not(stage: Stage) -> None:
    """Otherwise many steps together could be more than a turn may decide."""

    @stage.runtime.activity(inline=True)
    def grow(size: int) -> str:
        return "x" * size

    @stage.runtime.workflow
    def collects(ctx: wf.WorkflowContext, size: int) -> Any:
        for _ in range(20):
            # Far more than `turn_bytes` in all.
            text = yield ctx.call_activity(grow, input=size)
            text = yield ctx.call_activity(grow, input=len(text) + 1)
        return len(text)

    stage.runtime.start()

    assert stage.output(collects, 3) == 4
    assert stage.turns() < 41, "each that comes back within a millisecond shares the turn"
    assert stage.output(collects, 400_000) == 400_001
    assert stage.turns() >= 40


def test_a_rerun_from_within_a_turn_repeats_what_came_before_from_history(stage: Stage) -> None:
    seen: list[int] = []

    @stage.runtime.activity(inline=True)
    def add_one(x: int) -> int:
        seen.append(x)
        return x + 1

    @stage.runtime.workflow
    def chain(ctx: wf.WorkflowContext, x: int) -> Any:
        for _ in range(3):
            x = yield ctx.call_activity(add_one, input=x)
        return x

    stage.runtime.start()
    assert stage.output(chain, 0) == 3
    history = list(stage.client.get_workflow_history(stage.last))
    second = [e.index for e in history if e.event_type.value == "TaskScheduled"][1]
    seen.clear()

    again = stage.client.rerun_workflow(stage.last, from_event=second, input=10)
    state = stage.client.wait_for_workflow_completion(again, timeout_in_seconds=20)

    assert state is not None
    assert state.output() == 12
    assert seen == [10, 11]


APP = """
import os
import wfq as wf

app = wf.WorkflowRuntime()

@app.activity(inline=True)
def add_one(x: int) -> int:
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{x} ")
    return x + 1

@app.workflow
def chain(ctx: wf.WorkflowContext, x: int):
    for _ in range(3):
        x = yield ctx.call_activity(add_one, input=x)
    return x
"""


@pytest.mark.processes
@pytest.mark.parametrize("point", ["orch.after_inline", "orch.after_run"])
def test_a_kill_between_run_and_commit_runs_it_again(
    fleet_for: FleetFor, tmp_path: Any, point: str
) -> None:
    ledger = tmp_path / "ledger"
    fleet = fleet_for(APP)
    env = {"LEDGER": str(ledger)}
    first = fleet.worker(env={**env, "WFQ_FAILPOINTS": f"{point}=kill"})
    fleet.client.schedule_new_workflow("chain", input=0, instance_id="c")
    poll(lambda: not first.alive, 15)

    fleet.worker(env=env)

    assert fleet.output("c") == 3
    assert task_results(fleet.history("c")) == [0, 1, 2]
    runs = ledger.read_text().split()
    assert len(runs) > 3, "what was run before the kill was not recorded, so it ran again"
    assert set(runs) == {"0", "1", "2"}
