"""The guard that finds keys which `keys.py` does not list."""

from __future__ import annotations

from tests.known_keys import documented, strangers
from tests.servers import command_client
from wfq.storage import keys


def test_the_table_lists_what_the_code_names() -> None:
    known = documented()

    assert {rest for inside, rest in known if inside} == set(keys.PARTITION_KEYS)
    assert {rest for inside, rest in known if not inside} == set(keys.NAMESPACE_KEYS)


def test_listed_keys_are_welcome_and_others_are_told(valkey_url: str) -> None:
    namespace = keys.Namespace("shop")
    with command_client(valkey_url) as client:
        client.hset(namespace.instance("order-7"), "inc", "x")
        client.set(namespace.worker("w1"), "here", ex=10)
        client.set("foreign", "the test's own")
        assert strangers(valkey_url) == []

        client.set("wfq:shop:odd", "x")
        client.set(namespace.prefix(3) + "surprise", "x")
        client.set(namespace.timers(1), "not a sorted set")
        client.set(namespace.worker("w2"), "for ever")
        found = sorted(strangers(valkey_url))
        client.flushall()

    assert found == [
        "wfq:shop:odd: not in the form of keys.py",
        "wfq:{shop:1}:timers: a string, listed as sorted set",
        "wfq:{shop:3}:surprise: not listed in keys.py",
        "wfq:{shop}:worker:w2: needs a TTL",
    ]
