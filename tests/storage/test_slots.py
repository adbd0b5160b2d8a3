"""A cluster: calls stay in one slot, find their node, and wait for a slot that is on the move."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from tests.groups import ClusterGroup
from tests.servers import poll
from tests.storage.kit import QUEUE, Store
from wfq.errors import StorageError, StorageUnavailable
from wfq.storage import instances
from wfq.storage.instances import NewInstance
from wfq.storage.keys import PARTITION_KEYS, Namespace
from wfq.storage.link import AsyncLink, SyncLink, Wire
from wfq.storage.slots import key_of, open_any, table_of

#: What would move a key to another slot, or break a key apart, if it ever got into a tag.
HOSTILE = (
    "}x{",
    "{",
    "}",
    "{}",
    "{a}",
    "a}b{c}d",
    "x{y}z",
    "",
    "*",
    "a\r\nb",
    "\x00",
    "é{ü}",
    "~",
    "a~{b}",
)


@pytest.fixture
def store(cluster: ClusterGroup) -> Iterator[Store]:
    """A store of sixteen partitions on three masters."""
    opened = Store(cluster.url, partitions=16)
    yield opened
    opened.close()


def keys_of(namespace: Namespace, instance_id: str, queue: str) -> Iterator[tuple[int, str]]:
    """Every key that a partition of the namespace can have, from its own methods."""
    home = namespace.partition_of(instance_id)
    yield home, namespace.instance(instance_id)
    yield home, namespace.history(instance_id)
    for name, method in inspect.getmembers(namespace, inspect.ismethod):
        parameters = list(inspect.signature(method).parameters)
        # `id_in` gives an id.
        if parameters[:1] == ["partition"] and name != "id_in":
            for partition in range(namespace.partitions):
                yield partition, method(partition, *[queue] * (len(parameters) - 1))
        assert not name.startswith("__") or name == "__init__"


@given(instance_id=st.one_of(st.sampled_from(HOSTILE), st.text()), queue=st.sampled_from(HOSTILE))
def test_whatever_an_id_is_all_keys_of_a_partition_share_a_slot(
    instance_id: str, queue: str
) -> None:
    namespace = Namespace("shop", 16)

    for partition, key in keys_of(namespace, instance_id, queue):
        if "\ud800" <= max(key, default="") <= "\udfff":
            continue  # no text that can be sent
        slot = key_slot(f"wfq:{{shop:{partition}}}:".encode())
        assert key_slot(key.encode()) == slot, key


def test_partitions_are_spread_over_all_masters(cluster: ClusterGroup, store: Store) -> None:
    nodes = {cluster.owner(store.ns.timers(p)).port for p in range(16)}

    assert nodes == {node.port for node in cluster.masters}


@pytest.mark.parametrize("instance_id", [i for i in HOSTILE if i])
def test_no_script_of_an_instances_life_touches_two_slots(store: Store, instance_id: str) -> None:
    # A key on another node would end the script with an error, in the middle of its work.
    partition = store.ns.partition_of(instance_id)
    item = NewInstance(instance_id, "inc1", QUEUE, "flow", b"1")

    (reply,) = store.start_all([item], partition)
    store.run_command(instance_id, b',"c1","suspend",{}]')
    taken = store.acquire(partition=partition)
    (fetched,) = store.run(instances.fetch(store.ns, partition, [instance_id]))
    found = store.read(instance_id)
    fired = store.fire(partition=partition)
    purged = store.purge(instance_id, force=True)

    assert reply.outcome == "started"
    assert getattr(taken, "last_entry", b"0-0") != b"0-0"
    assert fetched is not None
    assert found is not None
    assert fired.now_ms > 0
    assert purged in ("purged", "removed", "forced"), purged


def test_a_batch_reaches_every_node_and_comes_back_in_order(store: Store) -> None:
    ids = [f"i{n}" for n in range(200)]
    calls = [
        instances.start(
            store.ns, store.ns.partition_of(i), [NewInstance(i, i, QUEUE, "flow", b"1")]
        )
        for i in ids
    ]

    replies = store.link.run_many(calls)

    assert [reply[0].incarnation for reply in replies] == ids
    assert sorted(
        k.split(b"instance:")[1].decode() for k in store.link.scan("wfq:*}:instance:*")
    ) == sorted(ids)


@pytest.mark.anyio
async def test_the_async_link_finds_every_node_too(store: Store) -> None:
    link = AsyncLink(store.url)
    ids = [f"i{n}" for n in range(50)]
    calls = [
        instances.start(
            store.ns, store.ns.partition_of(i), [NewInstance(i, i, QUEUE, "flow", b"1")]
        )
        for i in ids
    ]

    replies = await link.run_many(calls)
    times = await link.command("TIME")
    await link.close()

    assert [reply[0].incarnation for reply in replies] == ids
    assert len(times) == 2


def test_whoever_asks_any_node_finds_one_that_answers(
    cluster: ClusterGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = [("127.0.0.1", node.port) for node in cluster.masters]
    for masters in ([("127.0.0.1", 1), live[0]], [live[1], ("127.0.0.1", 1), ("127.0.0.1", 2)]):
        monkeypatch.setattr(table_of(cluster.url), "masters", lambda masters=masters: [*masters])
        for _ in range(8):
            client = open_any(cluster.url, timeout_s=1)
            assert client.ping()
            client.close()
    monkeypatch.setattr(table_of(cluster.url), "masters", lambda: [("127.0.0.1", 1)] * 2)
    with pytest.raises(StorageUnavailable, match="cannot reach Redis at redis"):
        open_any(cluster.url)


def test_a_node_that_is_named_as_a_server_says_how_it_is_named(
    cluster: ClusterGroup, store: Store
) -> None:
    key = store.ns.timers(0)
    other = next(node for node in cluster.masters if node is not cluster.owner(key))
    link = SyncLink(f"redis://{other.address}")

    with pytest.raises(StorageUnavailable, match=r"MOVED .*; a node .* redis\+cluster://$"):
        link.command("ZCARD", key)

    link.close()


def test_scripts_that_a_node_forgot_are_taught_again(cluster: ClusterGroup, store: Store) -> None:
    store.start_in("a", "flow")
    for node in cluster.masters:
        node.ask("SCRIPT", "FLUSH")

    assert store.read("a") is not None


def test_a_call_follows_a_slot_that_has_moved(cluster: ClusterGroup, store: Store) -> None:
    store.start_in("a", "flow")
    key = store.ns.timers(store.ns.partition_of("a"))
    before = cluster.owner(key)
    after = next(node for node in cluster.masters if node is not before)
    wire = Wire(store.url, timeout_s=5, key=key)

    cluster.move(key, after)
    try:
        wire.send([("ZCARD", key)])
        with pytest.raises(StorageError, match="MOVED"):
            wire.receive()
        assert store.read("a") is not None
        assert table_of(store.url).address(key)[1] == after.port
    finally:
        wire.close()
        poll(lambda: cluster.move(key, before) is not None, 10)


def test_a_script_waits_for_a_slot_that_is_on_the_move(cluster: ClusterGroup, store: Store) -> None:
    # Half of the partition is here and half is there: no script may decide on either half.
    store.start_in("a", "flow")
    partition = store.ns.partition_of("a")
    key = store.ns.timers(partition)
    source = cluster.owner(key)
    target = next(node for node in cluster.masters if node is not source)
    slot = int(source.ask("CLUSTER", "KEYSLOT", key))
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    moved = store.ns.instance("a")
    source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", moved)
    hasty = SyncLink(store.url, patient=False)
    again = instances.start(store.ns, partition, [NewInstance("a", "other", QUEUE, "flow", None)])
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(store.run(again)))
    try:
        with pytest.raises(StorageUnavailable, match=r"ASK|TRYAGAIN"):
            hasty.run(again)
        waiting.start()
    finally:
        cluster.finish_move(slot, source, target)
        waiting.join(20)
        hasty.close()

    # The first incarnation is still the only one.
    assert [reply[0].outcome for reply in answers] == ["exists"]
    snapshot = store.read("a")
    assert snapshot is not None
    assert store.fields("a")["inc"] == "inc1"
    cluster.move(key, source)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("HGET", "k", "f"), "k"),
        (("XGROUP", "CREATE", "s", "g", "0"), "s"),
        (("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", "s", ">"), "s"),
        (("EVALSHA", "sha", 2, "k1", "k2", "a"), "k1"),
        (("EVAL", "return 1", 0), None),
        (("PING",), None),
        (("TIME",), None),
    ],
)
def test_the_key_of_a_command_is_found(command: tuple[str | int, ...], key: str | None) -> None:
    assert key_of(command) == key


def test_every_kind_of_key_is_in_the_hash_tag_of_its_partition() -> None:
    prefix = Namespace("shop", 16).prefix(3)

    assert prefix == "wfq:{shop:3}:"
    assert PARTITION_KEYS
