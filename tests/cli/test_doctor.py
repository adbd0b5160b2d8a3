"""``wfq doctor``, ``wfq explain`` and ``wfq lint``."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Cli
from tests.servers import command_client
from wfq.storage.keys import Namespace

NAMESPACE = Namespace("default", 16)


def test_doctor_is_content_with_a_sound_server(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1")

    found = {row["check"]: row for row in wfq.rows("doctor", "--deep")}

    assert found["server"]["detail"].startswith("Valkey ")
    assert found["eviction"]["result"] == "ok"
    assert found["instances"] == {"check": "instances", "result": "ok", "detail": "1 RUNNING"}
    assert found["workers"]["result"] == "warning"


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
