"""``wfq doctor``, ``wfq explain`` and ``wfq lint``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.cli.conftest import Cli
from tests.groups import ClusterGroup
from tests.servers import command_client
from wfq.errors import StorageUnavailable
from wfq.storage import membership
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import WorkerInfo, register_worker
from wfq_cli import health

NAMESPACE = Namespace("default", 16)
APP = """
import wfq

print("hello")

def flow(ctx: wfq.WorkflowContext, n): return n
def work(n): return n
"""


def test_doctor_is_content_with_a_sound_server(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1")

    found = {row["check"]: row for row in wfq.rows("doctor", "--deep")}

    assert found["server"]["detail"].startswith("Valkey ")
    assert found["eviction"]["result"] == "ok"
    assert found["instances"] == {"check": "instances", "result": "ok", "detail": "1 RUNNING"}
    assert found["workers"]["result"] == "warning"


def test_doctor_looks_at_everything(wfq: Cli) -> None:
    found = {row["check"]: row["result"] for row in wfq.rows("doctor")}

    assert found == {
        "latency": "ok",
        "server": "ok",
        "eviction": "ok",
        "persistence": "warning",
        "clock": "ok",
        "scripts": "ok",
        "groups": "ok",
        "dead consumers": "ok",
        "workers": "warning",
        "names": "ok",
        "app": "ok",
    }


def test_doctor_says_in_one_line_that_the_server_is_away(wfq: Cli) -> None:
    wfq.env["WFQ_REDIS_URL"] = "redis://127.0.0.1:1"

    assert "127.0.0.1:1" in wfq.fails(69, "doctor")


@pytest.mark.parametrize(
    ("info", "result", "said"),
    [
        ({"redis_version": "6.2.14"}, "wrong", "needs 7.0"),
        ({"redis_version": "7.0.15"}, "ok", "Redis 7.0.15"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.0"}, "ok", "Valkey 9.1.0"),
    ],
)
def test_doctor_knows_which_servers_do(info: dict[str, str], result: str, said: str) -> None:
    row = health.judge_version(info)

    assert row["result"] == result
    assert said in row["detail"]


@pytest.mark.parametrize(
    ("policy", "limit", "result"),
    [("noeviction", 1, "ok"), ("allkeys-lru", 1, "wrong"), ("allkeys-lru", 0, "warning")],
)
def test_doctor_finds_a_server_that_evicts(policy: str, limit: int, result: str) -> None:
    row = health.judge_eviction({"maxmemory_policy": policy, "maxmemory": limit})

    assert row["result"] == result


@pytest.mark.parametrize(
    ("info", "result"),
    [
        ({"aof_enabled": 1, "aof_last_write_status": "ok"}, "ok"),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, "wrong"),
        ({"aof_enabled": 0, "rdb_last_bgsave_status": "err"}, "wrong"),
        ({"aof_enabled": 0, "rdb_last_bgsave_status": "ok"}, "warning"),
    ],
)
def test_doctor_finds_a_server_that_forgets(info: dict[str, object], result: str) -> None:
    assert health.judge_persistence(info)["result"] == result


def test_doctor_compares_clocks() -> None:
    assert health.judge_clock(0.1)["result"] == "ok"
    assert "behind this machine's" in health.judge_clock(-60.0)["detail"]
    assert health.judge_clock(60.0)["result"] == "warning"


def test_doctor_finds_a_server_that_is_slow(wfq: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SLOW_MS", -1.0)

    found = {row["check"]: row for row in wfq.rows("doctor")}

    assert found["latency"]["result"] == "warning"


def test_doctor_shows_every_node_of_a_cluster(wfq: Cli, cluster: ClusterGroup) -> None:
    wfq.env["WFQ_REDIS_URL"] = cluster.url

    rows = wfq.rows("doctor")

    for check in ("latency", "server", "eviction", "persistence", "clock"):
        told = {row["detail"].partition(": ")[0] for row in rows if row["check"] == check}
        assert told == {node.address for node in cluster.nodes}, check
    assert {row["check"]: row["result"] for row in rows}["scripts"] == "ok"


def test_doctor_names_a_node_that_does_not_answer() -> None:
    with redis.Redis(port=1) as client:
        node = health.Node("127.0.0.1:1", client)

        (row,) = health.latency(node)

    assert row["result"] == "wrong"
    assert row["detail"].startswith("127.0.0.1:1: no answer: ")
    assert not node.answers


def test_doctor_blames_nothing_for_a_node_that_is_away(
    wfq: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = StorageUnavailable("cannot reach 127.0.0.1:1")
    monkeypatch.setattr(membership, "known_queues", lambda *_: ["default"])
    monkeypatch.setattr(SyncLink, "try_commands", lambda _, commands: [away] * len(commands))
    monkeypatch.setattr(health, "figures", lambda *_: away)

    def run(_link: SyncLink, call: object) -> object:
        if call is away:
            raise away
        return run_well(_link, call)

    run_well: Any = SyncLink.run
    monkeypatch.setattr(SyncLink, "run", run)

    found = {row["check"]: row for row in wfq.rows("doctor")}

    assert (found["groups"]["result"], found["scripts"]["result"]) == ("unknown", "unknown")
    assert found["groups"]["detail"] == "16 of 16 streams of activities are away"
    assert found["scripts"]["detail"].endswith("cannot reach 127.0.0.1:1")


def test_doctor_tells_of_replicas() -> None:
    info = {"redis_version": "7.2.0", "role": "master", "connected_slaves": 1}

    assert health.judge_version(info)["detail"] == "Redis 7.2.0, master with 1 replica"


def test_doctor_cuts_nothing_in_a_pipe(wfq: Cli) -> None:
    wfq.env["COLUMNS"] = "40"
    # Figures differ from one time to the next: how long an answer takes, how far a clock is off.
    whole = [re.sub(r"[\d.]+", "N", row["detail"]) for row in wfq.rows("doctor")]

    table = re.sub(r"[\d.]+", "N", wfq.run("doctor", "-o", "table").stdout)

    assert max(map(len, whole)) > 60
    assert [line for line in whole if line not in table] == []


def test_doctor_finds_a_server_that_refuses_scripts(wfq: Cli) -> None:
    url = wfq.env["WFQ_REDIS_URL"]
    wfq.ok("start", "chain")
    with command_client(url) as client:
        rules = ["on", "nopass", "~*", "&*", "+@all", "-eval", "-evalsha", "-script"]
        client.execute_command("ACL", "SETUSER", "limited", *rules)
    try:
        wfq.env["WFQ_REDIS_URL"] = url.replace("unix://", "unix://limited:any@")

        done = wfq.run("doctor")
    finally:
        with command_client(url) as client:
            client.execute_command("ACL", "DELUSER", "limited")

    assert done.exit_code == 1
    (line,) = (json.loads(line) for line in done.stdout.splitlines() if '"scripts"' in line)
    assert line["result"] == "wrong"
    assert "they are refused" in line["detail"]


def test_doctor_finds_streams_without_group_and_attempts_of_dead_workers(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1")
    with command_client(wfq.env["WFQ_REDIS_URL"]) as client:
        client.sadd(NAMESPACE.queues, "default")
        client.xadd(NAMESPACE.activities(0, "default"), {"c-1": "message"})
        held = NAMESPACE.activities(1, "default")
        client.xgroup_create(held, "activities", "0", mkstream=True)
        client.xadd(held, {"c-1": "message"})
        client.xreadgroup("activities", "gone-1-ab", {held: ">"})

    found = {row["check"]: row for row in wfq.rows("doctor")}

    assert found["groups"]["result"] == "warning"
    assert found["groups"]["detail"].startswith("1 streams of activities have no group")
    assert found["dead consumers"]["result"] == "warning"
    assert (
        "1 attempts are held by 1 workers that are gone, such as gone-1-ab"
        in (found["dead consumers"]["detail"])
    )


def test_doctor_finds_names_and_roles_that_no_worker_has(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1")
    details = {"roles": ["orchestrator"], "app_id": "default", "workflows": ["chains"]}
    link = SyncLink(wfq.env["WFQ_REDIS_URL"])
    register_worker(link, NAMESPACE, WorkerInfo("w-1", 0, details))
    link.close()

    done = wfq.run("doctor")

    assert done.exit_code == 1
    found = {row["check"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert found["names"]["result"] == "wrong"
    assert "1 instance: " in found["names"]["detail"]
    assert "did you mean 'chains'?" in found["names"]["detail"]
    assert (
        found["workers"]["detail"] == "1 live, and none of them with the role activity, scheduler"
    )


def test_doctor_tries_to_import_the_app(wfq: Cli) -> None:
    Path("app.py").write_text(APP)
    good = {row["check"]: row for row in wfq.rows("doctor")}["app"]
    wfq.env["WFQ_APP"] = "broken.py"
    Path("broken.py").write_text("import nothing_of_that_name\n")

    done = wfq.run("doctor")

    assert good["result"] == "ok"
    assert "1 workflows, 1 activities" in good["detail"]
    assert done.exit_code == 1
    assert "nothing_of_that_name" in done.stdout


def test_doctor_finds_and_mends_a_start_that_went_missing(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1")
    partition = NAMESPACE.partition_of("c-1")
    with command_client(wfq.env["WFQ_REDIS_URL"]) as client:
        client.delete(NAMESPACE.events(partition, "default"))

    broken = wfq.run("doctor", "--deep")
    mended = wfq.run("doctor", "--repair")

    assert broken.exit_code == 1
    assert "c-1" in broken.stdout
    assert mended.exit_code == 0
    assert '"mended"' in mended.stdout
    assert wfq.run("doctor", "--deep").exit_code == 0


def test_explain_says_what_an_instance_waits_for(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1", "--delay", "2h")

    told = wfq.json("explain", "c-1")

    assert told["instance_id"] == "c-1"
    assert told["runtime_status"] == "PENDING"
    assert "start" in told["explanation"]
    assert told["violations"] == []
    assert wfq.ok("explain", "c-1", "-o", "ids") == "c-1\n"
    assert "no workflow instance 'c-2'" in wfq.fails(5, "explain", "c-2")


def test_lint_names_line_and_remedy(wfq: Cli, tmp_path: Path) -> None:
    app = tmp_path / "lint_me.py"
    app.write_text(
        "import time\nimport wfq as wf\n\n"
        "def order(ctx: wf.WorkflowContext, n):\n    return time.time()\n"
    )

    done = wfq.run("lint", str(app))

    assert done.exit_code == 1
    assert ":5: " in done.stdout
    assert "ctx.current_utc_datetime" in done.stdout
    app.write_text(app.read_text().replace("time.time()", "n"))
    assert wfq.ok("lint", str(app)) == ""
