"""The runtime: registration, and workers in the own process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import wfq as wf
from tests.client.kit import NAMESPACE
from tests.servers import WHY_SKIPPED, find_binary
from wfq.errors import ConfigurationError, StorageUnavailable, TaskFailedError
from wfq.storage import membership
from wfq.storage.link import SyncLink


def make_runtime(**options: Any) -> wf.WorkflowRuntime:
    """A runtime with a chain, an async workflow, a failure, and one that waits."""
    wfr = wf.WorkflowRuntime(**options)

    @wfr.activity
    def add_one(ctx: wf.ActivityContext, number: int) -> int:
        return number + 1

    @wfr.activity(name="explode")
    def boom(ctx: wf.ActivityContext) -> None:
        raise ValueError("no stock")

    @wfr.activity
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    @wfr.workflow
    def chain(ctx: wf.WorkflowContext, number: int) -> Generator[Any, Any, list[int]]:
        first = yield ctx.call_activity(add_one, input=number)
        second = yield ctx.call_activity(double, input=first)
        return [first, second]

    @wfr.workflow(name="patient")
    async def waits(ctx: wf.WorkflowContext) -> str:
        ctx.set_custom_status("waiting")
        answer = await ctx.wait_for_external_event("answer", timeout=timedelta(minutes=5))
        return f"got {answer}"

    @wfr.workflow
    def fails(ctx: wf.WorkflowContext) -> Generator[Any, Any, None]:
        yield ctx.call_activity("explode")

    return wfr


def test_decorators_leave_the_function_as_it_is() -> None:
    wfr = wf.WorkflowRuntime()

    def flow(ctx: wf.WorkflowContext) -> int:
        return 1

    def work(ctx: wf.ActivityContext) -> int:
        return 1

    assert wfr.workflow(flow) is flow
    assert wfr.activity(name="named")(work) is work
    assert (
        wfr.versioned_workflow(name="v", version_name="v1", is_latest=True)(
            lambda_free := (lambda ctx: 2)
        )
        is lambda_free
    )
    assert {entry.name for entry in wfr.registry.workflows()} == {"flow", "v"}
    assert {entry.name for entry in wfr.registry.activities()} == {"named"}


def test_a_name_that_is_taken_is_an_error_that_names_both() -> None:
    wfr = wf.WorkflowRuntime()

    @wfr.workflow(name="a")
    def first(ctx: wf.WorkflowContext) -> None: ...

    with pytest.raises(ConfigurationError, match=r"'a' is registered twice: .*first.*second"):

        @wfr.workflow(name="a")
        def second(ctx: wf.WorkflowContext) -> None: ...


def test_of_several_latest_versions_the_last_one_counts() -> None:
    wfr = wf.WorkflowRuntime()

    @wfr.versioned_workflow(name="flow", is_latest=True)
    def flow_v1(ctx: wf.WorkflowContext) -> int:
        return 1

    assert wf.testing.run(wfr, flow_v1) == 1

    @wfr.versioned_workflow(name="flow", is_latest=True)
    def flow_v2(ctx: wf.WorkflowContext) -> int:
        return 2

    assert wf.testing.run(wfr, flow_v1) == 2
    assert [entry.version for entry in wfr.registry.workflows()] == ["flow_v1", "flow_v2"]


def test_daprs_arguments_are_accepted() -> None:
    wfr = wf.WorkflowRuntime("localhost", "50001", None, maximum_concurrent_activity_work_items=3)

    assert wfr.given == {"concurrency": 3}
    wfr.shutdown()


def test_an_in_process_runtime_runs_workflows(redis_url: str) -> None:
    wfr = make_runtime(redis_url=redis_url, namespace=NAMESPACE)
    with wf.WorkflowClient(redis_url=redis_url, namespace=NAMESPACE) as client, wfr:
        assert wfr.wait_for_worker_ready(timeout=20)
        chain = client.schedule_new_workflow("chain", input=1)
        patient = client.schedule_new_workflow("patient")
        fails = client.schedule_new_workflow("fails")

        assert client.wait_for_workflow_completion(chain, timeout_in_seconds=30).output() == [2, 4]
        state = client.wait_for_workflow_start(patient, fetch_payloads=True, timeout_in_seconds=30)
        assert state.custom_status() == "waiting"
        client.raise_workflow_event(patient, "ANSWER", data=42)
        state = client.wait_for_workflow_completion(patient, timeout_in_seconds=30)
        assert state.output() == "got 42"
        state = client.wait_for_workflow_completion(fails, timeout_in_seconds=30)
        assert state.runtime_status is wf.WorkflowStatus.FAILED
        assert state.failure_details is not None
        assert "no stock" in state.failure_details.message


def test_a_suspended_instance_goes_on_when_it_is_resumed(redis_url: str) -> None:
    wfr = make_runtime(redis_url=redis_url, namespace=NAMESPACE)
    with wf.WorkflowClient(redis_url=redis_url, namespace=NAMESPACE) as client, wfr:
        one = client.schedule_new_workflow("patient")
        client.wait_for_workflow_start(one, timeout_in_seconds=30)
        client.pause_workflow(one, settle_in_seconds=30)
        state = client.get_workflow_state(one)
        assert state is not None
        assert state.runtime_status is wf.WorkflowStatus.SUSPENDED
        client.resume_workflow(one, settle_in_seconds=30)
        state = client.get_workflow_state(one)
        assert state is not None
        assert state.runtime_status is wf.WorkflowStatus.RUNNING
        client.pause_workflow(one)
        client.raise_workflow_event(one, "answer", data=1)
        client.resume_workflow(one)

        state = client.wait_for_workflow_completion(one, timeout_in_seconds=30)
        assert state.output() == "got 1"


def test_a_live_id_is_terminated_and_replaced(redis_url: str) -> None:
    wfr = make_runtime(redis_url=redis_url, namespace=NAMESPACE)
    with wf.WorkflowClient(redis_url=redis_url, namespace=NAMESPACE) as client, wfr:
        client.schedule_new_workflow("patient", instance_id="a")
        client.wait_for_workflow_start("a", timeout_in_seconds=30)

        client.schedule_new_workflow(
            "chain", input=5, instance_id="a", reuse_id_policy="terminate_and_replace"
        )

        state = client.wait_for_workflow_completion("a", timeout_in_seconds=30)
        assert (state.name, state.output()) == ("chain", [6, 12])


def test_workers_register_while_they_run_and_leave_no_threads(redis_url: str) -> None:
    before = set(threading.enumerate())
    wfr = make_runtime(redis_url=redis_url, namespace=NAMESPACE, app_id="shop")
    wfr.start()
    wfr.start()
    assert wfr.wait_for_worker_ready(20)
    link = SyncLink(redis_url)
    namespace = membership.open_namespace(link, NAMESPACE)
    [worker] = membership.live_workers(link, namespace)
    assert worker.details["queues"] == ["shop"]
    assert worker.details["workflows"] == ["chain", "fails", "patient"]
    assert set(worker.details["activities"]) == {"add_one", "explode", "double"}

    wfr.shutdown()
    wfr.shutdown()

    assert membership.live_workers(link, namespace) == []
    assert not wfr.wait_for_worker_ready(0.1)
    left = {t.name for t in set(threading.enumerate()) - before if t.name.startswith("wfq")}
    assert left <= {"wfq-wakeups"}
    link.close()


def test_a_runtime_can_be_started_again(redis_url: str) -> None:
    wfr = make_runtime(redis_url=redis_url, namespace=NAMESPACE)
    with wf.WorkflowClient(redis_url=redis_url, namespace=NAMESPACE) as client:
        for number in range(2):
            with wfr:
                one = client.schedule_new_workflow("chain", input=number)
                state = client.wait_for_workflow_completion(one, timeout_in_seconds=30)
                assert state.output() == [number + 1, 2 * number + 2]


def test_a_server_that_is_away_is_told_by_start() -> None:
    wfr = make_runtime(redis_url="redis://127.0.0.1:1/0")

    with pytest.raises(StorageUnavailable, match="cannot reach"):
        wfr.start()


# --- wf.testing


def test_a_workflow_runs_in_memory() -> None:
    assert wf.testing.run(make_runtime(), "chain", 1) == [2, 4]
    with pytest.raises(TaskFailedError, match="no stock"):
        wf.testing.run(make_runtime(), "fails")


def test_in_memory_runs_are_apart() -> None:
    wfr = make_runtime()
    with wf.testing.in_memory(wfr) as first, wf.testing.in_memory(wfr) as second:
        one = first.schedule_new_workflow("chain", input=1)

        first.wait_for_workflow_completion(one, timeout_in_seconds=30)

        assert second.get_workflow_state(one) is None


def test_without_a_url_all_share_the_directorys_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if find_binary("valkey") is None:
        pytest.skip(WHY_SKIPPED["valkey"])
    wfr = make_runtime()
    with wfr, wf.WorkflowClient() as client:
        one = client.schedule_new_workflow("chain", input=1)

        state = client.wait_for_workflow_completion(one, timeout_in_seconds=30)

    assert state.output() == [2, 4]
    assert (tmp_path / ".wfq").is_dir()
    with wf.WorkflowClient() as later:
        assert later.get_workflow_state(one) is not None


def test_a_failed_attempt_is_logged_with_its_message_in_one_bounded_line(
    valkey_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    wfr = wf.WorkflowRuntime(redis_url=valkey_url, namespace=NAMESPACE)

    @wfr.activity
    def explode() -> None:
        raise ValueError("no stock\nforged \x1b[31m line " + "x" * 10_000)

    @wfr.workflow
    def order(ctx: wf.WorkflowContext) -> Generator[Any, Any, None]:
        yield ctx.call_activity(explode)

    with wfr, wf.WorkflowClient(redis_url=valkey_url, namespace=NAMESPACE) as client:
        instance_id = client.schedule_new_workflow(order)
        client.wait_for_workflow_completion(instance_id, timeout_in_seconds=20)

    (line,) = [text for text in caplog.messages if "failed in attempt 1" in text]
    assert f"activity 'explode' of instance {instance_id}" in line
    assert "ValueError: no stock forged \\x1b[31m line xxx" in line
    assert line.endswith("xxx...")
    assert line.isprintable()
    assert len(line) < 500
