"""What a server lets us do, and whether it keeps its data, is found out before work begins."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import wfq as wf
from tests.servers import ROOT, Kind, LocalServer, Processes, clean_env, command_client
from wfq.errors import ConfigurationError, StorageError
from wfq.storage import preflight
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

NAMESPACE = Namespace("default", 4)
KINDS: tuple[Kind, ...] = ("valkey", "redis")


@contextmanager
def link_to(url: str) -> Iterator[SyncLink]:
    link = SyncLink(url)
    try:
        yield link
    finally:
        link.close()


def change_user(server: LocalServer, *rules: str) -> None:
    with command_client(server.url) as client:
        client.execute_command("ACL", "SETUSER", "wfq", *rules)


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_with_the_rule_lacks_nothing(
    kind: Kind, start_server: Callable[..., LocalServer]
) -> None:
    server = start_server(kind)

    with link_to(server.restricted_url) as link:
        preflight.check_permissions(link, NAMESPACE)

        assert link.command("EXISTS", "wfq:{default:0}:changes") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_named(kind: Kind, start_server: Callable[..., LocalServer]) -> None:
    server = start_server(kind)
    with link_to(server.restricted_url) as link:
        for command in preflight.COMMANDS:
            if command in ("eval", "ping"):
                continue
            change_user(server, f"-{command}")
            with pytest.raises(ConfigurationError, match="lacks 1 permissions") as caught:
                preflight.check_permissions(link, NAMESPACE)
            assert f"by command: {command};" in str(caught.value)
            change_user(server, f"+{command}")

        change_user(server, "-eval")
        with pytest.raises(ConfigurationError, match="'eval'"):
            preflight.check_permissions(link, NAMESPACE)
        change_user(server, "+eval", "resetkeys", "~others:*")
        with pytest.raises(ConfigurationError, match=r"a key|the keys"):
            preflight.check_permissions(link, NAMESPACE)
        change_user(server, "allkeys", "resetchannels")
        with pytest.raises(ConfigurationError, match="publish, subscribe"):
            preflight.check_permissions(link, NAMESPACE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_of_one_namespace_cannot_touch_another(
    kind: Kind, start_server: Callable[..., LocalServer]
) -> None:
    server = start_server(kind)
    url = server.restricted_url
    change_user(server, *preflight.acl_rule("shop").split())

    with link_to(url) as link:
        preflight.check_permissions(link, Namespace("shop", 4))
        for other in ("shop2", "sho", "other"):
            with pytest.raises(ConfigurationError):
                preflight.check_permissions(link, Namespace(other, 4))
    with wf.WorkflowClient(redis_url=url, namespace="shop") as client:
        client.schedule_new_workflow("anything", instance_id="a")
    with (
        wf.WorkflowClient(redis_url=url, namespace="other") as client,
        pytest.raises(StorageError, match="NOPERM"),
    ):
        client.schedule_new_workflow("anything", instance_id="a")


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_may_lose_data_is_told_of(
    kind: Kind, start_server: Callable[..., LocalServer]
) -> None:
    server = start_server(kind)
    with link_to(server.url) as link:
        (told,) = preflight.weaknesses(link, NAMESPACE)
        assert "appendonly is no" in told
        with command_client(server.url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("appendonly", "yes")
        (told,) = preflight.weaknesses(link, NAMESPACE)
        assert "maxmemory-policy is allkeys-lru" in told
        with command_client(server.url) as client:
            client.config_set("maxmemory-policy", "noeviction")
        assert list(preflight.weaknesses(link, NAMESPACE)) == []
    with link_to(server.restricted_url) as link:
        change_user(server, "-info")
        assert list(preflight.weaknesses(link, NAMESPACE)) == []


def test_a_replica_is_refused(start_server: Callable[..., LocalServer]) -> None:
    server = start_server("valkey")
    with command_client(server.url) as client:
        client.replicaof("127.0.0.1", "1")
    with link_to(server.url) as link, pytest.raises(ConfigurationError, match="is a replica"):
        list(preflight.weaknesses(link, NAMESPACE))


def test_nothing_is_asked_of_memory() -> None:
    with link_to("memory://preflight") as link:
        preflight.look(link, NAMESPACE)


def test_a_worker_says_what_it_may_not_do_and_does_not_start(
    start_server: Callable[..., LocalServer], processes: Processes
) -> None:
    server = start_server("valkey")
    url = server.restricted_url
    change_user(server, "-xadd")

    worker = processes.wfq("worker", "examples.chaining", env={"WFQ_REDIS_URL": url}, cwd=ROOT)

    assert worker.wait(20) == 2
    (line,) = [text for text in worker.log().splitlines() if "xadd" in text]
    assert "lacks 1 permissions that wfq needs" in line
    assert "pw@" not in worker.log()
    assert "Traceback" not in worker.log()


def test_a_worker_warns_of_a_server_that_may_lose_data(
    start_server: Callable[..., LocalServer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = start_server("valkey", "--maxmemory-policy", "allkeys-lru")
    runtime = wf.WorkflowRuntime(redis_url=server.url)

    with caplog.at_level("WARNING"):
        runtime.start()
        runtime.shutdown()

    said = [record.getMessage() for record in caplog.records if record.name == "wfq.storage"]
    assert [text.split(":")[0] for text in said] == [
        "maxmemory-policy is allkeys-lru",
        "appendonly is no",
    ]


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_the_storage_and_client_tests_pass_for_a_restricted_user(kind: Kind) -> None:
    """All but those whose own channels, keys or servers' settings are not wfq's."""
    foreign = ("preflight", "test_link", "model", "deep_backlog", "silent_connection")
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2",
            "tests/storage", "tests/client", "tests/checker",
            "--ignore", "tests/storage/test_controls.py",
            "-k", " and not ".join((kind, *foreign)),
        ],
        env={**clean_env(), "TEST_RESTRICTED_USER": "1", "PATH": os.environ["PATH"]},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
