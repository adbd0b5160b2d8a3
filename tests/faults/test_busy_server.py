"""A foreign script that keeps the server to itself: its refusals are waited out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

import wfq as wf
from tests.servers import LocalServer, command_client, poll
from wfq.errors import StorageError

pytestmark = pytest.mark.timeout(60)

#: Seconds of server time that the script takes; after a tenth of one, others are told BUSY.
SCRIPT = """
local begin = redis.call('TIME')
repeat
  local now = redis.call('TIME')
until (now[1] - begin[1]) * 1000000 + now[2] - begin[2] > 2500000
"""


def chain(ctx: wf.WorkflowContext, steps: int) -> Generator[Any, Any, int]:
    total = 0
    for step in range(steps):
        total = yield ctx.call_activity(add, input=[total, step])
    return total


def add(ctx: wf.ActivityContext, pair: list[int]) -> int:
    return pair[0] + pair[1]


def test_a_foreign_script_only_delays(
    start_server: Callable[..., LocalServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server("redis", "--lua-time-limit", "100")
    runtime = wf.WorkflowRuntime(redis_url=server.url)
    runtime.register_workflow(chain)
    runtime.register_activity(add)
    runtime.start()

    def hog() -> None:
        with command_client(server.url) as client:
            client.eval(SCRIPT, 0)

    def busy() -> bool:
        with command_client(server.url) as client:
            try:
                return not client.ping()
            except Exception as exc:
                return "BUSY" in str(exc)

    with wf.WorkflowClient(redis_url=server.url) as client:
        before = [client.schedule_new_workflow(chain, input=40) for _ in range(20)]
        script = threading.Thread(target=hog)
        script.start()
        poll(busy)
        with pytest.raises(StorageError):
            client.schedule_new_workflow(chain, input=1, instance_id="refused")
        script.join()
        for instance_id in [*before, client.schedule_new_workflow(chain, input=3)]:
            state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=30)
            assert state is not None
            assert state.runtime_status.name == "COMPLETED"
    runtime.shutdown()
    assert not [record for record in caplog.records if record.exc_info]
