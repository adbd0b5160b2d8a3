"""Commands that run until they are stopped, as real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.cli.conftest import Cli
from tests.ports import free_port
from tests.servers import Processes, Spawned, command_client, poll, runs
from wfq.storage.keys import Namespace
from wfq.storage.membership import SCHEMA

pytestmark = pytest.mark.processes

APP = """
import time
import wfq as wf

app = wf.WorkflowRuntime()

@app.workflow
def double(ctx: wf.WorkflowContext, number: int):
    return (yield ctx.call_activity(twice, input=number))

@app.workflow
def fail(ctx: wf.WorkflowContext):
    raise ValueError("on purpose")

@app.workflow
def wait(ctx: wf.WorkflowContext):
    return (yield ctx.wait_for_external_event("go"))

@app.activity
def twice(number: int) -> int:
    time.sleep(0.05)
    return 2 * number
"""


@pytest.fixture
def worker(wfq: Cli, processes: Processes, tmp_path: Path) -> Callable[..., Spawned]:
    """Start `wfq worker` for APP and wait until it works."""

    def start(*arguments: str, ready: int = 1) -> Spawned:
        (tmp_path / "app.py").write_text(APP)
        started = processes.wfq("worker", *arguments, env=wfq.env, cwd=tmp_path)
        poll(lambda: not started.alive or len(wfq.rows("workers")) >= ready, 20)
        assert started.alive, started.log()
        return started

    return start


def test_an_instance_runs_from_start_to_end(wfq: Cli, worker: Callable[..., Spawned]) -> None:
    worker()

    done = wfq.run("start", "double", "21", "--wait", "--timeout", "20s")

    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    state = json.loads(done.stdout)
    assert state["runtime_status"] == "COMPLETED"
    assert state["output"] == 42


def test_how_an_instance_ended_is_the_exit_code(wfq: Cli, worker: Callable[..., Spawned]) -> None:
    worker()
    wfq.ok("start", "fail", "--id", "f-1")
    wfq.ok("start", "wait", "--id", "t-1")
    wfq.ok("terminate", "t-1", "--result", '{"why": "test"}')

    failed = wfq.run("wait", "f-1", "--timeout", "20s")
    terminated = wfq.run("wait", "t-1", "--timeout", "20s")

    assert failed.exit_code == 3
    details = json.loads(failed.stdout)["failure_details"]
    assert (details["error_type"], details["message"]) == ("ValueError", "on purpose")
    assert terminated.exit_code == 4
    assert json.loads(terminated.stdout)["output"] == {"why": "test"}
    assert wfq.run("get", "f-1").exit_code == 0
    assert "'f-1'" in wfq.fails(7, "raise", "f-1", "go")


def test_following_shows_events_on_stderr(wfq: Cli, worker: Callable[..., Spawned]) -> None:
    worker()

    done = wfq.run("start", "double", "4", "--follow", "--timeout", "20s")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["output"] == 8
    kinds = [line.split()[1] for line in done.stderr.splitlines()]
    assert kinds == [
        "ExecutionStarted", "TaskScheduled", "TaskCompleted", "ExecutionCompleted",
    ]  # fmt: skip


def test_an_instance_lives_through_its_whole_life(wfq: Cli, worker: Callable[..., Spawned]) -> None:
    worker()
    wfq.ok("start", "wait", "--id", "w-1")

    wfq.ok("suspend", "w-1")
    poll(lambda: wfq.json("get", "w-1")["runtime_status"] == "SUSPENDED")
    wfq.ok("raise", "w-1/go", '{"n": 1}')
    wfq.ok("resume", "w-1")
    wfq.ok("wait", "w-1", "--timeout", "20s")
    first = wfq.json("get", "w-1")
    again = wfq.ok("rerun", "w-1").strip()
    wfq.ok("raise", again, "GO", "2")
    second = wfq.json("wait", again, "--timeout", "20s")
    wfq.ok("purge", "--where", "name=wait", "--yes")

    assert first["output"] == {"n": 1}
    assert second["output"] == 2
    assert wfq.rows("list") == []


def test_a_workflow_that_no_worker_has_is_started_with_a_warning(
    wfq: Cli, worker: Callable[..., Spawned]
) -> None:
    worker()

    done = wfq.run("start", "doubel", "1")

    assert done.exit_code == 0
    assert done.stderr == (
        "wfq: no live worker of 'default' has registered 'doubel': it waits; "
        "did you mean 'double'?\n"
    )
    assert "known: double, fail, wait" in wfq.run("start", "zzz").stderr


def test_a_worker_ends_in_order_when_asked(wfq: Cli, worker: Callable[..., Spawned]) -> None:
    started = worker()

    assert started.stop() == 0
    assert wfq.rows("workers") == []


def test_workers_say_what_they_serve(wfq: Cli, worker: Callable[..., Spawned]) -> None:
    worker("app.py", "--concurrency", "3", "--only", "activity", "--queue", "gpu,default")

    (row,) = wfq.rows("workers")

    assert row["roles"] == ["activity"]
    assert row["queues"] == ["default", "gpu"]
    assert row["activities"] == ["twice"]
    assert row["concurrency"] == 3
    assert "workflows" not in row
    assert {queue["queue"] for queue in wfq.rows("queues")} == {"default", "gpu"}


def test_a_scheduler_needs_no_app(wfq: Cli, processes: Processes) -> None:
    started = processes.wfq("worker", "--only", "scheduler", env=wfq.env)

    poll(lambda: len(wfq.rows("workers")) == 1, 20)
    assert started.stop() == 0


def test_several_processes_are_looked_after(wfq: Cli, worker: Callable[..., Spawned]) -> None:
    started = worker("app.py", "--processes", "2", ready=2)
    pids = {row["pid"] for row in wfq.rows("workers")}
    assert len(pids) == 2

    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    poll(lambda: len({r["pid"] for r in wfq.rows("workers")} - {victim}) == 2, 20)
    done = wfq.json("start", "double", "5", "--wait", "--timeout", "20s")
    left = {row["pid"] for row in wfq.rows("workers")}

    assert done["output"] == 10
    assert started.stop(30) == 0
    poll(lambda: not any(runs(pid) for pid in left), 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import nowhere_to_be_found\n", "nowhere_to_be_found"),
        ("x = 1\n", "no workflow"),
        ("raise SystemExit(3)\n", "SystemExit"),
    ],
)
def test_an_app_that_cannot_be_used_is_one_line(wfq: Cli, text: str, said: str) -> None:
    Path("app.py").write_text(text)

    line = wfq.fails(2, "worker", "app.py")

    assert "'app.py'" in line
    assert said in line


def test_an_app_that_is_not_there_is_named(wfq: Cli) -> None:
    assert "nope.py" in wfq.fails(2, "worker", "nope.py")
    assert "no app" in wfq.fails(2, "worker")
    assert "no role 'cook'" in wfq.fails(2, "worker", "--only", "cook")


def test_a_listener_raises_what_is_published(
    wfq: Cli, worker: Callable[..., Spawned], processes: Processes
) -> None:
    worker()
    wfq.ok("start", "wait", "--id", "w-1")
    rule = ("--channel", "answers", "--event", "go", "--instance-id-from", "$.order.id")
    listener = processes.wfq("listen", *rule, env=wfq.env)
    message = json.dumps({"order": {"id": "w-1"}, "ok": True})

    with redis.Redis.from_url(wfq.env["WFQ_REDIS_URL"]) as publisher:
        poll(lambda: publisher.publish("answers", message), 20)
        state = wfq.json("wait", "w-1", "--timeout", "20s")

    assert state["output"] == {"order": {"id": "w-1"}, "ok": True}
    assert listener.stop() == 0


def test_a_listener_needs_a_rule_that_makes_sense(wfq: Cli) -> None:
    assert "nothing to listen to" in wfq.fails(2, "listen")
    assert "exactly one of event" in wfq.fails(2, "listen", "--channel", "c")
    assert "instance-id-from" in wfq.fails(2, "listen", "--channel", "c", "--event", "e")


def test_the_server_answers(wfq: Cli, processes: Processes) -> None:
    wfq.ok("start", "wait", "--id", "w-1")
    port = free_port()
    server = processes.wfq("server", "--port", str(port), env=wfq.env)

    document = poll(lambda: get(f"http://127.0.0.1:{port}/v1.0/workflows/wfq/w-1"), 20)

    assert document["instanceID"] == "w-1"
    assert server.stop() == 0
    assert "HTTP API on http://" in server.log()


@pytest.mark.parametrize(
    "command",
    [
        "worker --only scheduler", "server --port 0", "list", "doctor --deep", "start wait",
        "listen --channel c --event e --instance-id-from $.id",
    ],
)  # fmt: skip
def test_a_namespace_of_a_newer_release_is_refused(wfq: Cli, valkey_url: str, command: str) -> None:
    with command_client(valkey_url) as client:
        client.hset(Namespace().meta, mapping={"schema": SCHEMA + 1, "partitions": 16})

    line = wfq.fails(2, *command.split())

    assert f"schema {SCHEMA + 1}, this wfq reads up to {SCHEMA}; upgrade wfq" in line


@pytest.mark.parametrize(
    "damage", [{"schema": "one"}, {"partitions": "x"}, {"partitions": 0}], ids=str
)
def test_a_damaged_namespace_is_one_line(
    wfq: Cli, valkey_url: str, damage: dict[str, str | int]
) -> None:
    with command_client(valkey_url) as client:
        client.hset(Namespace().meta, mapping={"schema": 1, "partitions": 16, **damage})

    assert "its key wfq:{default}:meta is damaged" in wfq.fails(2, "list")


def test_a_port_that_is_taken_is_one_line(wfq: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert f":{port}" in wfq.fails(2, "server", "--port", str(port))


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as reply:
        return json.load(reply)
