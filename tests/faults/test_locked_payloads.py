"""Workers without the right key: nothing fails, nothing is lost, all waits for one with it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

import wfq as wf
from tests.servers import command_client, poll
from wfq.encryption import AesGcmCodec, generate_key

pytestmark = pytest.mark.timeout(60)

OLD, NEW, OTHER = generate_key(), generate_key(), generate_key()
CANARY = "canary-payload-Zk4"
Steps = Generator[Any, Any, Any]


def order(ctx: wf.WorkflowContext, card: str) -> Steps:
    ctx.set_custom_status({"card": card})
    charged = yield ctx.call_activity(charge, input=card)
    answer = yield ctx.wait_for_external_event("answer")
    again = yield ctx.call_activity(charge, input=answer)
    return [charged, again]


def elsewhere(ctx: wf.WorkflowContext, card: str) -> Steps:
    return (yield ctx.call_activity(charge, input=card, app_id="cards"))


def charge(ctx: wf.ActivityContext, card: str) -> str:
    return f"{card}!"


def client_of(url: str, **keys: str) -> wf.WorkflowClient:
    return wf.WorkflowClient(redis_url=url, payload_codec=AesGcmCodec(keys))


Working = Callable[..., AbstractContextManager[wf.WorkflowClient]]


@pytest.fixture
def working(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Working:
    """Run a worker with these keys in this process, and give a client that has them too."""
    monkeypatch.setenv("WFQ_LEASE_S", "1")
    monkeypatch.setenv("WFQ_UNKNOWN_GRACE_S", "0.5")

    @contextmanager
    def run(app_id: str = "default", **keys: str) -> Iterator[wf.WorkflowClient]:
        runtime = wf.WorkflowRuntime(
            redis_url=valkey_url, app_id=app_id, payload_codec=AesGcmCodec(keys)
        )
        for workflow in (order, elsewhere):
            runtime.register_workflow(workflow)
        runtime.register_activity(charge)
        runtime.start()
        try:
            with client_of(valkey_url, **keys) as client:
                yield client
        finally:
            runtime.shutdown()

    return run


def output(client: wf.WorkflowClient) -> object:
    state = client.wait_for_workflow_completion("a", timeout_in_seconds=20)
    assert state is not None
    assert state.runtime_status.name == "COMPLETED", state
    return state.output()


def why(client: wf.WorkflowClient, instance_id: str) -> str:
    state = client.get_workflow_state(instance_id, fetch_payloads=False)
    assert state is not None
    return str(state.stalled_reason) if state.runtime_status.name == "STALLED" else ""


def test_redis_holds_ciphertext_only(valkey_url: str, working: Working) -> None:
    with working(k=OLD) as client:
        client.schedule_new_workflow(order, input=CANARY, instance_id="a")
        client.raise_workflow_event("a", "answer", data=CANARY + "2")
        assert output(client) == [f"{CANARY}!", f"{CANARY}2!"]

    with command_client(valkey_url) as redis:
        redis.config_set("rdbcompression", "no")
        dumped = b"".join(redis.dump(key) for key in redis.scan_iter())
    assert b"wfq+codec:" in dumped
    assert CANARY.encode() not in dumped
    # Someone without keys sees what Redis has.
    with wf.WorkflowClient(redis_url=valkey_url) as keyless:
        shown = keyless.get_workflow_state("a")
        assert shown is not None
        assert str(shown.output()).startswith("wfq+codec:")
        assert CANARY not in str(list(keyless.get_workflow_history("a")))


def test_a_key_is_exchanged_under_a_running_instance(working: Working) -> None:
    with working(old=OLD) as client:
        client.schedule_new_workflow(order, input="c", instance_id="a")
        poll(lambda: "answer" in str(client.get_workflow_history("a")))
    with working(new=NEW, old=OLD) as client:
        client.raise_workflow_event("a", "answer", data="d")
        assert output(client) == ["c!", "d!"]


@pytest.mark.parametrize("key", [{"other": OTHER}, {"k": OTHER}], ids=["no key", "wrong key"])
def test_an_instance_waits_for_a_worker_with_its_key(
    valkey_url: str, working: Working, key: dict[str, str]
) -> None:
    with working(k=OLD) as client:
        client.schedule_new_workflow(order, input="c", instance_id="a")
        poll(lambda: "answer" in str(client.get_workflow_history("a")))

    with working(**key) as locked:
        # The event makes it load, and its history cannot be read here.
        with client_of(valkey_url, k=OLD) as client:
            client.raise_workflow_event("a", "answer", data="d")
        poll(lambda: "key 'k'" in why(locked, "a"))
        with pytest.raises(wf.PayloadError, match="key 'k'"):
            locked.get_workflow_history("a")

    with working(k=OLD) as client:
        assert output(client) == ["c!", "d!"]


def test_an_activity_waits_for_a_worker_with_its_key(valkey_url: str, working: Working) -> None:
    with working(k=OLD) as client:
        with working("cards", other=OTHER):
            client.schedule_new_workflow(elsewhere, input="c", instance_id="a")
            poll(lambda: "key 'k', and this process has only other" in why(client, "a"))
        with working("cards", k=OLD):
            assert output(client) == "c!"
        kinds = [(e.event_type.name, e.attempts) for e in client.get_workflow_history("a")]
        assert ("TASK_COMPLETED", None) in kinds, "it counts as no attempt"
