"""Packs of short activities and workers that die in the middle of one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import FleetFor
from tests.e2e.fleet import Fleet, task_results
from tests.servers import poll
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

pytestmark = pytest.mark.processes

NAMESPACE = Namespace("default", 16)
COUNT = 40

APP = """
import os
import time
from pathlib import Path
import wfq as wf

def fan(ctx: wf.WorkflowContext, _):
    tasks = [ctx.call_activity(step, input=n) for n in range(40)]
    results = []
    for task in tasks:
        try:
            results.append((yield task))
        except wf.TaskFailedError as exc:
            results.append(exc.details.error_type)
    return results

def step(ctx: wf.ActivityContext, n: int) -> int:
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{n}\\n")
    if n == 20:
        if ctx.workflow_id == os.environ.get("POISONED"):
            os._exit(3)
        while not Path(os.environ["LEDGER"] + ".go").exists():
            time.sleep(0.01)
    return n
"""


def make_short(fleet: Fleet) -> None:
    """Let orchestrators believe that the activity is short, and learn it."""
    link = SyncLink(fleet.url)
    link.command("ZADD", NAMESPACE.short("default"), int(time.time() * 1000), "step")
    link.close()
    # The first instance makes them ask.
    fleet.client.schedule_new_workflow("fan", instance_id="first")


def packed(fleet: Fleet, instance_id: str) -> bool:
    """Whether entries of the instance hold several activities."""
    key = NAMESPACE.activities(NAMESPACE.partition_of(instance_id), "default")
    link = SyncLink(fleet.url)
    raw = link.command("EVAL", LENGTHS, 1, key)
    link.close()
    return any(length > 2 for length in raw)


LENGTHS = """
local found = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
  found[#found + 1] = #entry[2]
end
return found
"""


def start_packed(fleet: Fleet) -> str:
    """An instance whose activities wait in packs; no activity worker runs yet."""
    fleet.worker("orchestrator")
    make_short(fleet)
    names = iter(f"fan-{n}" for n in range(1000))

    def started() -> str | None:
        name = next(names)
        fleet.client.schedule_new_workflow("fan", instance_id=name)
        waiting = poll(lambda: fleet.history(name)[-1].event_type.name == "TASK_SCHEDULED", 5)
        return name if waiting and packed(fleet, name) else None

    name = poll(started, 20)
    assert name is not None
    return name


def test_a_worker_killed_in_the_middle_of_a_pack_loses_nothing(
    fleet_for: FleetFor, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    fleet = fleet_for(APP)
    name = start_packed(fleet)
    worker = fleet.worker("activity", env={"LEDGER": str(ledger)})
    poll(lambda: "20" in ledger.read_text().split(), 20)

    os.kill(worker.pid, signal.SIGKILL)
    Path(f"{ledger}.go").touch()
    fleet.worker("activity", "scheduler", env={"LEDGER": str(ledger)})

    assert fleet.output(name) == list(range(COUNT))
    assert sorted(task_results(fleet.history(name))) == list(range(COUNT))


@pytest.mark.long
def test_what_ends_its_worker_in_a_pack_is_found_out_alone(
    fleet_for: FleetFor, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    fleet = fleet_for(APP)
    name = start_packed(fleet)
    env = {"LEDGER": str(ledger), "POISONED": name, "WFQ_MAX_DELIVERIES": "3"}
    # One slot, so that what dies with it is the pack alone.
    env["WFQ_CONCURRENCY"] = "1"
    Path(f"{ledger}.go").touch()
    workers = [fleet.start("activity", "scheduler", env=env)]

    def ended() -> bool:
        if not workers[-1].alive:
            workers.append(fleet.start("activity", "scheduler", env=env))
        state = fleet.client.get_workflow_state(name)
        return state is not None and state.runtime_status.name == "COMPLETED"

    poll(ended, 60)
    assert fleet.output(name) == [*range(20), "WorkerLost", *range(21, COUNT)]
    assert sorted(task_results(fleet.history(name))) == [n for n in range(COUNT) if n != 20]
    assert len(workers) == 4, "once in its pack, twice alone"
