"""FLUSHALL, and a server that comes back with nothing: said once, and work goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.conftest import FleetFor
from tests.e2e.fleet import Fleet
from tests.servers import LocalServer, Processes, command_client, poll
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace
from wfq_workers.scheduling.epoch import REMADE_STATUS

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

APP = """
import wfq as wf

def chain(ctx: wf.WorkflowContext, steps: int):
    total = 0
    for step in range(steps):
        total = yield ctx.call_activity(add, input=[total, step])
        yield ctx.create_timer(0.01)
    return total

def waiter(ctx: wf.WorkflowContext):
    return (yield ctx.wait_for_external_event("go"))

def add(ctx: wf.ActivityContext, pair: list):
    return pair[0] + pair[1]
""".replace("0.01", "__import__('datetime').timedelta(milliseconds=10)")


def test_work_goes_on_in_a_store_that_was_emptied(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    workers = [fleet.worker(), fleet.worker()]
    gone = fleet.client.schedule_new_workflow("waiter", instance_id="waits")
    first = fleet.client.schedule_new_workflow("chain", input=3)
    assert fleet.output(first) == 3

    with command_client(fleet.url) as client:
        client.flushall()

    # Not at once: a start in the very moment may be emptied away with the rest.
    again = fleet.client.schedule_new_workflow("chain", input=5)
    assert fleet.output(again, 40) == 10
    assert fleet.client.get_workflow_state(gone) is None
    poll(lambda: all("the store was emptied" in worker.log() for worker in workers), 20)
    for worker in workers:
        assert worker.log().count("the store was emptied") == 1
        assert "Traceback" not in worker.log()
        assert worker.alive


def test_work_goes_on_when_the_server_comes_back_empty(
    start_server: Callable[..., LocalServer], processes: Processes, fleet_for: FleetFor
) -> None:
    own = fleet_for(APP)
    server = start_server("valkey")  # without an append-only file
    fleet = Fleet(server.url, own.app, processes)
    worker = fleet.worker()
    assert fleet.output(fleet.client.schedule_new_workflow("chain", input=3)) == 3

    server.restart()

    assert fleet.output(fleet.client.schedule_new_workflow("chain", input=4), 40) == 6
    poll(lambda: "the store was emptied" in worker.log(), 20)
    fleet.close()
    worker.kill()


def test_a_worker_ends_when_its_namespace_has_other_partitions_now(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    worker = fleet.worker()
    assert fleet.output(fleet.client.schedule_new_workflow("chain", input=3)) == 3

    with command_client(fleet.url) as client:
        pipe = client.pipeline()
        pipe.flushall()
        meta = Namespace("default", 1).meta
        pipe.hset(meta, mapping={"schema": 1, "partitions": 3, "epoch": "another"})
        pipe.execute()

    assert worker.wait(20) == REMADE_STATUS
    assert "made anew with 3 partitions, this worker knows 16" in worker.log()
    link = SyncLink(fleet.url)
    assert open_namespace(link, "default").partitions == 3
    link.close()
