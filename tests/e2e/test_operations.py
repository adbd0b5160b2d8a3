"""What docs/operations.md tells to do: back up and restore, restrict by ACL, encrypt by TLS."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

import wfq as wf
from tests.groups import ClusterGroup
from tests.ports import free_port
from tests.servers import LocalServer, command_client, find_binary, poll
from wfq.checker import check_namespace
from wfq.client import WorkflowClient
from wfq.errors import StorageUnavailable
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.preflight import acl_rule

StartServer = Callable[..., LocalServer]

pytestmark = pytest.mark.slow


def program(url: str) -> wf.WorkflowRuntime:
    app = wf.WorkflowRuntime(redis_url=url)

    @app.workflow
    def order(ctx: wf.WorkflowContext, n: int) -> Generator[Any, Any, list[Any]]:
        first = yield ctx.call_activity(work, input=n)
        word = yield ctx.wait_for_external_event("go")
        second = yield ctx.call_child_workflow(child, input=first)
        return [second, word]

    @app.workflow
    def child(ctx: wf.WorkflowContext, n: int) -> Generator[Any, Any, int]:
        return (yield ctx.call_activity(work, input=n))  # type: ignore[no-any-return]

    @app.activity
    def work(ctx: wf.ActivityContext, n: int) -> int:
        return n + 1

    return app


def leave_waiting(url: str, count: int) -> list[str]:
    """Instances in mid-way, and workers that have stopped."""
    with program(url), WorkflowClient(redis_url=url) as client:
        ids = [str(one) for one in client.schedule_many("order", inputs=range(count))]
        for one in ids:
            poll(lambda one=one: len(client.get_workflow_history(one)) > 3, 20)  # type: ignore[misc]
    return ids


def finish(url: str, ids: list[str]) -> None:
    """The work goes on to its end, and every invariant holds."""
    with program(url), WorkflowClient(redis_url=url) as client:
        for one in ids:
            client.raise_workflow_event(one, "go", data="on")
        for number, one in enumerate(ids):
            state = client.wait_for_workflow_completion(one, timeout_in_seconds=30)
            assert state is not None
            assert state.output() == [number + 2, "on"]
    check(url)


def check(url: str) -> None:
    link = SyncLink(url)
    report = check_namespace(link, Namespace())
    link.close()
    assert report.violations == []


def test_a_snapshot_is_restored_into_a_fresh_server(start_server: StartServer) -> None:
    first = start_server("valkey", "--appendonly", "yes")
    ids = leave_waiting(first.url, 10)
    with command_client(first.url) as client:
        client.bgsave()
        poll(lambda: client.info("persistence")["rdb_bgsave_in_progress"] == 0, 20)
        assert client.info("persistence")["rdb_last_bgsave_status"] == "ok"
    kept = first.directory / "dump.rdb"

    # What came after the backup is not in it.
    later = leave_waiting(first.url, 1)
    second = start_server("valkey")
    second.kill()
    shutil.copy(kept, second.directory)
    second.start()
    # With the snapshot in memory, the append-only file is made from it.
    with command_client(second.url) as client:
        client.config_set("appendonly", "yes")

    check(second.url)
    finish(second.url, ids)
    with WorkflowClient(redis_url=second.url) as client:
        assert client.get_workflow_state(later[0]) is None


def test_a_copy_of_the_append_only_files_is_restored(
    start_server: StartServer, tmp_path: Path
) -> None:
    options = ("--appendonly", "yes", "--auto-aof-rewrite-percentage", "100")
    first = start_server("valkey", *options)
    ids = leave_waiting(first.url, 10)
    with command_client(first.url) as client:
        # No rewrite may begin while files are copied.
        client.config_set("auto-aof-rewrite-percentage", 0)
        poll(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0, 20)
        shutil.copytree(first.directory / "appendonlydir", tmp_path / "backup")
        client.config_set("auto-aof-rewrite-percentage", 100)

    second = start_server("valkey", *options)
    second.kill()
    shutil.rmtree(second.directory / "appendonlydir")
    shutil.copytree(tmp_path / "backup", second.directory / "appendonlydir")
    second.start()

    check(second.url)
    finish(second.url, ids)


def test_the_user_of_the_documentation_can_do_the_work_and_no_more(
    start_server: StartServer,
) -> None:
    rule = ["ACL", "SETUSER", "wfq", "on", ">choose-one", *acl_rule().split()]
    server = start_server("valkey")
    with command_client(server.url) as client:
        client.execute_command(*rule)
    url = server.url.replace("unix://", "unix://wfq:choose-one@")

    ids = leave_waiting(url, 3)
    finish(url, ids)

    with command_client(url) as client:
        for refused in (["FLUSHALL"], ["KEYS", "*"], ["GET", "other"], ["CONFIG", "GET", "*"]):
            with pytest.raises(redis.ResponseError, match=r"(?i)no permission|can't access|NOPERM"):
                client.execute_command(*refused)


@pytest.mark.long
def test_the_same_user_can_do_the_work_on_every_node_of_a_cluster(cluster: ClusterGroup) -> None:
    for node in cluster.masters:
        node.ask("ACL", "SETUSER", "wfq", "on", ">ch@ose/one", *acl_rule().split())
    url = cluster.url.replace("://", f"://wfq:{quote('ch@ose/one', safe='')}@")

    try:
        ids = leave_waiting(url, 10)
        check(url)
        finish(url, ids)
    finally:
        for node in cluster.masters:
            node.ask("ACL", "DELUSER", "wfq")


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[str]:
    """The URL of a redis-server that speaks TLS alone, with a certificate of this test."""
    binary = find_binary("redis")
    if binary is None or shutil.which("openssl") is None:
        pytest.skip("no redis-server on PATH, or no openssl to make a certificate")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                str(binary), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1",
                "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem",
                "--tls-ca-cert-file", "cert.pem", "--tls-auth-clients", "no", "--save", "",
            ],
            cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
    url = f"rediss://localhost:{port}/0?ssl_ca_certs={tmp_path}/cert.pem"
    try:
        poll(lambda: _answers(url) or server.poll() is not None, 20)
        if server.poll() is not None:
            pytest.skip("this redis-server was built without TLS")
        yield url
    finally:
        server.terminate()
        server.wait(10)


def _answers(url: str) -> bool:
    with command_client(url) as client:
        return bool(client.ping())


def test_the_work_is_done_over_tls(tls_server: str) -> None:
    ids = leave_waiting(tls_server, 3)

    finish(tls_server, ids)


def test_a_certificate_of_somebody_else_is_refused(tls_server: str) -> None:
    stranger = tls_server.partition("?")[0]

    with (
        WorkflowClient(redis_url=stranger) as client,
        pytest.raises(StorageUnavailable, match=r"(?i)certificate"),
    ):
        client.get_workflow_state("any")
