"""What a page says of real instances that try again, wait for others, or go round and round."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

import wfq as wf
from tests.server.pages import Pages, shown
from wfq_workers import presence

LATER = wf.RetryPolicy(
    first_retry_interval=timedelta(minutes=1), max_number_of_attempts=5, backoff_coefficient=1.0
)
AT_ONCE = wf.RetryPolicy(
    first_retry_interval=timedelta(milliseconds=1),
    max_number_of_attempts=3,
    backoff_coefficient=1.0,
)


class Shop:
    """A program with what the tests need, and the gate that one of its activities waits for."""

    def __init__(self, url: str) -> None:
        self.runtime = wf.WorkflowRuntime(redis_url=url)
        self.gate = threading.Event()
        runtime, gate = self.runtime, self.gate

        @runtime.workflow
        def pay(ctx: wf.WorkflowContext, late: bool):  # type: ignore[no-untyped-def]
            yield ctx.call_activity(charge, input=late, retry_policy=LATER if late else AT_ONCE)
            yield ctx.wait_for_external_event("paid")

        @runtime.workflow
        def family(ctx: wf.WorkflowContext):  # type: ignore[no-untyped-def]
            yield ctx.call_child_workflow(kid)

        @runtime.workflow
        def kid(ctx: wf.WorkflowContext):  # type: ignore[no-untyped-def]
            yield ctx.call_activity("load_van", app_id="elsewhere")

        @runtime.workflow
        def rounds(ctx: wf.WorkflowContext, number: int):  # type: ignore[no-untyped-def]
            yield ctx.create_timer(timedelta(0))
            if number < 12:
                ctx.continue_as_new(number + 1)
            else:
                yield ctx.wait_for_external_event("stop")

        @runtime.workflow
        def slow(ctx: wf.WorkflowContext):  # type: ignore[no-untyped-def]
            yield ctx.call_activity(hold)

        @runtime.activity
        def charge(ctx: wf.ActivityContext, late: bool) -> str:
            if late or ctx.attempt < 3:
                raise ValueError("no <b>card</b>")
            return "paid"

        @runtime.activity
        def hold() -> None:
            gate.wait(30)


@pytest.fixture
def shop(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setattr(presence, "BEAT_S", 0.1)
    made = Shop(pages.url)
    with made.runtime:
        yield made
        made.gate.set()


@pytest.mark.usefixtures("shop")
def test_an_activity_that_is_tried_again_says_when_and_shows_what_was(pages: Pages) -> None:
    pages.wfq.schedule_new_workflow("pay", input=True, instance_id="p-1")

    text = shown(pages, "/instances/p-1", "has failed once")

    assert "charge has failed once: attempt 2 of 5 in " in text
    assert "last error: ValueError: no &lt;b&gt;card&lt;/b&gt;" in text
    assert "1 failed attempt" in text
    assert text.count("bar-try") == 1
    assert text.count("bar-line") == 1
    assert "Why it is stuck" not in text


@pytest.mark.usefixtures("shop")
def test_attempts_of_the_past_are_ticks_where_they_began(pages: Pages) -> None:
    pages.wfq.schedule_new_workflow("pay", input=False, instance_id="p-1")

    text = shown(pages, "/instances/p-1", "Waits for the event paid")
    (ended,) = [
        event
        for event in pages.wfq.get_workflow_history("p-1")
        if event.event_type.value == "TaskCompleted"
    ]

    assert len(ended.details["attempt_times"]) == 3
    assert "3 attempts" in text
    assert text.count("bar-tick") == 3
    assert text.count("bar-try") == 2


@pytest.mark.usefixtures("shop")
def test_a_parent_of_a_stuck_child_looks_stuck(pages: Pages) -> None:
    pages.wfq.schedule_new_workflow("family", instance_id="f-1")

    text = shown(pages, "/instances/f-1", "is stuck")

    assert "Why it is stuck" in text
    assert re.findall(r"The child workflow [^<]*", text) == [
        (
            "The child workflow kid is stuck: no live worker has the activity load_van "
            "(queue elsewhere). Start one, and it goes on. "
        )
    ]
    assert '<a href="/ui/instances/f-1~' in text


@pytest.mark.usefixtures("shop")
def test_the_overview_names_queues_that_nobody_serves(pages: Pages) -> None:
    assert "Nothing is stalled, suspended or without a worker." in pages.page("/")
    pages.wfq.schedule_new_workflow("family", instance_id="f-1")
    pages.wfq.schedule_new_workflow("pay", instance_id="f-2", app_id="accounts", input=True)

    text = shown(pages, "/", "no worker")

    assert re.findall(r'queues">([^<]*)</a> <span class="bad">([^<]*)', text) == [
        ("accounts", "1 event waits, and there is no orchestrator"),
        ("elsewhere", "1 activity waits, and there is no worker"),
    ]


@pytest.mark.usefixtures("shop")
def test_generations_are_told_as_far_as_they_are_kept(pages: Pages) -> None:
    pages.wfq.schedule_new_workflow("rounds", input=0, instance_id="r-1")

    text = shown(pages, "/instances/r-1", "Waits for the event stop")

    assert "generation 13, since 20" in text
    assert "It has continued as new 12 times." in text
    assert "the last 10:" in text
    assert '<td class="right">12</td>' in text
    assert '<td class="right">2</td><td>20' not in text


def test_workers_tell_how_many_slots_are_taken(pages: Pages, shop: Shop) -> None:
    def page(part: str) -> Any:
        return shown(pages, "/workers", part)

    page("0 of ")
    pages.wfq.schedule_new_workflow("slow", instance_id="s-1")
    taken = page("1 of ")
    shop.gate.set()

    assert re.search(r"1 of \d+ taken", taken)
    page("0 of ")
