"""``wfq dead``: looked at, sent again, dropped."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli
from tests.servers import poll
from wfq.client import WorkflowClient
from wfq.rules import ListenerRule
from wfq.settings import load_settings
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace
from wfq.storage.opening import open_client
from wfq_workers.listening.listener import make_listener

RULE = ListenerRule(channel="payments", event="paid", instance_id_from="$.order")


@pytest.fixture
def rejected(wfq: Cli, valkey_url: str) -> list[str]:
    """Two letters: for an instance that is not there yet, and one that is no JSON."""
    link = SyncLink(valkey_url)
    settings = load_settings(redis_url=valkey_url)
    namespace = open_namespace(link, "default")
    loop = make_listener(valkey_url, namespace, settings, worker_id="w", rules=[RULE])
    loop.start()
    assert loop.wait_ready(10)
    with open_client(valkey_url) as client:
        client.publish("payments", '{"order":"order-7","sum":1}')
        client.publish("payments", "no json")
    poll(lambda: loop.counts().get("channel payments", {}).get("rejected") == 2)
    loop.stop(5)
    link.close()
    return [row["letter"] for row in wfq.rows("dead", "list")]


def test_dead_letters_are_listed_with_their_reason(wfq: Cli, rejected: list[str]) -> None:
    rows = wfq.rows("dead", "list")

    assert [row["from"] for row in rows] == ["channel payments"] * 2
    assert rows[0]["instance_id"] == "order-7"
    assert rows[0]["reason"] == "no workflow instance 'order-7'; start it first"
    assert rows[1]["message"] == "no json"
    assert wfq.ok("dead", "list", "-o", "ids").split() == rejected


def test_a_letter_is_sent_again_once_its_instance_is_there(
    wfq: Cli, valkey_url: str, rejected: list[str]
) -> None:
    waiting, hopeless = rejected
    assert "no workflow instance 'order-7'" in wfq.fails(1, "dead", "retry", waiting)
    with WorkflowClient(redis_url=valkey_url) as client:
        client.schedule_new_workflow("order", instance_id="order-7")

    assert wfq.ok("dead", "retry", waiting) == f"{waiting} sent\n"

    assert "there is no rule for channel payments" in wfq.fails(1, "dead", "retry", hopeless)
    assert wfq.ok("dead", "list", "-o", "ids").split() == [hopeless]
    assert "no such dead letter" in wfq.fails(1, "dead", "retry", waiting)


def test_letters_are_dropped(wfq: Cli, rejected: list[str]) -> None:
    wfq.ok("dead", "drop", rejected[0])
    assert wfq.ok("dead", "list", "-o", "ids").split() == rejected[1:]

    wfq.ok("dead", "drop", "--all")

    assert wfq.rows("dead", "list") == []


@pytest.mark.parametrize("arguments", [[], ["1:1-1", "--all"]])
@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_letters_are_named_or_all_are_meant(wfq: Cli, verb: str, arguments: list[str]) -> None:
    assert "or give --all" in wfq.fails(2, "dead", verb, *arguments)


@pytest.mark.parametrize("address", ["nonsense", "99:1-1", "1:1-1", "x:y"])
def test_an_unknown_letter_is_told(wfq: Cli, address: str) -> None:
    assert "no such dead letter" in wfq.fails(1, "dead", "drop", address)
