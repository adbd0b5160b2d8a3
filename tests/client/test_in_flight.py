"""What is under way when something happens to its instance or its worker; a real server."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from datetime import timedelta
from typing import Any

import pytest

import wfq as wf
from tests.client.kit import NAMESPACE
from tests.servers import poll
from wfq.checker import check_namespace
from wfq.settings import load_settings
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

Flow = Generator[Any, Any, Any]

POLICY = wf.RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)


class Shop:
    """A program whose activity fails until it may succeed, and who counts its attempts."""

    def __init__(self, url: str) -> None:
        self.attempts: list[int] = []
        self.may_succeed = threading.Event()
        self.settings = load_settings(redis_url=url, namespace=NAMESPACE, lease_s=1.0)
        self.client = wf.WorkflowClient(settings=self.settings)

    def runtime(self) -> wf.WorkflowRuntime:
        wfr = wf.WorkflowRuntime(settings=self.settings)

        @wfr.activity
        def charge(ctx: wf.ActivityContext) -> int:
            self.attempts.append(ctx.attempt)
            if not self.may_succeed.is_set():
                raise ValueError("not yet")
            return ctx.attempt

        @wfr.workflow
        def order(ctx: wf.WorkflowContext) -> Flow:
            return (yield ctx.call_activity(charge, retry_policy=POLICY))

        @wfr.workflow
        def with_default(ctx: wf.WorkflowContext, x: int = 5) -> int:
            return x

        @wfr.activity
        def activity_default(ctx: wf.ActivityContext, x: int = 5) -> int:
            return x

        @wfr.workflow
        def callers(ctx: wf.WorkflowContext, x: Any) -> Flow:
            tasks = [
                ctx.call_child_workflow(with_default),
                ctx.call_child_workflow(with_default, input=None),
                ctx.call_child_workflow(with_default, input=0),
                ctx.call_activity(activity_default),
                ctx.call_activity(activity_default, input=None),
                ctx.call_activity(activity_default, input=0),
            ]
            return [x, *(yield wf.when_all(tasks))]

        return wfr

    def waiting_for_retry(self) -> str:
        """Start an order and return its id when its first attempt has failed."""
        instance_id = self.client.schedule_new_workflow("order")
        poll(lambda: self.attempts)
        return instance_id

    def end(self, instance_id: str) -> wf.WorkflowState[Any]:
        state = self.client.wait_for_workflow_completion(instance_id, timeout_in_seconds=20)
        assert state is not None
        return state


@pytest.fixture
def shop(valkey_url: str) -> Iterator[Shop]:
    shop = Shop(valkey_url)
    yield shop
    shop.client.close()
    link = SyncLink(valkey_url)
    report = check_namespace(link, Namespace(NAMESPACE))
    link.close()
    assert report.ok, report


def test_a_retry_goes_on_while_its_instance_is_suspended(shop: Shop) -> None:
    with shop.runtime():
        instance_id = shop.waiting_for_retry()
        shop.client.pause_workflow(instance_id)
        shop.may_succeed.set()
        poll(lambda: len(shop.attempts) == 2)
        state = shop.client.get_workflow_state(instance_id)
        assert state is not None
        assert state.runtime_status is wf.WorkflowStatus.SUSPENDED
        shop.client.resume_workflow(instance_id)

        assert shop.end(instance_id).output() == 2
    assert shop.attempts == [1, 2]


def test_a_retry_ends_with_its_instance(shop: Shop) -> None:
    with shop.runtime():
        instance_id = shop.waiting_for_retry()
        shop.client.terminate_workflow(instance_id)
        assert shop.end(instance_id).runtime_status is wf.WorkflowStatus.TERMINATED
        shop.may_succeed.set()
        later = shop.client.schedule_new_workflow("order")

        # By the time that another has run, with a delay of its own, the retry would have.
        assert shop.end(later).output() == 1
        after = shop.client.schedule_new_workflow("callers", start_at=timedelta(seconds=1.2))
        shop.end(after)
    assert shop.attempts == [1, 1]


def test_a_retry_survives_all_workers(shop: Shop) -> None:
    with shop.runtime():
        instance_id = shop.waiting_for_retry()
    shop.may_succeed.set()

    with shop.runtime():
        assert shop.end(instance_id).output() == 2
    assert shop.attempts == [1, 2]


@pytest.mark.parametrize("given", [{}, {"input": None}, {"input": 0}])
def test_no_input_and_none_are_the_default_everywhere(shop: Shop, given: dict[str, Any]) -> None:
    with shop.runtime():
        alone = shop.end(shop.client.schedule_new_workflow("with_default", **given))
        calls = shop.end(shop.client.schedule_new_workflow("callers", **given))

    value = given.get("input")
    assert alone.output() == (5 if value is None else 0)
    assert alone.serialized_input == (None if value is None else "0")
    assert calls.output() == [value, 5, 5, 0, 5, 5, 0]
