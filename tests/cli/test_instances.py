"""Verbs on instances that no worker runs: what is stored, printed and refused."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from tests.cli.conftest import Cli
from tests.client.kit import Hand
from tests.servers import LocalServer
from wfq_cli import completing
from wfq_cli.app import cli

WAITS = "no worker of 'default' is running; 'chain' waits for one ('wfq worker APP')"


def test_start_prints_the_id_alone(wfq: Cli) -> None:
    given = wfq.run("start", "chain", "42", "--id", "c-1")
    made_up = wfq.run("start", "chain")

    assert given.stdout == "c-1\n"
    assert re.fullmatch(r"[A-Za-z0-9._:@-]{1,200}\n", made_up.stdout)


def test_a_workflow_that_nobody_serves_is_started_with_a_warning(wfq: Cli) -> None:
    done = wfq.run("start", "chain")

    assert done.exit_code == 0
    assert done.stderr == f"wfq: {WAITS}\n"


def test_get_tells_all_about_an_instance(wfq: Cli) -> None:
    wfq.ok("start", "chain", '{"n": [1, 2.5, null]}', "--id", "c-1", "--tag", "team=billing")

    state = wfq.json("get", "c-1")

    assert state["instance_id"] == "c-1"
    assert state["name"] == "chain"
    assert state["runtime_status"] == "PENDING"
    assert state["input"] == {"n": [1, 2.5, None]}
    assert state["tags"] == {"team": "billing"}
    assert datetime.fromisoformat(state["created_at"]).tzinfo is not None
    assert wfq.json("query", "c-1") == wfq.json("status", "c-1") == state


def test_get_as_a_table_names_what_there_is(wfq: Cli) -> None:
    wfq.ok("start", "chain", "42", "--id", "c-1")

    lines = wfq.ok("get", "c-1", "-o", "table").splitlines()

    assert [line.split()[0] for line in lines] == [
        "id", "workflow", "status", "created", "updated", "input",
    ]  # fmt: skip
    assert lines[-1].split() == ["input", "42"]


def test_an_input_comes_from_stdin_or_a_file(wfq: Cli) -> None:
    Path("order.json").write_text('{"total": 9.95}')

    wfq.ok("start", "chain", "@order.json", "--id", "from-file")
    wfq.ok("start", "chain", "-", "--id", "from-stdin", stdin="[true]\n")

    assert wfq.json("get", "from-file")["input"] == {"total": 9.95}
    assert wfq.json("get", "from-stdin")["input"] == [True]


def test_a_bad_input_starts_nothing(wfq: Cli) -> None:
    said = wfq.fails(2, "start", "chain", "hello")

    assert said.startswith("the input is not JSON: unexpected character")
    assert said.endswith("""a string is written '"hello"'""")
    assert wfq.rows("list") == []


@pytest.mark.parametrize("bad", ["a b", "ü", "a~b", "x" * 201, "a/b"])
def test_an_id_outside_its_alphabet_is_refused(wfq: Cli, bad: str) -> None:
    assert "is not allowed" in wfq.fails(2, "start", "chain", "--id", bad)


def test_a_second_start_of_a_live_id_is_a_conflict(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1")

    assert "'c-1' exists already" in wfq.fails(7, "start", "chain", "--id", "c-1")
    assert wfq.ok("start", "chain", "--id", "c-1", "--if-exists", "existing") == "c-1\n"


def test_a_start_may_be_delayed(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "later", "--delay", "1h")
    at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    wfq.ok("start", "chain", "--id", "tomorrow", "--at", at)

    assert wfq.json("get", "later")["runtime_status"] == "PENDING"
    both = ("--delay", "1h", "--at", at)
    assert "--at and --delay" in wfq.fails(2, "start", "chain", *both)
    assert "is not a time" in wfq.fails(2, "start", "chain", "--at", "soon")
    assert "is not a duration" in wfq.fails(2, "start", "chain", "--delay", "soon")


def test_a_start_that_nobody_could_ever_run_is_refused(wfq: Cli) -> None:
    said = wfq.fails(2, "start", "chain", "--wait", "--redis-url", "memory://")

    assert "an instance in memory:// ends with this command" in said


def test_an_unknown_instance_is_exit_code_5(wfq: Cli) -> None:
    for verb in ("get", "wait", "history", "suspend", "resume", "terminate", "purge", "rerun"):
        said = wfq.fails(5, verb, "nope")
        assert "no workflow instance 'nope'" in said, verb
    assert "no workflow instance 'nope'" in wfq.fails(5, "raise", "nope", "go")


def test_a_rerun_of_a_live_instance_says_that_there_are_two_now(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1")

    done = wfq.run("rerun", "c-1", "--new-id", "c-2")

    assert done.stdout.split() == ["c-2"]
    assert "'c-1' is PENDING; the new instance runs beside it" in done.stderr


def test_a_wait_that_times_out_is_exit_code_6(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1")

    assert "'c-1'" in wfq.fails(6, "wait", "c-1", "--timeout", "100ms")
    assert "still PENDING" in wfq.fails(6, "wait", "c-1", "--timeout", "0")


def test_a_start_that_waits_reports_the_timeout(wfq: Cli) -> None:
    done = wfq.run("start", "chain", "--wait", "--timeout", "100ms")

    assert done.exit_code == 6
    assert done.stdout == ""


def test_a_timeout_without_a_wait_is_refused(wfq: Cli) -> None:
    assert "--timeout needs --wait" in wfq.fails(2, "start", "chain", "--timeout", "1s")


def test_events_are_raised_in_either_form(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1")

    assert wfq.ok("raise", "c-1", "go") == ""
    assert wfq.ok("raise", "c-1/go", '{"fast": true}') == ""
    assert wfq.ok("raise", "c-1", "go", "-", stdin="[1]") == ""
    assert "the data is not JSON" in wfq.fails(2, "raise", "c-1", "go", "{fast}")


def test_an_event_is_raised_to_many(wfq: Cli) -> None:
    for number in range(3):
        wfq.ok("start", "chain", "--id", f"c-{number}")
    wfq.ok("start", "other", "--id", "o-1")

    some = wfq.rows("raise", "--where", "name=chain", "--yes", "go", "[1]", "-o", "jsonl")
    everyone = wfq.rows("raise", "--all", "--yes", "go", "-o", "jsonl")

    assert {row["instance_id"] for row in some} == {"c-0", "c-1", "c-2"}
    assert {row["result"] for row in some} == {"raised"}
    assert len(everyone) == 4
    assert "pass --yes" in wfq.fails(2, "raise", "--all", "go")
    assert "EVENT [DATA]" in wfq.fails(2, "raise", "--all", "--yes")
    assert "go with --where" in wfq.fails(2, "raise", "c-1", "go", "--yes")


def test_a_list_is_newest_first_and_filtered(wfq: Cli) -> None:
    for number in range(3):
        wfq.ok("start", "chain", "--id", f"c-{number}", "--tag", f"n={number}")
    wfq.ok("start", "other", "--id", "o-1")

    assert wfq.ok("list", "-o", "ids").split() == ["o-1", "c-2", "c-1", "c-0"]
    assert wfq.ok("list", "-o", "ids", "--name", "chain", "--limit", "1") == "c-2\n"
    assert wfq.ok("list", "-o", "ids", "--tag", "n=1") == "c-1\n"
    assert wfq.ok("list", "-o", "ids", "--id", "o-") == "o-1\n"
    assert wfq.ok("list", "-o", "ids", "--status", "completed,failed") == ""
    assert wfq.ok("list", "-o", "ids", "--until", "1h") == ""
    assert len(wfq.ok("list", "-o", "ids", "--since", "1h").split()) == 4
    assert len(wfq.ok("list", "-o", "ids", "--limit", "0").split()) == 4
    assert "did you mean COMPLETED?" in wfq.fails(2, "list", "--status", "complete")


def test_a_list_in_every_format(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1")

    assert wfq.rows("list") == wfq.json("list", "-o", "json")
    assert wfq.rows("list")[0]["instance_id"] == "c-1"
    header, row = wfq.ok("list", "-o", "table").splitlines()
    assert header.split() == ["ID", "WORKFLOW", "STATUS", "CREATED", "UPDATED"]
    assert row.split()[:3] == ["c-1", "chain", "PENDING"]


def test_options_may_stand_before_the_command(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1", "--namespace", "shop")

    assert wfq.ok("-o", "ids", "--namespace", "shop", "list") == "c-1\n"
    assert wfq.ok("list") == ""


def test_applications_share_a_namespace(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "mine")
    wfq.ok("start", "chain", "--id", "theirs", "--app-id", "shop")

    assert wfq.ok("list", "-o", "ids", "--app-id", "shop") == "theirs\n"
    assert len(wfq.ok("list", "-o", "ids").split()) == 2
    assert wfq.json("get", "theirs")["app_id"] == "shop"


def test_counts_are_by_status(wfq: Cli) -> None:
    wfq.ok("start", "chain")
    wfq.ok("start", "chain")

    counted = {row["runtime_status"]: row["count"] for row in wfq.rows("count")}

    assert sum(counted.values()) == 2
    assert wfq.ok("count", "-o", "table").splitlines()[-1].split() == ["all", "2"]


def test_history_numbers_the_events(wfq: Cli) -> None:
    wfq.ok("start", "chain", "42", "--id", "c-1")

    events = wfq.rows("history", "c-1")

    assert [(event["index"], event["type"]) for event in events] == [(0, "ExecutionStarted")]
    assert events[0]["value"] == 42
    header = wfq.ok("history", "c-1", "-o", "table").splitlines()[0]
    assert header.split() == ["N", "TURN", "TIME", "EVENT", "NAME", "DETAIL"]


def test_a_live_instance_is_not_purged(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1")

    assert "'c-1'" in wfq.fails(7, "purge", "c-1")


def test_several_ids_are_all_tried(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "c-1")
    wfq.ok("start", "chain", "--id", "c-2")

    done = wfq.run("terminate", "c-1", "nope", "c-2", "c-1")

    assert done.exit_code == 5
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["instance_id"] for row in rows] == ["c-1", "c-2"]
    assert "no workflow instance 'nope'" in done.stderr


def test_a_filter_acts_only_when_told_to(wfq: Cli) -> None:
    for number in range(3):
        wfq.ok("start", "chain", "--id", f"c-{number}")
    where = ("--where", "name=chain, id=c-")

    dry = wfq.run("suspend", *where, "--dry-run", "-o", "ids")
    one = wfq.run("suspend", "--where", "id=c-0", "--dry-run")
    refused = wfq.fails(2, "suspend", *where)
    done = wfq.ok("suspend", *where, "--yes", "-o", "ids")

    assert dry.stdout.split() == ["c-2", "c-1", "c-0"]
    assert "3 instances; nothing was done" in dry.stderr
    assert "1 instance; nothing was done" in one.stderr
    assert "pass --yes to suspend them" in refused
    assert done.split() == ["c-2", "c-1", "c-0"]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("statsu=FAILED", "--where knows no 'statsu'; did you mean 'status'?"),
        ("status=BROKEN", "no status 'BROKEN'"),
        ("name", "'name' in --where is no filter"),
        ("  ", "--where is empty"),
        ("since=lately", "neither an age nor a time"),
        ("name='x", "unfinished quote"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(wfq: Cli, where: str, said: str) -> None:
    assert said in wfq.fails(2, "purge", "--where", where)


def test_a_bulk_verb_needs_ids_or_a_filter_but_not_both(wfq: Cli) -> None:
    assert "either ids or --where" in wfq.fails(2, "purge")
    assert "either ids or --where" in wfq.fails(2, "purge", "c-1", "--where", "name=x")


def test_a_filter_that_fits_nothing_does_nothing(wfq: Cli) -> None:
    done = wfq.run("purge", "--where", "status=FAILED", "--yes")

    assert done.exit_code == 0
    assert done.stdout == ""
    assert done.stderr == "no instance fits\n"


def test_an_unreachable_redis_is_exit_code_69_at_once(
    wfq: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = wfq.fails(69, "list", "--redis-url", "redis://:secret@127.0.0.1:1/0")

    assert "cannot reach Redis at redis://127.0.0.1:1/0" in said
    assert said.endswith("Connection refused; is it running?")
    assert "secret" not in said


def test_a_server_that_hangs_is_exit_code_69_within_seconds(
    wfq: Cli, start_server: Callable[..., LocalServer]
) -> None:
    server = start_server()
    began = time.monotonic()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        said = wfq.fails(69, "list", "--redis-url", server.url)
    finally:
        os.kill(server.pid, signal.SIGCONT)

    assert "cannot reach Redis" in said
    assert time.monotonic() - began < 8


def test_a_url_that_is_none_is_bad_input(wfq: Cli) -> None:
    assert "is not a Redis URL" in wfq.fails(2, "list", "--redis-url", "http://somewhere")


def test_config_shows_values_with_their_origin_and_no_secrets(wfq: Cli) -> None:
    done = wfq.rows("config", "show", "--redis-url", "redis://u:secret@host/0")

    shown = {row["setting"]: row for row in done}
    assert shown["redis_url"]["value"] == "redis://u:***@host/0"
    assert shown["namespace"] == {"setting": "namespace", "value": "default", "from": "default"}
    assert shown["limits.payload_bytes"]["value"] == 1024 * 1024
    assert "secret" not in json.dumps(done)


def test_ids_are_completed_newest_first(wfq: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("po-1", "po-2", "other"):
        wfq.ok("start", "chain", "--id", name)
    monkeypatch.setenv("WFQ_REDIS_URL", wfq.env["WFQ_REDIS_URL"])
    get = cli.get_command(click.Context(cli), "get")
    assert get is not None

    with click.Context(get, parent=click.Context(cli)) as ctx:
        offered = completing.ids(ctx, get.params[0], "po-")
        monkeypatch.setenv("WFQ_REDIS_URL", "redis://127.0.0.1:1")
        without_redis = completing.ids(ctx, get.params[0], "po-")

    assert [item.value for item in offered] == ["po-2", "po-1"]
    assert without_redis == []


def test_without_workers_there_is_nothing_in_the_fleet(wfq: Cli) -> None:
    assert wfq.rows("workers") == []
    wfq.ok("start", "chain")
    assert isinstance(wfq.rows("queues"), list)


def test_what_nobody_serves_is_said_in_one_line(wfq: Cli) -> None:
    wfq.ok("start", "chain", "--id", "order-7")

    assert wfq.run("get", "order-7").stderr == f"wfq: {WAITS}\n"
    assert wfq.json("explain", "order-7")["explanation"].endswith(WAITS)
    assert wfq.run("terminate", "order-7").stderr == (
        "wfq: no worker of 'default', and no scheduler, is running; it is obeyed when one does\n"
    )


def test_showing_what_failed_is_no_failure_waiting_for_it_is(wfq: Cli, valkey_url: str) -> None:
    here = ("--namespace", "test")
    wfq.ok("start", "chain", "--id", "c-1", *here)
    hand = Hand(valkey_url)
    hand.fail("c-1")
    hand.close()

    assert wfq.json("get", "c-1", *here)["failure_details"]["message"] == "boom"
    assert wfq.run("wait", "c-1", *here).exit_code == 3
