"""Records of a user's own loggers say which instance they come from, wherever the code runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import wfq as wf
from tests.servers import Processes

APP = """
import asyncio
import logging
from datetime import timedelta

import wfq as wf

log = logging.getLogger("shop")
app = wf.WorkflowRuntime()


@app.workflow
def order(ctx: wf.WorkflowContext, number: int):
    log.info("turn %d", number)
    yield ctx.call_activity(inline, input=number)
    yield wf.when_all([ctx.call_activity(a, input=number) for a in (thread, loop, process)])
    policy = wf.RetryPolicy(first_retry_interval=timedelta(0), max_number_of_attempts=2)
    yield ctx.call_activity(fragile, retry_policy=policy)
    log.info("the last turn %d", number)


@app.activity(inline=True)
def inline(number: int):
    log.info("inline %d", number)


@app.activity
def thread(number: int):
    log.info("thread %d", number)


@app.activity
async def loop(number: int):
    await asyncio.sleep(0.01)
    log.info("loop %d", number)
    await asyncio.to_thread(log.info, "a thread of the loop's %d", number)


@app.activity(process=True)
def process(number: int):
    log.info("process %d", number)


@app.activity
def fragile(ctx: wf.ActivityContext):
    log.info("attempt %d of %s", ctx.attempt, ctx.workflow_id)
    if ctx.attempt == 1:
        raise ConnectionError("not yet")
"""
#: What is said once for each instance, and the activity and the task that say it.
PLACES = {
    "inline": ("inline", 0),
    "thread": ("thread", 1),
    "loop": ("loop", 2),
    "a thread of the loop's": ("loop", 2),
    "process": ("process", 3),
}


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_every_record_of_a_worker_carries_the_ids(
    valkey_url: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    env = {"WFQ_REDIS_URL": valkey_url, "WFQ_LOG_FORMAT": "json"}
    worker = processes.wfq("worker", "app.py", env=env, cwd=tmp_path)
    with wf.WorkflowClient(redis_url=valkey_url) as client:
        ids = client.schedule_many("order", [1, 2, 3])
        for instance_id in ids:
            state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=60)
            assert state.runtime_status.name == "COMPLETED", state.failure_details
    worker.stop()

    lines: list[dict[str, Any]] = [
        json.loads(line) for line in worker.log().splitlines() if line.startswith("{")
    ]
    said = {line["message"]: line for line in lines if line["logger"] == "shop"}
    for number, instance_id in enumerate(ids, start=1):
        turn = said[f"the last turn {number}"]
        assert (turn["instance_id"], turn["workflow"]) == (instance_id, "order")
        assert said[f"turn {number}"]["instance_id"] == instance_id
        for place, (activity, task_id) in PLACES.items():
            line = said[f"{place} {number}"]
            found = (line["instance_id"], line["activity"], line["task_id"], line["attempt"])
            assert found == (instance_id, activity, task_id, 1)
        again = said[f"attempt 2 of {instance_id}"]
        assert (again["activity"], again["attempt"]) == ("fragile", 2)
        (failure,) = [
            line
            for line in lines
            if line["level"] == "warning"
            and line["logger"] == "wfq.activity"
            and line.get("instance_id") == instance_id
        ]
        assert (failure["activity"], failure["task_id"]) == ("fragile", again["task_id"])
    # What the worker says of itself is about nobody.
    assert all("instance_id" not in line for line in lines if line["logger"] == "wfq.worker")
