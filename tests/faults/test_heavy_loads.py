"""One instance that is given far too much to do is no outage for its neighbours.

All are in one namespace of two partitions, so that neighbours do share partition, lane and worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import wfq as wf
from tests.servers import poll
from wfq.storage import instances
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(240)]

EVENTS = 100_000
TASKS = 10_000
#: Seconds that any one neighbour may take, from start to end, while that goes on. It takes some
#: milliseconds when it is alone; what is ruled out is an outage.
PATIENCE_S = 5.0

Steps = Generator[Any, Any, Any]


def flooded(ctx: wf.WorkflowContext, taken: int) -> Steps:
    """Take events for ever, a thousand a generation."""
    for _ in range(1_000):
        yield ctx.wait_for_external_event("drop")
    if taken + 1_000 < EVENTS:
        ctx.continue_as_new(taken + 1_000, save_events=True)
        return None
    return taken + 1_000


def fan(ctx: wf.WorkflowContext, count: int) -> Steps:
    values = yield wf.when_all([ctx.call_activity(double, input=n) for n in range(count)])
    return sum(values)


def neighbour(ctx: wf.WorkflowContext, number: int) -> Steps:
    for _ in range(3):
        number = yield ctx.call_activity(double, input=number)
    return number


def double(ctx: wf.ActivityContext, number: int) -> int:
    return 2 * number


@contextmanager
def neighbours(client: wf.WorkflowClient) -> Iterator[list[float]]:
    """Run one small workflow after the other meanwhile; gives the seconds that each took."""
    took: list[float] = []
    over = threading.Event()

    def live() -> None:
        while not over.is_set():
            begin = time.monotonic()
            instance_id = client.schedule_new_workflow(neighbour, input=1)
            state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=60)
            assert state is not None
            assert state.output() == 8
            took.append(time.monotonic() - begin)

    thread = threading.Thread(target=live, name="neighbours")
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


@pytest.fixture
def client(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[wf.WorkflowClient]:
    """A client, with workers in this process."""
    monkeypatch.setenv("WFQ_PARTITIONS", "2")
    runtime = wf.WorkflowRuntime(redis_url=valkey_url)
    for workflow in (flooded, fan, neighbour):
        runtime.register_workflow(workflow)
    runtime.register_activity(double)
    runtime.start()
    with wf.WorkflowClient(redis_url=valkey_url) as made:
        yield made
    runtime.shutdown()


def check(took: list[float]) -> None:
    ordered = sorted(took)
    assert len(ordered) >= 10, f"only {len(ordered)} neighbours came through"
    assert ordered[-1] < PATIENCE_S, f"the slowest neighbour took {ordered[-1]:.1f} s"


def test_a_flood_of_events_is_no_outage_for_the_others(
    valkey_url: str, client: wf.WorkflowClient
) -> None:
    client.schedule_new_workflow(flooded, input=0, instance_id="flooded")
    link = SyncLink(valkey_url)
    namespace = open_namespace(link, "default")

    def pour(first: int) -> None:
        """Raise a thousand at once; what the inbox refuses is tried again."""
        left = list(range(first, first + 1_000))
        while left:
            items = [
                ("flooded", "", "E", instances.external_event(f"{n}", "drop", b"null"))
                for n in left
            ]
            partition = namespace.partition_of("flooded")
            told = link.run(instances.append(namespace, partition, items, inbox_cap=10_000))
            left = [n for n, reply in zip(left, told, strict=True) if reply.outcome != "queued"]
            if left:
                time.sleep(0.05)

    with neighbours(client) as took:
        for first in range(0, EVENTS, 1_000):
            pour(first)
        state = client.wait_for_workflow_completion("flooded", timeout_in_seconds=120)
    assert state is not None
    assert state.output() == EVENTS
    check(took)
    link.close()


def test_a_large_fan_out_is_no_outage_for_the_others(client: wf.WorkflowClient) -> None:
    with neighbours(client) as took:
        poll(lambda: len(took) > 3)
        for _ in range(3):
            instance_id = client.schedule_new_workflow(fan, input=TASKS)
            state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=60)
            assert state is not None
            assert state.output() == TASKS * (TASKS - 1)
        poll(lambda: len(took) >= 10, 30)
    check(took)
