"""The listener against real stores: channels, patterns, streams, dead letters, outages."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.servers import LocalServer, poll
from wfq.client import WorkflowClient
from wfq.rules import ListenerRule
from wfq.settings import load_settings
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace
from wfq.storage.opening import open_client
from wfq_workers.listening import streams as listener_streams
from wfq_workers.listening.counters import Counters
from wfq_workers.listening.courier import Courier
from wfq_workers.listening.intents import CompiledRule
from wfq_workers.listening.listener import ListenerLoop, make_listener
from wfq_workers.listening.messages import decode

PAID = {"event": "paid", "instance_id_from": "$.order"}


class Stage:
    """A store with a client, a raw connection and listeners."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.link = SyncLink(url)
        self.namespace = open_namespace(self.link, "default", partitions=4)
        self.client = WorkflowClient(redis_url=url)
        self.redis = open_client(url)
        self.listeners: list[ListenerLoop] = []

    def listen(self, *rules: dict[str, Any], wait: bool = True) -> ListenerLoop:
        made = [ListenerRule.model_validate(rule) for rule in rules]
        settings = load_settings(redis_url=self.url)
        worker_id = f"test-{len(self.listeners)}"
        loop = make_listener(self.url, self.namespace, settings, worker_id=worker_id, rules=made)
        self.listeners.append(loop)
        loop.start()
        if wait:
            assert loop.wait_ready(10)
        return loop

    def events(self, instance_id: str) -> list[list[Any]]:
        """The external events that wait for an instance: [id, name, data], oldest first."""
        partition = self.namespace.partition_of(instance_id)
        entries: Any = self.redis.xrange(self.namespace.events(partition, "default"))
        raw = [fields.get(instance_id.encode()) for _, fields in entries]
        found = [json.loads(value) for value in raw if value is not None]
        return [event[2:] for event in found if event[0] == "E"]

    def dead(self) -> list[dict[str, str]]:
        """The dead letters of all partitions."""
        rows: list[dict[str, str]] = []
        for partition in range(self.namespace.partitions):
            entries: Any = self.redis.xrange(self.namespace.dead(partition))
            rows += [
                {k.decode(): v.decode(errors="replace") for k, v in fields.items()}
                for _, fields in entries
            ]
        return rows

    def pending(self, stream: str, group: str = "wfq") -> int:
        found: Any = self.redis.xpending(stream, group)
        return int(found["pending"])

    def close(self) -> None:
        for loop in self.listeners:
            loop.stop(10)
        self.client.close()
        self.link.close()
        self.redis.close()


@pytest.fixture
def stage(redis_url: str) -> Iterator[Stage]:
    made = Stage(redis_url)
    yield made
    made.close()


@pytest.fixture
def real_stage(valkey_url: str) -> Iterator[Stage]:
    made = Stage(valkey_url)
    yield made
    made.close()


def test_a_message_on_a_channel_raises_an_event(stage: Stage) -> None:
    stage.client.schedule_new_workflow("order", instance_id="order-7")
    loop = stage.listen({"channel": "payments", **PAID})

    stage.redis.publish("payments", '{"order":"order-7","sum":9.5}')

    (event,) = poll(lambda: stage.events("order-7"))
    assert event[1:] == ["paid", {"order": "order-7", "sum": 9.5}]
    assert poll(lambda: loop.counts()["channel payments"]["delivered"] == 1)


def test_a_pattern_listens_to_all_channels_that_match(stage: Stage) -> None:
    stage.client.schedule_new_workflow("order", instance_id="o")
    rule = {"pattern": "shop.*", "event_from": "$.type", "instance_id_from": "$.id"}
    stage.listen(rule, {"channel": "other", **PAID})

    stage.redis.publish("shop.a", '{"id":"o","type":"packed"}')
    stage.redis.publish("shop.b", '{"id":"o","type":"sent"}')

    assert poll(lambda: len(stage.events("o")) == 2)
    assert [name for _, name, _ in stage.events("o")] == ["packed", "sent"]


def test_bad_messages_become_dead_letters_and_the_listener_goes_on(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.client.schedule_new_workflow("order", instance_id="good")
    loop = stage.listen({"channel": "payments", **PAID})

    for message in (
        b"not json",
        b"\xff\xfe",
        b"[" * 5000,
        b'{"other":1}',
        b'{"order":"a b\\nc"}',
        b'{"order":"unknown"}',
        b'{"order":"good"}',
    ):
        stage.redis.publish("payments", message)

    assert poll(lambda: stage.events("good"))
    reasons = sorted(row["reason"] for row in stage.dead())
    assert len(reasons) == 6
    assert "no workflow instance 'unknown'; start it first" in reasons
    assert "fits no rule: it has nothing at $.order" in reasons
    assert all(row["source"] == "channel payments" for row in stage.dead())
    assert loop.counts()["channel payments"]["rejected"] == 6
    lines = [r.getMessage() for r in caplog.records if r.name == "wfq.listener"]
    assert len(lines) == 6
    assert not any("\n" in line for line in lines)


def test_an_entry_that_comes_again_after_the_end_is_no_dead_letter(stage: Stage) -> None:
    # Its listener died between raising the event and acknowledging the entry.
    stage.client.schedule_new_workflow("order", instance_id="o")
    stage.client.schedule_new_workflow("order", instance_id="p")
    for one in ("o", "p"):
        ended = '["T",9,"n1",[["E","inc","orders-5-1","paid",null]],[["K",null]],null]'
        stage.redis.rpush(stage.namespace.history(one), ended)
        stage.redis.hset(stage.namespace.instance(one), "status", "COMPLETED")
    loop = stage.listen({"stream": "orders", **PAID})

    stage.redis.xadd("orders", {"data": '{"order":"o"}'}, id="5-1")
    stage.redis.xadd("orders", {"data": '{"order":"p"}'}, id="5-2")

    (row,) = poll(stage.dead)
    assert row["id"] == "p"
    assert loop.counts()["stream orders"]["delivered"] == 1
    assert poll(lambda: stage.pending("orders") == 0)


def test_a_dead_letter_names_the_instance_and_lies_in_its_partition(stage: Stage) -> None:
    stage.listen({"channel": "payments", **PAID})

    stage.redis.publish("payments", '{"order":"unknown"}')

    (row,) = poll(stage.dead)
    assert row["id"] == "unknown"
    assert row["message"] == '{"order":"unknown"}'
    assert ListenerRule.model_validate_json(row["rule"]).event == "paid"
    partition = stage.namespace.partition_of("unknown")
    assert stage.redis.xlen(stage.namespace.dead(partition)) == 1


def test_stream_entries_raise_events_that_are_known_by_their_entry(stage: Stage) -> None:
    stage.client.schedule_new_workflow("order", instance_id="o")
    before: Any = stage.redis.xadd("orders", {"data": '{"order":"o","n":0}'})
    stage.listen({"stream": "orders", **PAID})
    after: Any = stage.redis.xadd("orders", {"data": '{"order":"o","n":1}'})

    assert poll(lambda: len(stage.events("o")) == 2)
    assert [event_id for event_id, _, _ in stage.events("o")] == [
        f"orders-{before.decode()}",
        f"orders-{after.decode()}",
    ]
    assert poll(lambda: stage.pending("orders") == 0)
    assert stage.redis.xlen("orders") == 2


def test_a_message_starts_a_workflow_once(stage: Stage) -> None:
    rule = {"stream": "orders", "workflow": "process", "instance_id_from": "$.id"}
    stage.listen(rule)

    for _ in range(2):
        stage.redis.xadd("orders", {"data": '{"id":"order-1","n":1}'})
    stage.redis.xadd("orders", {"data": '{"id":"order-1","n":2}'})

    (row,) = poll(stage.dead)
    assert "with another workflow or input" in row["reason"]
    state = stage.client.get_workflow_state("order-1")
    assert state is not None
    assert state.input() == {"id": "order-1", "n": 1}


def test_several_rules_of_a_source_each_have_their_say(stage: Stage) -> None:
    stage.client.schedule_new_workflow("order", instance_id="o")
    also = {"event": "seen", "instance_id_from": "$.order", "data_from": "$.n"}
    stage.listen({"stream": "s", **PAID}, {"stream": "s", **also})

    stage.redis.xadd("s", {"data": '{"order":"o"}'})
    stage.redis.xadd("s", {"data": '{"order":"o","n":5}'})

    assert poll(lambda: len(stage.events("o")) == 3)
    assert [name for _, name, _ in stage.events("o")] == ["paid", "paid", "seen"]
    assert stage.dead() == []


def test_two_replicas_share_a_stream(stage: Stage) -> None:
    stage.client.schedule_new_workflow("order", instance_id="o")
    loops = [stage.listen({"stream": "s", **PAID}) for _ in range(2)]

    for n in range(300):
        stage.redis.xadd("s", {"data": json.dumps({"order": "o", "n": n})})

    assert poll(lambda: len(stage.events("o")) == 300)
    assert sorted(data["n"] for _, _, data in stage.events("o")) == list(range(300))
    counts = [loop.counts for loop in loops]
    assert poll(lambda: sum(c().get("stream s", {}).get("delivered", 0) for c in counts) == 300)


def test_a_stopped_listener_leaves_its_group(stage: Stage) -> None:
    stage.client.schedule_new_workflow("order", instance_id="o")
    loop = stage.listen({"stream": "s", **PAID})
    stage.redis.xadd("s", {"data": '{"order":"o"}'})
    assert poll(lambda: stage.events("o"))

    loop.stop(10)

    consumers: Any = stage.redis.xinfo_consumers("s", "wfq")
    assert consumers == []


def test_entries_of_a_dead_listener_are_taken_over(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_streams, "CLAIM_IDLE_MS", 0)
    stage.client.schedule_new_workflow("order", instance_id="o")
    stage.redis.xadd("s", {"data": '{"order":"o"}'})
    stage.redis.xgroup_create("s", "wfq", id="0")
    stage.redis.xreadgroup("wfq", "dead-listener", {"s": ">"})

    loop = stage.listen({"stream": "s", **PAID})

    assert poll(lambda: stage.events("o"))
    assert poll(lambda: stage.pending("s") == 0)
    assert loop.counts()["stream s"]["claimed"] == 1


def test_a_group_that_was_destroyed_is_made_again(real_stage: Stage) -> None:
    real_stage.client.schedule_new_workflow("order", instance_id="o")
    real_stage.listen({"stream": "s", **PAID})
    real_stage.redis.xgroup_destroy("s", "wfq")

    real_stage.redis.xadd("s", {"data": '{"order":"o"}'})

    assert poll(lambda: real_stage.events("o"), 15)


def test_a_cut_subscription_is_noticed_logged_once_and_counted(
    real_stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    real_stage.client.schedule_new_workflow("order", instance_id="o")
    loop = real_stage.listen({"channel": "payments", **PAID})

    killed: Any = real_stage.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    assert killed >= 1  # other tests of this server may have left some
    assert poll(lambda: "subscribed again" in caplog.text)
    real_stage.redis.publish("payments", '{"order":"o"}')
    assert poll(lambda: real_stage.events("o"))
    # One line a cut: a machine under load may cut it again by a late answer to a check.
    cuts = loop.counts()["channel payments"]["cuts"]
    assert cuts == caplog.text.count("messages published meanwhile are lost") >= 1


def test_the_listener_outlives_a_restart_of_redis(
    start_server: Callable[..., LocalServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server = start_server("valkey", "--appendonly", "yes", "--appendfsync", "always")
    stage = Stage(server.url)
    try:
        stage.client.schedule_new_workflow("order", instance_id="o")
        stage.listen({"channel": "payments", **PAID}, {"stream": "s", **PAID})

        server.kill()
        poll(lambda: "next attempt" in caplog.text)
        server.start()

        with open_client(server.url) as client:
            assert poll(lambda: client.publish("payments", '{"order":"o","by":"channel"}') or None)
            client.xadd("s", {"data": '{"order":"o","by":"stream"}'})
        assert poll(lambda: len(stage.events("o")) == 2, 15)
        assert "Traceback" not in caplog.text
    finally:
        stage.close()


def test_a_message_waits_for_redis_and_is_then_delivered_once(redis_url: str) -> None:
    stage = Stage(redis_url)
    raised: list[Any] = []
    failures = [redis.ConnectionError("gone"), redis.ConnectionError("gone")]

    class Flaky:
        def raise_event(self, intent: Any) -> None:
            if failures:
                from wfq.errors import StorageUnavailable

                raise StorageUnavailable(str(failures.pop()))
            raised.append(intent)

        def start(self, intent: Any) -> None: ...

        def close(self) -> None: ...

    rule = CompiledRule(ListenerRule.model_validate({"channel": "c", **PAID}))
    stop = threading.Event()
    courier = Courier("channel c", [rule], Flaky(), stage.link, stage.namespace, Counters(), stop)
    raw = b'{"order":"o"}'

    done = courier.deliver(raw, lambda: decode(raw, limit=100))

    assert done
    assert len(raised) == 1
    assert raised[0].event_id
    stage.close()


def test_dead_letters_are_known_keys(stage: Stage) -> None:
    stage.listen({"channel": "payments", **PAID})
    stage.redis.publish("payments", "x")
    poll(stage.dead)

    keys: Any = stage.redis.keys("wfq:*")

    known = {Namespace("default", 4).dead(p) for p in range(4)} | {stage.namespace.meta}
    assert {key.decode() for key in keys} <= known
