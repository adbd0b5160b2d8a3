"""The asyncio twin: the same verbs, any number at once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import wfq as wf
from tests.client.kit import NAMESPACE, Hand
from tests.servers import LocalServer
from wfq.aio import WorkflowClient
from wfq.errors import InstanceNotFound, StorageUnavailable
from wfq.management import waiting_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def hand(redis_url: str) -> Iterator[Hand]:
    hand = Hand(redis_url)
    yield hand
    hand.close()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[WorkflowClient]:
    async with WorkflowClient(redis_url=redis_url, namespace=NAMESPACE) as client:
        yield client


async def until(true: Callable[[], bool]) -> None:
    """Return once it is true."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what we look at has no event
            await asyncio.sleep(0.005)


async def listens(client: WorkflowClient, instance_id: str) -> None:
    """Return once a change of the instance would be heard."""

    def true() -> bool:
        opened = client._session._opened
        return opened is not None and opened.waits.listens_to(instance_id)

    await until(true)


def test_the_twins_have_the_same_verbs() -> None:
    def verbs(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in vars(cls).items()
            if not name.startswith("_")
        }

    assert verbs(wf.WorkflowClient) == verbs(WorkflowClient)
    assert all(
        inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
        for name, member in vars(WorkflowClient).items()
        if not name.startswith("_")
    )
    assert wf.aio.DaprWorkflowClient is WorkflowClient


async def test_every_verb_works(client: WorkflowClient, hand: Hand) -> None:
    instance_id = await client.schedule_new_workflow("w", input=1, tags={"k": "v"})
    await client.raise_workflow_event(instance_id, "go", data=1, event_id="e")
    await client.pause_workflow(instance_id)
    await client.resume_workflow(instance_id)
    await client.terminate_workflow(instance_id, output=2)
    hand.turn(instance_id)
    await client.wait_for_workflow_start(instance_id)
    hand.complete(instance_id, 3)
    state = await client.wait_for_workflow_completion(instance_id)
    assert state.output() == 3
    assert len(await client.get_workflow_history(instance_id)) == 2
    assert [s.instance_id for s in await client.list_workflows(tags={"k": "v"})] == [instance_id]
    assert [one async for one in client.iter_workflow_instances()] == [instance_id]
    assert (await client.count_workflows())[wf.WorkflowStatus.COMPLETED] == 1
    again = await client.rerun_workflow(instance_id)
    assert again != instance_id
    await client.purge_workflow(instance_id)
    assert await client.get_workflow_state(instance_id) is None
    ids = await client.schedule_many("w", [1, 2])
    assert len(ids) == 2
    await client.ping()


async def test_an_end_wakes_the_waits(
    client: WorkflowClient, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_async, "BEAT_S", 600.0)
    ids = await client.schedule_many("w", range(20))
    waits = [asyncio.create_task(client.wait_for_workflow_completion(one)) for one in ids]
    for one in ids:
        await listens(client, one)

    for number, one in enumerate(ids):
        await asyncio.to_thread(hand.complete, one, number)

    async with asyncio.timeout(20):
        assert [(await wait).output() for wait in waits] == list(range(20))


async def test_a_change_is_waited_for(
    client: WorkflowClient, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_async, "BEAT_S", 600.0)
    instance_id = await client.schedule_new_workflow("w")
    first = await client.get_workflow_state(instance_id)
    assert first is not None
    change = asyncio.create_task(client.wait_for_workflow_change(first))
    await listens(client, instance_id)

    await asyncio.to_thread(hand.turn, instance_id)

    async with asyncio.timeout(10):
        assert (await change).runtime_status.name == "RUNNING"


async def test_a_wait_that_takes_too_long_is_a_timeout(client: WorkflowClient) -> None:
    instance_id = await client.schedule_new_workflow("w")

    with pytest.raises(wf.WaitTimeout, match="has not ended within"):
        await client.wait_for_workflow_completion(instance_id, timeout_in_seconds=0.1)


async def test_a_wait_that_is_cancelled_leaves_nothing(client: WorkflowClient) -> None:
    instance_id = await client.schedule_new_workflow("w")
    waiting = asyncio.create_task(client.wait_for_workflow_completion(instance_id))
    await listens(client, instance_id)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not client._session._opened.waits._book  # type: ignore[union-attr]  # it was used


async def test_the_beat_finds_what_no_notice_told(
    client: WorkflowClient, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_async, "BEAT_S", 0.1)
    instance_id = await client.schedule_new_workflow("w")
    waiting = asyncio.create_task(client.wait_for_workflow_completion(instance_id))
    await listens(client, instance_id)

    await asyncio.to_thread(lambda: hand.complete(instance_id, 1, notice=False))

    async with asyncio.timeout(10):
        assert (await waiting).output() == 1


async def test_the_task_goes_when_nobody_waits_and_comes_again(
    client: WorkflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_async, "BEAT_S", 0.02)
    monkeypatch.setattr(waiting_async, "LINGER_S", 0.05)
    instance_id = await client.schedule_new_workflow("w")
    for _ in range(3):
        with pytest.raises(wf.WaitTimeout):
            await client.wait_for_workflow_completion(instance_id, timeout_in_seconds=0.05)
        waits = client._session._opened.waits  # type: ignore[union-attr]  # it was used
        task = waits._task
        assert task is not None
        await until(task.done)


async def test_closing_ends_waits(redis_url: str) -> None:
    client = WorkflowClient(redis_url=redis_url, namespace=NAMESPACE)
    instance_id = await client.schedule_new_workflow("w")
    waiting = asyncio.create_task(client.wait_for_workflow_completion(instance_id))
    await listens(client, instance_id)

    await client.close()
    await client.close()

    with pytest.raises(wf.WfqError, match="closed"):
        await waiting
    with pytest.raises(wf.WfqError, match="closed"):
        await client.ping()


async def test_a_thousand_calls_at_once_share_the_pool(client: WorkflowClient) -> None:
    ids = await asyncio.gather(*(client.schedule_new_workflow("w", input=n) for n in range(1000)))

    assert len(set(ids)) == 1000


async def test_a_server_that_is_away_can_come_later(
    start_server: Callable[..., LocalServer],
) -> None:
    server = start_server("valkey")
    server.kill()
    client = WorkflowClient(redis_url=server.url)
    with pytest.raises(StorageUnavailable):
        await client.ping()

    server.start()

    await client.ping()
    await client.close()


async def test_a_cut_subscription_is_made_anew(real_redis_url: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(waiting_async, "BEAT_S", 600.0)
    hand = Hand(real_redis_url)
    async with WorkflowClient(redis_url=real_redis_url, namespace=NAMESPACE) as client:
        instance_id = await client.schedule_new_workflow("w")
        waiting = asyncio.create_task(client.wait_for_workflow_completion(instance_id))
        await listens(client, instance_id)
        await asyncio.to_thread(hand.link.command, "CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.to_thread(hand.complete, instance_id, 1)

        async with asyncio.timeout(10):
            assert (await waiting).output() == 1
    hand.close()


async def test_an_unknown_instance_is_not_found(client: WorkflowClient) -> None:
    with pytest.raises(InstanceNotFound):
        await client.wait_for_workflow_completion("nobody")
