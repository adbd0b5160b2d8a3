"""Queues that nobody serves: lifecycle commands reach their instances all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wfq as wf
from tests.groups import ClusterGroup
from tests.servers import poll
from wfq.checker import check_namespace
from wfq.settings import load_settings
from wfq.storage import partitions
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import known_queues
from wfq_workers.scheduling.caretaker import CaretakerLoop

NAMESPACE = Namespace("test", 16)
GONE = "old-shop"

Care = Callable[[], CaretakerLoop]


@pytest.fixture
def client(valkey_url: str) -> Iterator[wf.WorkflowClient]:
    with wf.WorkflowClient(redis_url=valkey_url, namespace="test", app_id=GONE) as client:
        yield client


@pytest.fixture
def care(valkey_url: str) -> Iterator[Care]:
    """Start caretakers that are quick to believe that a queue is not served."""
    loops: list[CaretakerLoop] = []

    def start() -> CaretakerLoop:
        number = len(loops)
        loops.append(
            CaretakerLoop(
                valkey_url, NAMESPACE, worker_id=f"w{number}", period_s=0.05, patience_s=0.3
            )
        )
        loops[-1].start()
        return loops[-1]

    yield start
    for loop in loops:
        loop.stop()


def status(client: wf.WorkflowClient, instance_id: str) -> str:
    state = client.get_workflow_state(instance_id)
    assert state is not None
    return state.runtime_status.name


def runtime(url: str) -> wf.WorkflowRuntime:
    settings = load_settings(redis_url=url, namespace="test", app_id=GONE, lease_s=1.0)
    wfr = wf.WorkflowRuntime(settings=settings)

    @wfr.workflow
    def order(ctx: wf.WorkflowContext, number: int) -> Any:
        found = yield ctx.wait_for_external_event("go")
        return [number, found]

    return wfr


def test_an_instance_is_terminated_though_its_application_is_gone(
    client: wf.WorkflowClient, care: Care
) -> None:
    instance_id = client.schedule_new_workflow("order", input=1)
    care()
    care()
    client.terminate_workflow(instance_id, output="given up")

    poll(lambda: status(client, instance_id) == "TERMINATED")

    state = client.get_workflow_state(instance_id)
    assert state is not None
    assert state.output() == "given up"
    client.purge_workflow(instance_id)
    assert client.get_workflow_state(instance_id) is None


def test_queues_on_all_nodes_of_a_cluster_are_taken_care_of(cluster: ClusterGroup) -> None:
    # What waits where is asked of every node at once.
    ids = {}
    for n, queue in enumerate([f"gone-{n}" for n in range(6)]):
        with wf.WorkflowClient(redis_url=cluster.url, namespace="test", app_id=queue) as client:
            ids[queue] = client.schedule_new_workflow("order", input=n, instance_id=f"order-{n}")
            client.terminate_workflow(ids[queue])
    homes = {NAMESPACE.timers(NAMESPACE.partition_of(one)) for one in ids.values()}
    assert len({cluster.owner(home).port for home in homes}) == 3
    loop = CaretakerLoop(cluster.url, NAMESPACE, worker_id="w", period_s=0.05, patience_s=0.1)
    loop.start()

    with wf.WorkflowClient(redis_url=cluster.url, namespace="test") as client:
        poll(lambda: all(status(client, one) == "TERMINATED" for one in ids.values()), 30)
    loop.stop()


def test_one_that_a_workflow_has_started_there_is_terminated(valkey_url: str, care: Care) -> None:
    settings = load_settings(redis_url=valkey_url, namespace="test")
    wfr = wf.WorkflowRuntime(settings=settings)

    @wfr.workflow
    def shop(ctx: wf.WorkflowContext) -> Any:
        ctx.schedule_new_workflow("order", instance_id="detached", app_id="old-1")
        ctx.call_child_workflow("order", instance_id="child", app_id="old-2")
        ctx.call_activity("pack", queue="old-3")
        yield ctx.call_child_workflow("order", app_id="old-4")

    with wfr, wf.WorkflowClient(settings=settings) as client:
        parent = client.schedule_new_workflow(shop)
        started = ["detached", "child"]
        poll(lambda: all(client.get_workflow_state(one) is not None for one in started))
        care()
        client.terminate_workflow("detached")
        client.terminate_workflow(parent)

        poll(lambda: client.count_workflows()[wf.WorkflowStatus.TERMINATED] == 4)

    link = SyncLink(valkey_url)
    assert {"old-1", "old-2", "old-3", "old-4"} <= set(known_queues(link, NAMESPACE))
    link.close()


def test_one_is_suspended_and_goes_on_when_the_application_is_back(
    valkey_url: str, client: wf.WorkflowClient, care: Care
) -> None:
    instance_id = client.schedule_new_workflow("order", input=1)
    care()
    client.pause_workflow(instance_id, settle_in_seconds=0)
    poll(lambda: status(client, instance_id) == "SUSPENDED")
    client.raise_workflow_event(instance_id, "go", data=2)

    with runtime(valkey_url):
        client.resume_workflow(instance_id, settle_in_seconds=0)
        state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=20)

    assert state is not None
    assert state.output() == [1, 2]
    link = SyncLink(valkey_url)
    assert check_namespace(link, NAMESPACE).ok
    link.close()


def test_without_commands_nothing_is_touched(
    valkey_url: str, client: wf.WorkflowClient, care: Care
) -> None:
    idle = client.schedule_new_workflow("order", input=1)
    other = next(i for n in range(99) if far_from(idle, i := f"other-{n}"))
    client.schedule_new_workflow("order", input=2, instance_id=other)
    client.terminate_workflow(other)
    care()
    poll(lambda: status(client, other) == "TERMINATED")

    assert status(client, idle) == "PENDING"
    with runtime(valkey_url):
        client.raise_workflow_event(idle, "go", data=2)
        state = client.wait_for_workflow_completion(idle, timeout_in_seconds=20)
    assert state is not None
    assert state.output() == [1, 2]


def test_a_served_queue_is_left_to_its_orchestrators(
    valkey_url: str, client: wf.WorkflowClient, care: Care, caplog: pytest.LogCaptureFixture
) -> None:
    with runtime(valkey_url) as wfr:
        assert wfr.wait_for_worker_ready(10)
        care()
        instance_id = client.schedule_new_workflow("order", input=1)
        client.terminate_workflow(instance_id)
        client.wait_for_workflow_completion(instance_id, timeout_in_seconds=20)

    assert "obeying the commands" not in caplog.text


def far_from(one: str, other: str) -> bool:
    return NAMESPACE.partition_of(one) != NAMESPACE.partition_of(other)


def test_a_command_is_found_behind_other_events(redis_url: str) -> None:
    link = SyncLink(redis_url)
    stream = NAMESPACE.events(0, GONE)
    for event in ('["S","i"]', '["E","i",null,"[\\"L\\"",1]', '["L","i","c","suspend",null]'):
        link.command("XADD", stream, "*", "a", '["W","i"]', "b", event)

    def look(after: str, limit: int) -> partitions.Waiting:
        return link.run(partitions.waiting(NAMESPACE, 0, GONE, after=after, limit=limit))

    first = look("0", 2)
    second = look(first.seen, 2)
    third = look(second.seen, 2)
    link.command("DEL", stream)
    link.close()

    assert (first.entries, first.has_command) == (3, False)
    assert (second.entries, second.has_command) == (3, True)
    assert (third.seen, third.has_command) == (second.seen, False)
