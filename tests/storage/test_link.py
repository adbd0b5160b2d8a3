"""link.py: calls over redis-py and over the raw wire, and what becomes of their errors."""

from __future__ import annotations

import asyncio

import pytest

from tests.servers import LocalServer, find_binary
from tests.storage.kit import QUEUE, Store
from wfq.errors import ConfigurationError, StorageError, StorageFull, StorageUnavailable
from wfq.storage import instances, scripts
from wfq.storage.instances import NewInstance
from wfq.storage.link import AsyncLink, ServerReply, SyncLink, Wire
from wfq.storage.opening import open_client, shown

#: Keys in the slot of partition 0.
X, Y = "{test:0}x", "{test:0}y"


def starts(store: Store, *ids: str) -> list[scripts.Call[list[instances.StartReply]]]:
    items = [NewInstance(i, "inc1", QUEUE, "flow", b"1") for i in ids]
    return [instances.start(store.ns, 0, [item]) for item in items]


def test_many_calls_answer_in_their_order(store: Store) -> None:
    store.start("b")

    replies = store.link.run_many(starts(store, "a", "b", "c"))

    assert [r[0].outcome for r in replies] == ["started", "started", "started"]
    assert [i for i, _ in store.events()] == ["b", "a", "c"]
    assert store.link.run_many([]) == []


def test_a_server_that_forgot_its_scripts_is_taught_again(real_store: Store) -> None:
    real_store.start("a")
    real_store.command("SCRIPT", "FLUSH")
    real_store.link.run_many(starts(real_store, "b", "c"))
    real_store.command("SCRIPT", "FLUSH")
    wire = real_store.link.wire(timeout_s=5, key=real_store.ns.events(0, QUEUE))

    (reply,) = wire.call(starts(real_store, "d")[0])

    wire.close()
    assert reply.outcome == "started"
    assert [i for i, _ in real_store.events()] == ["a", "b", "c", "d"]


def test_the_async_link_runs_the_same_calls(store: Store) -> None:
    async def run() -> list[str]:
        link = AsyncLink(store.url)
        try:
            first = await link.run(starts(store, "a")[0])
            more = await link.run_many(starts(store, "b", "c"))
            assert await link.command("EXISTS", store.ns.instance("a")) == 1
            return [r[0].outcome for r in (first, *more)]
        finally:
            await link.close()

    assert asyncio.run(run()) == ["started"] * 3


def test_a_wire_sends_several_commands_in_one_write(store: Store) -> None:
    wire = store.link.wire(timeout_s=5, key=store.ns.events(0, QUEUE))

    wire.send([("SET", X, b"\x00\xff"), ("GET", X), ("NOSUCH",), ("GET", Y)])
    replies = [wire.receive(), wire.receive()]
    with pytest.raises(ServerReply) as caught:
        wire.receive()
    last = wire.receive()
    wire.close()

    assert replies == [b"OK", b"\x00\xff"]
    assert not caught.value.transient
    assert last is None


def test_repeated_fields_survive_on_a_wire(store: Store) -> None:
    store.command("XADD", X, "*", "a", "1", "a", "2")
    wire = store.link.wire(timeout_s=5, key=store.ns.events(0, QUEUE))

    wire.send([("XRANGE", X, "-", "+")])
    ((_, fields),) = wire.receive()
    wire.close()

    assert fields == [b"a", b"1", b"a", b"2"]


def test_a_full_server_is_named_so_on_every_path(full_store: Store) -> None:
    full_store.full(True)
    call = starts(full_store, "a")[0]
    wire = full_store.link.wire(timeout_s=5, key=full_store.ns.events(0, QUEUE))

    with pytest.raises(StorageFull):
        full_store.link.run(call)
    with pytest.raises(StorageFull):
        full_store.link.run_many([call, call])
    with pytest.raises(ServerReply) as caught:
        wire.call(call)
    wire.close()

    assert caught.value.full


def test_a_dead_server_is_unavailable_and_named_without_secrets() -> None:
    server = LocalServer("redis" if find_binary("redis") else "valkey")
    link = SyncLink(server.url)
    link.command("PING")
    server.kill()

    with pytest.raises(StorageUnavailable, match="cannot reach Redis at unix://"):
        link.command("PING")
    with pytest.raises(StorageUnavailable):
        Wire(server.url, timeout_s=1)
    link.close()
    server.close()
    assert "hunter2" not in shown("redis://bob:hunter2@example:6379/3?password=hunter2")


def with_login(url: str, login: str) -> str:
    """The URL of the same server, or group, for that user and password."""
    return url.replace("://", f"://{login}@")


def test_a_missing_permission_is_an_error_of_its_own(real_store: Store) -> None:
    servers = [client for _, client in real_store.link.servers()]
    for client in servers:
        client.execute_command("ACL", "SETUSER", "limited", "on", ">pw", "~wfq:*", "+@all", "-xadd")
    link = SyncLink(with_login(real_store.url, "limited:pw"))

    with pytest.raises(StorageError, match="refused access") as caught:
        link.run(starts(real_store, "a")[0])

    link.close()
    for client in servers:
        client.execute_command("ACL", "DELUSER", "limited")
    assert "pw" not in str(caught.value).split()


def test_a_wrong_password_is_refused_at_once(real_store: Store) -> None:
    link = SyncLink(with_login(real_store.url, "nobody:hunter2"))

    with pytest.raises(StorageError, match="refused access") as caught:
        link.command("PING")

    link.close()
    assert "hunter2" not in str(caught.value)


def test_sentinels_that_do_not_answer_are_named_in_a_line() -> None:
    link = SyncLink("redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster?sentinel_password=hunter2")
    link._delays = ()

    with pytest.raises(StorageUnavailable) as caught:
        link.command("PING")

    link.close()
    text = str(caught.value)
    assert text.startswith(
        "cannot reach Redis at redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster"
    )
    assert "No master found for 'mymaster' : 127.0.0.1:1 " in text
    assert ", 127.0.0.1:2 " in text
    assert text.endswith("; is it running?")
    assert not set(text) & set("<>")


def test_an_unusable_url_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError):
        open_client("http://example")


def test_scripts_carry_no_comment_and_one_digest_each() -> None:
    assert len({s.sha for s in scripts.ALL}) == len(scripts.ALL)
    for script in scripts.ALL:
        assert not any(line.lstrip().startswith("--") for line in script.body.splitlines())
