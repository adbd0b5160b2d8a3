"""Power cuts: the append-only file ends at its last fsync, or anywhere; the server starts again.

The file only grows, so each of its prefixes is what some power cut would have left.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

import wfq as wf
from tests.servers import Kind, LocalServer, command_client, poll
from wfq.checker.namespace import check_namespace
from wfq.storage.embedded_watch import drop_torn_transaction
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

pytestmark = pytest.mark.timeout(120)

APPEND_ONLY = ("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
PARTITIONS = 4
NAMESPACE = Namespace("default", PARTITIONS)
CUTS = 10
EXPECTED: dict[str, Any] = {
    f"{name}-{n}": value
    for n in range(6)
    for name, value in (("chain", 6), ("parent", 2), ("flaky", [str(n), n]), ("of-parent", 1))
}
LIVE = ("RUNNING", "PENDING", "SUSPENDED", "STALLED")

Steps = Generator[Any, Any, Any]


def chain(ctx: wf.WorkflowContext, steps: int) -> Steps:
    total = 0
    for step in range(steps):
        total = yield ctx.call_activity(add, input=[total, step])
        yield ctx.create_timer(timedelta(milliseconds=5))
    return total


def parent(ctx: wf.WorkflowContext, count: int) -> Steps:
    totals = yield wf.when_all([ctx.call_child_workflow(chain, input=n) for n in range(count)])
    elsewhere = yield ctx.call_child_workflow(chain, input=2, instance_id=f"of-{ctx.instance_id}")
    return sum(totals) + elsewhere


def flaky(ctx: wf.WorkflowContext, name: str) -> Steps:
    policy = wf.RetryPolicy(
        first_retry_interval=timedelta(milliseconds=20), max_number_of_attempts=3
    )
    value = yield ctx.call_activity(second_time, input=name, retry_policy=policy)
    answer = yield ctx.wait_for_external_event("answer", timeout=timedelta(hours=1))
    return [value, answer]


def add(ctx: wf.ActivityContext, pair: list[int]) -> int:
    return pair[0] + pair[1]


def second_time(ctx: wf.ActivityContext, name: str) -> str:
    if ctx.attempt == 1:
        raise RuntimeError("the first attempt fails")
    return name


def runtime(url: str) -> wf.WorkflowRuntime:
    made = wf.WorkflowRuntime(redis_url=url)
    for workflow in (chain, parent, flaky):
        made.register_workflow(workflow)
    for activity in (add, second_time):
        made.register_activity(activity)
    return made


def work(url: str) -> None:
    """Let a few of each kind run to their ends; some keep waiting for their event."""
    workers = runtime(url)
    workers.start()
    with wf.WorkflowClient(redis_url=url) as client:
        for n in range(6):
            client.schedule_new_workflow(chain, input=4, instance_id=f"chain-{n}")
            client.schedule_new_workflow(parent, input=3, instance_id=f"parent-{n}")
            client.schedule_new_workflow(flaky, input=f"{n}", instance_id=f"flaky-{n}")
            if n % 2:
                client.raise_workflow_event(f"flaky-{n}", "answer", data=n, event_id="a")
        for n in range(6):
            for name in ("chain", "parent", *(["flaky"] if n % 2 else [])):
                client.wait_for_workflow_completion(f"{name}-{n}", timeout_in_seconds=30)
    workers.shutdown()


def violations(url: str) -> list[str]:
    """What the checker finds, also of things that nothing will ever wake."""
    with closing(SyncLink(url)) as link:
        report = check_namespace(link, NAMESPACE)
    return [str(violation) for violation in report.violations]


def ids(url: str, statuses: tuple[str, ...]) -> set[str]:
    with command_client(url) as client:
        return {
            member.decode()
            for partition in range(PARTITIONS)
            for status in statuses
            for member in client.zrange(NAMESPACE.index(partition, status), 0, -1)
        }


def finish(url: str) -> None:
    """Workers start again, and everything that is there ends."""
    workers = runtime(url)
    workers.start()
    with wf.WorkflowClient(redis_url=url) as client:
        for n in range(6):
            try:
                client.raise_workflow_event(f"flaky-{n}", "answer", data=n, event_id="a")
            except (wf.InstanceNotFound, wf.InstanceFinished):
                continue
        poll(lambda: not ids(url, LIVE), 30)
        for instance_id in ids(url, ("COMPLETED",)) & EXPECTED.keys():
            state = client.get_workflow_state(instance_id)
            assert state is not None
            assert state.output() == EXPECTED[instance_id]
    assert not ids(url, ("FAILED", "TERMINATED"))
    workers.shutdown()


def append_only_file(server: LocalServer) -> Path:
    (found,) = server.directory.glob("appendonlydir/*.incr.aof")
    return found


def start_on(server: LocalServer, data: bytes) -> None:
    """Start the server on an append-only file that holds `data`."""
    append_only_file(server).write_bytes(data)
    drop_torn_transaction(str(server.directory))
    server.start()


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_everything_holds_after_a_power_cut(
    kind: Kind, start_server: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WFQ_PARTITIONS", str(PARTITIONS))
    # What the workers of before have leased is free again soon.
    monkeypatch.setenv("WFQ_LEASE_S", "1")
    monkeypatch.setenv("WFQ_TASK_LEASE_S", "1")
    server = start_server(kind, *APPEND_ONLY)
    work(server.url)
    server.kill()
    data = append_only_file(server).read_bytes()
    rng = Random(f"cuts {kind}")
    cuts = [len(data), *(rng.randrange(len(data) // 20, len(data)) for _ in range(CUTS))]

    for number, cut in enumerate(cuts):
        start_on(server, data[:cut])
        assert violations(server.url) == [], f"cut at byte {cut} of {len(data)}"
        if number % 5 == 2:
            finish(server.url)
            assert violations(server.url) == [], f"cut at byte {cut}, and gone on"
        # The start after that must not bring back what the first one left out.
        with command_client(server.url) as client:
            client.incr("wfq:test:more")
        server.restart()
        assert violations(server.url) == [], f"cut at byte {cut}, and started twice"
        server.kill()


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_half_a_script_never_comes_back(
    kind: Kind, start_server: Callable[..., LocalServer]
) -> None:
    """Redis 7.0 keeps it in its file, and executes it at the start after the next."""
    server = start_server(kind, *APPEND_ONLY)
    with command_client(server.url) as client:
        client.set("before", "1")
        begin = append_only_file(server).stat().st_size
        client.eval("for _, k in ipairs({'a', 'b', 'c'}) do redis.call('SET', k, '1') end", 0)
    server.kill()
    data = append_only_file(server).read_bytes()

    for cut in range(begin + 1, len(data), 13):
        start_on(server, data[:cut])
        with command_client(server.url) as client:
            client.eval("redis.call('SET', 'x', '1') redis.call('SET', 'y', '1')", 0)
        server.restart()
        with command_client(server.url) as client:
            assert client.mget("before", "a", "b", "c", "x", "y") == [
                b"1", None, None, None, b"1", b"1",
            ], f"cut at byte {cut - begin} of the script"  # fmt: skip
            assert client.dbsize() == 3
        server.kill()


def test_a_large_transaction_is_found(tmp_path: Path) -> None:
    file = tmp_path / "appendonlydir" / "appendonly.aof.2.incr.aof"
    file.parent.mkdir()
    (file.parent / "appendonly.aof.1.incr.aof").write_bytes(b"older")
    multi, exec_ = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"
    for size in (10, 1024 * 1024 - 7, 3_000_000):
        whole = multi + b"x" * size + exec_
        file.write_bytes(whole + multi + b"y" * size)
        assert drop_torn_transaction(str(tmp_path)) == len(multi) + size
        assert file.read_bytes() == whole
        assert drop_torn_transaction(str(tmp_path)) == 0
        file.write_bytes(whole + b"*3\r\n$3\r\nSE")
        assert drop_torn_transaction(str(tmp_path)) == 0
    assert drop_torn_transaction(str(tmp_path / "nothing")) == 0
