"""The checker beside real workers: no false alarm while they run, nothing wrong when they died."""

from __future__ import annotations

import signal

import pytest

from tests.e2e.conftest import FleetFor
from tests.servers import poll
from wfq.checker import Report, check_namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace

pytestmark = pytest.mark.processes

APP = """
import random
import time
from datetime import timedelta
import wfq as wf

RETRY = wf.RetryPolicy(
    first_retry_interval=timedelta(milliseconds=50), max_number_of_attempts=5
)
SOON = timedelta(milliseconds=300)

def mixed(ctx: wf.WorkflowContext, depth: int):
    tasks = [
        ctx.call_activity(
            work, input=n, retry_policy=RETRY, schedule_to_start_timeout=timedelta(minutes=5)
        )
        for n in range(4)
    ]
    yield wf.when_all(tasks)
    try:
        yield ctx.wait_for_external_event("go", timeout=SOON)
    except TimeoutError:
        yield ctx.create_timer(SOON)
    if depth:
        children = [
            ctx.call_child_workflow(mixed, input=depth - 1),
            ctx.call_child_workflow(mixed, input=0, instance_id=f"other-{ctx.instance_id}"),
        ]
        yield wf.when_all(children)
    return sum(task.get_result() for task in tasks)

def monitor(ctx: wf.WorkflowContext, left: int):
    yield ctx.call_activity(work, input=left, retry_policy=RETRY)
    yield ctx.create_timer(timedelta(milliseconds=50))
    if left:
        ctx.continue_as_new(left - 1)
        return None
    return "over"

def work(ctx: wf.ActivityContext, n: int):
    time.sleep(random.random() / 50)
    if random.random() < 0.2 and ctx.attempt < 4:
        raise ValueError("again")
    ctx.heartbeat(n)
    return n
"""


def test_a_fleet_that_is_killed_at_random_leaves_nothing_wrong(fleet_for: FleetFor) -> None:
    fleet = fleet_for(APP)
    workers = [fleet.worker() for _ in range(2)]
    link = SyncLink(fleet.url)
    namespace = open_namespace(link, "default")
    reports: list[Report] = []

    def check(*, quiet: bool = False) -> Report:
        before = reports[-1] if reports else None
        reports.append(check_namespace(link, namespace, quiet=quiet, before=before))
        assert reports[-1].ok, str(reports[-1])
        return reports[-1]

    ids = []
    for wave in range(4):
        for n in range(10):
            name, value = ("monitor", 3) if n % 3 == 0 else ("mixed", 1)
            ids.append(fleet.client.schedule_new_workflow(name, input=value))
        for _ in range(8):
            check()
        victim = workers[wave % 2]
        if wave % 2:
            victim.send(signal.SIGSTOP)
            check()
            workers.append(fleet.worker())
            victim.send(signal.SIGCONT)
        else:
            victim.kill()
            workers[wave % 2] = fleet.worker()
        check()
    states = [fleet.client.wait_for_workflow_completion(i, timeout_in_seconds=60) for i in ids]

    assert {s.runtime_status.name for s in states} == {"COMPLETED"}
    report = poll(lambda: not check().explanations and check(quiet=True), 30)
    assert isinstance(report, Report)
    assert set(report.counts) & {"RUNNING", "open activities"} == set()
    link.close()
