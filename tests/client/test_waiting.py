"""Waits: told by the subscription, never by polling, and robust against its loss."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import wfq as wf
from tests.client.kit import NAMESPACE, Hand
from tests.servers import LocalServer, poll
from wfq.errors import InstanceNotFound, StorageUnavailable
from wfq.management import waiting, waiting_sync
from wfq.storage.channels import Subscriber


def later(work: Callable[[], object], *, client: wf.WorkflowClient, instance_id: str) -> None:
    """Do something once the client listens for the instance."""
    poll(lambda: _listens(client, instance_id))
    work()


def _listens(client: wf.WorkflowClient, instance_id: str) -> bool:
    opened = client._session._opened
    return opened is not None and opened.waits.listens_to(instance_id)


@pytest.fixture
def no_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the slow beat: what is learnt is learnt from the subscription."""
    monkeypatch.setattr(waiting_sync, "BEAT_S", 600.0)


def test_an_end_that_was_before_is_returned_at_once(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", instance_id="a")
    hand.complete("a", 5)

    assert client.wait_for_workflow_completion("a").output() == 5
    assert client.wait_for_workflow_start("a").runtime_status.name == "COMPLETED"


@pytest.mark.usefixtures("no_beat")
def test_an_end_wakes_the_wait(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", instance_id="a")

    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(client.wait_for_workflow_completion, "a") for _ in range(3)]
        later(lambda: hand.turn("a"), client=client, instance_id="a")
        assert not any(wait.done() for wait in waits)
        hand.complete("a", "done")

        assert [wait.result(10).output() for wait in waits] == ["done"] * 3


@pytest.mark.usefixtures("no_beat")
def test_a_first_turn_wakes_the_wait_for_the_start(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", instance_id="a", input=1)

    with ThreadPoolExecutor() as pool:
        waiting_for = pool.submit(client.wait_for_workflow_start, "a", timeout_in_seconds=30)
        later(lambda: hand.turn("a"), client=client, instance_id="a")

        state = waiting_for.result(10)
    assert state.runtime_status.name == "RUNNING"
    assert state.serialized_input is None


@pytest.mark.usefixtures("no_beat")
def test_a_change_is_waited_for(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", instance_id="a")
    first = client.get_workflow_state("a")
    assert first is not None

    with pytest.raises(wf.WaitTimeout, match="has not changed"):
        client.wait_for_workflow_change(first, timeout_in_seconds=0.05)
    with ThreadPoolExecutor() as pool:
        waiting_for = pool.submit(client.wait_for_workflow_change, first)
        later(lambda: hand.turn("a", custom="half"), client=client, instance_id="a")

        assert waiting_for.result(10).custom_status() == "half"


def test_a_wait_that_takes_too_long_is_a_timeout(client: wf.WorkflowClient) -> None:
    client.schedule_new_workflow("w", instance_id="a")
    began = time.monotonic()

    with pytest.raises(TimeoutError, match=r"'a' has not ended within 0\.2 s") as caught:
        client.wait_for_workflow_completion("a", timeout_in_seconds=0.2)

    assert isinstance(caught.value, wf.WaitTimeout)
    assert 0.15 < time.monotonic() - began < 5
    assert not client._session._opened.waits._book  # type: ignore[union-attr]  # it was used


def test_payloads_are_fetched_only_when_wanted(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", instance_id="a")

    with ThreadPoolExecutor() as pool:
        with_them = pool.submit(client.wait_for_workflow_completion, "a")
        without = pool.submit(client.wait_for_workflow_completion, "a", fetch_payloads=False)
        later(lambda: hand.complete("a", 1), client=client, instance_id="a")

        assert with_them.result(10).serialized_output == "1"
        assert without.result(10).serialized_output is None


def test_the_beat_finds_what_no_notice_told(
    client: wf.WorkflowClient, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_sync, "BEAT_S", 0.1)
    client.schedule_new_workflow("w", instance_id="a")

    with ThreadPoolExecutor() as pool:
        waiting_for = pool.submit(client.wait_for_workflow_completion, "a")
        later(lambda: hand.complete("a", 1, notice=False), client=client, instance_id="a")

        assert waiting_for.result(10).output() == 1


def test_a_purge_while_waiting_is_not_found(
    client: wf.WorkflowClient, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_sync, "BEAT_S", 0.1)
    client.schedule_new_workflow("w", instance_id="a")

    with ThreadPoolExecutor() as pool:
        waiting_for = pool.submit(client.wait_for_workflow_completion, "a")
        later(
            lambda: hand.link.command("DEL", hand.ns.instance("a")), client=client, instance_id="a"
        )

        with pytest.raises(InstanceNotFound):
            waiting_for.result(10)


def test_many_waits_share_one_connection_and_thread(client: wf.WorkflowClient, hand: Hand) -> None:
    ids = client.schedule_many("w", range(60))

    with ThreadPoolExecutor(60) as pool:
        waits = [pool.submit(client.wait_for_workflow_completion, one) for one in ids]
        poll(lambda: all(_listens(client, one) for one in ids))
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("wfq-waits") == 1
        for number, one in enumerate(ids):
            hand.complete(one, number)

        assert [wait.result(20).output() for wait in waits] == list(range(60))


def test_the_thread_goes_when_nobody_waits(
    client: wf.WorkflowClient, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_sync, "BEAT_S", 0.02)
    monkeypatch.setattr(waiting_sync, "LINGER_S", 0.05)
    client.schedule_new_workflow("w", instance_id="a")
    for _ in range(3):
        with pytest.raises(wf.WaitTimeout):
            client.wait_for_workflow_completion("a", timeout_in_seconds=0.05)
        waits = client._session._opened.waits  # type: ignore[union-attr]  # it was used
        poll(lambda waits=waits: waits._thread is None)  # type: ignore[misc]


def test_closing_ends_the_waits_of_other_threads(client: wf.WorkflowClient) -> None:
    client.schedule_new_workflow("w", instance_id="a")

    with ThreadPoolExecutor() as pool:
        waiting_for = pool.submit(client.wait_for_workflow_completion, "a")
        later(client.close, client=client, instance_id="a")

        with pytest.raises(wf.WfqError, match="closed"):
            waiting_for.result(10)


# --- losing the connection


def _kill_subscriptions(hand: Hand) -> None:
    hand.link.command("CLIENT", "KILL", "TYPE", "pubsub")


def test_a_cut_subscription_is_made_anew(real_redis_url: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(waiting_sync, "BEAT_S", 600.0)
    hand = Hand(real_redis_url)
    with wf.WorkflowClient(redis_url=real_redis_url, namespace=NAMESPACE) as client:
        client.schedule_new_workflow("w", instance_id="a")
        with ThreadPoolExecutor() as pool:
            waiting_for = pool.submit(client.wait_for_workflow_completion, "a")
            later(lambda: _kill_subscriptions(hand), client=client, instance_id="a")
            # Ends while nobody may be listening: it is found when the channel is confirmed.
            hand.complete("a", 1)

            assert waiting_for.result(10).output() == 1
    hand.close()


@pytest.mark.slow
def test_a_wait_survives_a_restart_of_the_server(
    start_server: Callable[..., LocalServer],
) -> None:
    server = start_server("valkey", "--appendonly", "yes", "--appendfsync", "always")
    hand = Hand(server.url)
    with wf.WorkflowClient(redis_url=server.url, namespace=NAMESPACE) as client:
        client.schedule_new_workflow("w", instance_id="a")
        with ThreadPoolExecutor() as pool:
            waiting_for = pool.submit(client.wait_for_workflow_completion, "a")
            later(server.restart, client=client, instance_id="a")
            hand.complete("a", 1)

            assert waiting_for.result(20).output() == 1
    hand.close()


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_wait(
    start_server: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_sync, "OUTAGE_S", 0.5)
    server = start_server("valkey")
    with wf.WorkflowClient(redis_url=server.url, namespace=NAMESPACE) as client:
        client.schedule_new_workflow("w", instance_id="a")
        with ThreadPoolExecutor() as pool:
            waiting_for = pool.submit(client.wait_for_workflow_completion, "a")
            later(server.kill, client=client, instance_id="a")

            with pytest.raises(StorageUnavailable):
                waiting_for.result(30)


def test_a_silent_connection_is_noticed(real_redis_url: str) -> None:
    subscriber = Subscriber(real_redis_url)
    subscriber.listen(["c"])
    poll(lambda: subscriber.next(1))

    subscriber.check()
    # The answer says nothing new, but that the connection lives.
    poll(lambda: subscriber.next(0.1) is None and not subscriber._unanswered)
    subscriber.check()

    with pytest.raises(StorageUnavailable, match="does not answer"):
        subscriber.check()
    subscriber.close()


def test_a_read_of_many_is_split() -> None:
    ids = [f"i{n}" for n in range(2 * waiting.READ_BATCH + 1)]

    assert [len(part) for part in waiting._parts(ids)] == [
        waiting.READ_BATCH, waiting.READ_BATCH, 1,
    ]  # fmt: skip
