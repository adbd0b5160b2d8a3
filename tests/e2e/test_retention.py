"""Automatic retention in the scheduler: by status and age, by several at once, through a kill."""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner

import wfq as wf
from tests.groups import ClusterGroup
from tests.servers import Processes, command_client, poll
from wfq.checker import check_namespace
from wfq.client import WorkflowClient
from wfq.settings import load_settings
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq_cli.app import cli
from wfq_workers.scheduling.retention import Sweeper, ages_of

PARTITIONS = 2
#: More than one step of each partition.
MANY = 1000


def program(url: str, **settings: object) -> wf.WorkflowRuntime:
    """A runtime with a tree of two children, one that ends at once, and one that waits."""
    app = wf.WorkflowRuntime(
        settings=load_settings(redis_url=url, partitions=PARTITIONS, **settings)
    )

    @app.workflow
    def parent(ctx: wf.WorkflowContext, n: int) -> Generator[Any, Any, int]:
        yield ctx.call_child_workflow(child, input=n)
        yield ctx.call_child_workflow(child, input=n, instance_id=f"named-{n}")
        return n

    @app.workflow
    def child(ctx: wf.WorkflowContext, n: int) -> Generator[Any, Any, int]:
        return (yield ctx.call_activity(work, input=n))  # type: ignore[no-any-return]

    @app.workflow
    def waiting(ctx: wf.WorkflowContext) -> Generator[Any, Any, None]:
        yield ctx.wait_for_external_event("go")

    @app.workflow
    def at_once(ctx: wf.WorkflowContext, n: int) -> int:
        return n

    @app.activity
    def work(ctx: wf.ActivityContext, n: int) -> int:
        return n

    return app


def left(url: str) -> list[str]:
    """The ids that some key of one instance, or an index, still names."""
    found = set()
    with command_client(url) as client:
        for raw in client.scan_iter("wfq:*", count=1000):
            kind, _, rest = raw.decode().partition("}:")[2].partition(":")
            if kind in ("instance", "history"):
                found.add(rest)
            elif kind == "index":
                found.update(member.decode() for member in client.zrange(raw, 0, -1))
    return sorted(found)


def check(url: str) -> None:
    link = SyncLink(url)
    report = check_namespace(link, Namespace(partitions=PARTITIONS), quiet=True)
    link.close()
    assert report.violations == []


def test_a_status_has_its_own_age_or_the_common_one() -> None:
    common = load_settings(retention_s="30d", retention_failed_s="90d")
    only = load_settings(retention_completed_s="1h")
    day = 86_400

    assert ages_of(common) == {"COMPLETED": 30 * day, "FAILED": 90 * day, "TERMINATED": 30 * day}
    assert ages_of(only) == {"COMPLETED": 3600}
    assert ages_of(load_settings()) == {}


def test_without_an_age_there_is_nothing_to_do() -> None:
    assert Sweeper(Namespace(), {}).next_at == float("inf")


@pytest.mark.slow
def test_partitions_on_several_nodes_are_swept_too(cluster: ClusterGroup) -> None:
    with program(cluster.url, retention_s=1), WorkflowClient(redis_url=cluster.url) as client:
        client.schedule_new_workflow("waiting", instance_id="alive")
        ids = [str(one) for one in client.schedule_many("parent", inputs=range(10))]
        for one in ids:
            poll(lambda one=one: client.get_workflow_state(one) is None, 30)  # type: ignore[misc]
        poll(lambda: [one.instance_id for one in client.list_workflows()] == ["alive"], 30)


@pytest.mark.slow
def test_ended_instances_and_their_children_go_and_live_ones_stay(valkey_url: str) -> None:
    with (
        program(valkey_url, retention_s=1),
        WorkflowClient(redis_url=valkey_url) as client,
    ):
        client.schedule_new_workflow("waiting", instance_id="alive")
        client.schedule_new_workflow("waiting", instance_id="ended")
        ids = client.schedule_many("parent", inputs=range(20))
        client.terminate_workflow("ended")

        poll(lambda: left(valkey_url) == ["alive"], 30)
        assert client.get_workflow_state(ids[0]) is None
        client.raise_workflow_event("alive", "go")
        done = client.wait_for_workflow_completion("alive", timeout_in_seconds=10)

    assert done is not None
    check(valkey_url)


def test_idle_it_looks_once_a_minute_and_only_one_looks(valkey_url: str) -> None:
    class Counting(SyncLink):
        scripts = 0

        def run_many(self, calls: Any) -> Any:
            self.scripts += len(calls)
            return super().run_many(calls)

    link = Counting(valkey_url)
    namespace = Namespace(partitions=PARTITIONS)
    first = Sweeper(namespace, {"COMPLETED": 7 * 86_400, "FAILED": 7 * 86_400})
    second = Sweeper(namespace, {"COMPLETED": 7 * 86_400, "FAILED": 7 * 86_400})

    def rests(sweeper: Sweeper) -> bool:
        sweeper.sweep(link)
        return sweeper.next_at > time.monotonic() + 50

    poll(lambda: rests(first))
    of_the_first = link.scripts
    poll(lambda: rests(second))

    # Each status once; the second finds each partition taken.
    assert of_the_first == 2 * PARTITIONS
    assert link.scripts - of_the_first == PARTITIONS
    link.close()


def test_purge_takes_an_age_since_the_end(valkey_url: str) -> None:
    def purge(*options: str) -> list[str]:
        arguments = ["purge", *options, "--yes", "-o", "ids"]
        done = CliRunner(env={"WFQ_REDIS_URL": valkey_url}).invoke(cli, arguments)
        assert done.exit_code == 0, done.output
        return done.stdout.split()

    with program(valkey_url), WorkflowClient(redis_url=valkey_url) as client:
        client.schedule_new_workflow("waiting", instance_id="alive")
        client.schedule_new_workflow("at_once", input=1, instance_id="first")
        first = client.wait_for_workflow_completion("first", timeout_in_seconds=10)
        assert first is not None
        # The server tells milliseconds: the second one ends in a later one.
        client.schedule_new_workflow(
            "at_once", input=2, instance_id="second", start_at=timedelta(milliseconds=20)
        )
        client.wait_for_workflow_completion("second", timeout_in_seconds=10)
        then = first.last_updated_at.isoformat()

        assert purge("--older-than", "1h") == []
        assert purge("--where", "ended=1h") == []
        assert purge("--older-than", then) == ["first"]
        assert purge("--older-than", "0s", "--where", "name=at_once") == ["second"]
        assert left(valkey_url) == ["alive"]


@pytest.mark.processes
@pytest.mark.slow
def test_what_a_killed_scheduler_left_undone_another_does(
    valkey_url: str, processes: Processes
) -> None:
    with program(valkey_url), WorkflowClient(redis_url=valkey_url) as client:
        client.schedule_new_workflow("waiting", instance_id="alive")
        ids = client.schedule_many("at_once", inputs=range(MANY))
        for one in ids:
            client.wait_for_workflow_completion(one, timeout_in_seconds=30)
    env = {"WFQ_REDIS_URL": valkey_url, "WFQ_RETENTION_S": "1"}

    killed = processes.wfq(
        "worker", "--only", "scheduler", env={**env, "WFQ_FAILPOINTS": "sched.after_expire=kill@1"}
    )
    assert killed.wait() == -9
    undone = len(left(valkey_url))
    for _ in range(2):
        processes.wfq("worker", "--only", "scheduler", env=env)
    poll(lambda: left(valkey_url) == ["alive"], 30)

    assert 1 < undone < MANY + 1
    check(valkey_url)
