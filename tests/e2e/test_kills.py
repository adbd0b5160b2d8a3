"""Worker processes are killed or frozen at the worst moment; the answer stays right."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import FleetFor
from tests.e2e.fleet import Fleet, task_results
from tests.servers import poll

pytestmark = pytest.mark.processes

#: A chain of four; each execution leaves a line in `ledger.txt`, outside the system.
CHAIN = """
import os
import time
import wfq as wf

LEDGER = {ledger!r}

def chain(ctx: wf.WorkflowContext, steps: int):
    total = 0
    for step in range(steps):
        total = yield ctx.call_activity(add, input=[total, step])
    return total

def add(ctx: wf.ActivityContext, pair):
    with open(LEDGER, "a") as ledger:
        ledger.write(f"{{pair[1]}} {{os.getpid()}}\\n")
    time.sleep({sleep})
    return pair[0] + pair[1]
"""


def chain_app(directory: Path, sleep_s: float = 0.0) -> tuple[str, Path]:
    ledger = directory / "ledger.txt"
    ledger.touch()
    return CHAIN.format(ledger=str(ledger), sleep=sleep_s), ledger


def assert_chain_is_right(fleet: Fleet, instance_id: str, steps: int) -> None:
    assert fleet.output(instance_id) == sum(range(steps))
    assert task_results(fleet.history(instance_id)) == list(range(steps))


@pytest.mark.parametrize("point", ["after_read", "after_load", "after_run", "after_commit"])
@pytest.mark.parametrize("number", [1, 3])
def test_an_orchestrator_killed_in_a_turn_is_replaced(
    fleet_for: FleetFor, tmp_path: Path, point: str, number: int
) -> None:
    source, ledger = chain_app(tmp_path)
    fleet = fleet_for(source)
    fleet.worker("activity", "scheduler")
    doomed = fleet.worker("orchestrator", env={"WFQ_FAILPOINTS": f"orch.{point}=kill@{number}"})
    instance_id = fleet.client.schedule_new_workflow("chain", input=4)
    poll(lambda: not doomed.alive, 15)

    fleet.worker("orchestrator")

    assert_chain_is_right(fleet, instance_id, 4)
    assert [line.split()[0] for line in ledger.read_text().splitlines()] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("point", "executions"),
    [("before_exec", 1), ("after_exec", 2), ("before_report", 2), ("after_report", 1)],
)
def test_an_activity_worker_killed_around_an_execution_is_replaced(
    fleet_for: FleetFor, tmp_path: Path, point: str, executions: int
) -> None:
    source, ledger = chain_app(tmp_path)
    fleet = fleet_for(source)
    fleet.worker("orchestrator", "scheduler")
    doomed = fleet.worker("activity", env={"WFQ_FAILPOINTS": f"act.{point}=kill@2"})
    instance_id = fleet.client.schedule_new_workflow("chain", input=4)
    poll(lambda: not doomed.alive, 15)

    fleet.worker("activity")

    assert_chain_is_right(fleet, instance_id, 4)
    steps = [int(line.split()[0]) for line in ledger.read_text().splitlines()]
    # At least once, and twice only where the crash hid that it had run.
    assert sorted(set(steps)) == [0, 1, 2, 3]
    assert steps.count(1) == executions


def test_an_orchestrator_frozen_past_its_lease_does_no_harm_when_it_thaws(
    fleet_for: FleetFor, tmp_path: Path
) -> None:
    source, _ = chain_app(tmp_path, sleep_s=0.3)
    fleet = fleet_for(source)
    fleet.worker("activity", "scheduler")
    zombie = fleet.worker("orchestrator")
    first = fleet.client.schedule_new_workflow("chain", input=6)
    poll(lambda: len(fleet.history(first)) > 3, 15)

    zombie.send(signal.SIGSTOP)
    fleet.worker("orchestrator")
    assert_chain_is_right(fleet, first, 6)
    zombie.send(signal.SIGCONT)

    ids = [fleet.client.schedule_new_workflow("chain", input=5) for _ in range(20)]
    for instance_id in ids:
        assert_chain_is_right(fleet, instance_id, 5)
    assert zombie.alive


def test_an_activity_worker_frozen_past_its_lease_reports_nothing_twice(
    fleet_for: FleetFor, tmp_path: Path
) -> None:
    source, ledger = chain_app(tmp_path, sleep_s=0.2)
    fleet = fleet_for(source)
    fleet.worker("orchestrator", "scheduler")
    zombie = fleet.worker("activity")
    instance_id = fleet.client.schedule_new_workflow("chain", input=4)
    poll(ledger.read_text, 15)

    zombie.send(signal.SIGSTOP)
    fleet.worker("activity")
    poll(lambda: len(ledger.read_text().splitlines()) >= 3, 20)
    zombie.send(signal.SIGCONT)

    assert_chain_is_right(fleet, instance_id, 4)


def test_an_instance_outlives_every_process_but_redis(fleet_for: FleetFor, tmp_path: Path) -> None:
    source, _ = chain_app(tmp_path, sleep_s=0.1)
    fleet = fleet_for(source)
    workers = [fleet.worker(), fleet.worker()]
    ids = [fleet.client.schedule_new_workflow("chain", input=8) for _ in range(10)]
    poll(lambda: any(len(fleet.history(i)) > 4 for i in ids), 15)

    for worker in workers:
        worker.kill()
    fleet.worker()
    fleet.worker()

    for instance_id in ids:
        assert_chain_is_right(fleet, instance_id, 8)


def test_a_worker_that_is_asked_to_stop_hands_over_and_exits_with_zero(
    fleet_for: FleetFor, tmp_path: Path
) -> None:
    source, ledger = chain_app(tmp_path, sleep_s=0.05)
    fleet = fleet_for(source)
    leaving = fleet.worker()
    ids = [fleet.client.schedule_new_workflow("chain", input=6) for _ in range(30)]
    poll(ledger.read_text, 15)

    fleet.worker()
    assert leaving.stop(20) == 0

    for instance_id in ids:
        assert_chain_is_right(fleet, instance_id, 6)
    # An orderly stop repeats nothing.
    assert len(ledger.read_text().splitlines()) == 30 * 6
