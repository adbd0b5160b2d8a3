"""Saved histories against code: those that fit, those that do not, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import wfq as wf
from tests.core import golden
from tests.testing.flows import Flow, Order, app, family, mail, purchase, trial
from wfq.errors import ConfigurationError
from wfq.testing import Env, SavedHistory, assert_replays, read_histories, replay, write_history
from wfq.testing.histories import read_history

CAR = Order("car", 5000)


@pytest.fixture
def bought(wfq_env: Env) -> SavedHistory:
    started = wfq_env.start(purchase, CAR, instance_id="po-7")
    started.raise_event("approval", "Ada")
    return started.saved


def changed(function: Callable[..., Any], name: str) -> wf.WorkflowRuntime:
    """Another version of a program, in which one workflow is this function."""
    runtime = wf.WorkflowRuntime()
    runtime.register_workflow(function, name=name)
    runtime.register_activity(mail)
    return runtime


def test_histories_of_the_engine_itself_replay() -> None:
    results = assert_replays(golden.registry(), golden.FOLDER)

    assert len(results) == len(golden.RECORDINGS)
    statuses = {result.status for result in results}
    assert statuses == {"COMPLETED", "FAILED", "TERMINATED", "RUNNING"}


def test_a_history_survives_its_file(bought: SavedHistory, tmp_path: Path) -> None:
    file = write_history(bought, tmp_path)

    (found,) = read_histories(tmp_path)

    assert file.name == "po-7.json"
    assert found.records == bought.records
    assert (found.instance_id, found.workflow, found.status) == ("po-7", "purchase", "COMPLETED")
    # One record a line: git shows what has changed.
    assert len(file.read_text().splitlines()) == len(bought.records) + 3


def test_a_new_folder_is_made_for_histories(bought: SavedHistory, tmp_path: Path) -> None:
    file = write_history(bought, tmp_path / "tests" / "histories")

    assert file == tmp_path / "tests" / "histories" / f"{bought.instance_id}.json"
    assert write_history(bought, tmp_path / "new" / "one.json").is_file()


def test_histories_of_all_kinds_replay(wfq_env: Env, tmp_path: Path) -> None:
    wfq_env.start(family, ["ada", "li"])
    wfq_env.start("onboard")
    wfq_env.start("monitor", 0)
    wfq_env.start("counter", 0).raise_event("add", 1)
    suspended = wfq_env.start(trial, "ada")
    suspended.suspend()
    wfq_env.skip(days=3)
    suspended.resume()
    for instance in wfq_env.instances:
        write_history(instance.saved, tmp_path)

    results = assert_replays(app, tmp_path)

    assert len(results) == 7
    assert all(result.ok for result in results)


def test_another_activity_is_a_difference_with_its_place(bought: SavedHistory) -> None:
    def renamed(ctx: wf.WorkflowContext, order: Any) -> Flow:
        yield ctx.call_activity("reserve", input=order)
        yield ctx.call_activity("charge", input=order)

    result = replay(changed(renamed, "purchase"), bought)

    assert (result.kind, result.task_id, result.event) == ("nondeterminism", 0, 1)
    assert result.expected == "ScheduleTask 'charge' (task 0)"
    assert result.found == "ScheduleTask 'reserve' (task 0)"
    line = renamed.__code__.co_firstlineno + 1
    assert result.source.endswith(f"test_replaying.py:{line} in renamed")
    assert result.diff[:2] == (
        "-ScheduleTask 'charge' (task 0)",
        "+ScheduleTask 'reserve' (task 0)",
    )


def test_a_decision_that_is_gone_is_a_difference(bought: SavedHistory) -> None:
    def shorter(ctx: wf.WorkflowContext, order: Any) -> Flow:
        yield ctx.call_activity("charge", input=order)
        yield ctx.wait_for_external_event("approval")

    result = replay(changed(shorter, "purchase"), bought)

    assert result.expected == "CreateTimer (task 2)"
    assert result.event == 4
    assert "-CreateTimer (task 2)" in result.diff
    assert " WaitForEvent 'approval' (task 1)" in result.diff


def test_a_type_that_no_longer_fits_the_input_is_a_difference(bought: SavedHistory) -> None:
    def typed(ctx: wf.WorkflowContext, order: list[int]) -> Flow:
        yield ctx.call_activity("charge", input=order)

    result = replay(changed(typed, "purchase"), bought)

    assert "PayloadError" in result.found


def test_a_patched_change_fits(bought: SavedHistory) -> None:
    def patched(ctx: wf.WorkflowContext, order: Any) -> Flow:
        if ctx.is_patched("reserve-first"):
            yield ctx.call_activity("reserve", input=order)
        yield ctx.call_activity("charge", input=order)
        approval = ctx.wait_for_external_event("approval")
        yield wf.when_any([approval, ctx.create_timer(timedelta(hours=1))])

    assert replay(changed(patched, "purchase"), bought).ok


def test_no_code_is_said(bought: SavedHistory) -> None:
    result = replay(wf.WorkflowRuntime(), bought)

    assert result.kind == "no code"
    assert "no code for the workflow 'purchase'" in result.explain()


def test_a_failing_replay_test_shows_every_history(bought: SavedHistory, tmp_path: Path) -> None:
    def other(ctx: wf.WorkflowContext, order: Any) -> Flow:
        yield ctx.create_timer(timedelta(days=1))

    fits = write_history(bought, tmp_path / "a.json")
    write_history(bought, tmp_path / "b.json")

    with pytest.raises(AssertionError) as raised:
        assert_replays(changed(other, "purchase"), tmp_path)

    told = str(raised.value)
    assert told.startswith("2 of 2 histories no longer fit the code")
    assert f"{fits} (purchase): the code no longer fits the history" in told
    assert "  expected  ScheduleTask 'charge' (task 0)\n  found     CreateTimer (task 0)" in told


def test_the_fixture_finds_the_runtime_of_the_module(
    assert_replays: Any, bought: SavedHistory, tmp_path: Path
) -> None:
    write_history(bought, tmp_path)

    assert [result.ok for result in assert_replays(tmp_path)] == [True]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not JSON"),
        ("[1]", "is no saved history"),
        ('{"records": []}', "is damaged"),
        ('{"records": [["B", 1]]}', "is damaged"),
        ('{"wfq_history": 9, "records": []}', "has format 9"),
    ],
)
def test_what_is_no_history_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)

    with pytest.raises(ConfigurationError, match=why):
        read_history(file)


def test_an_empty_folder_is_no_passing_test(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no saved history"):
        assert_replays(app, tmp_path)


def test_the_document_is_json(bought: SavedHistory) -> None:
    assert json.loads(bought.to_text()) == json.loads(json.dumps(bought.to_json()))
