"""``wfq replay``, ``check``, ``fuzz`` and ``history --save``, as if piped."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import wfq as wf
from tests.cli.conftest import Cli
from tests.servers import poll
from wfq_cli import gate

APP = """
import wfq as wf
from datetime import timedelta
wfr = wf.WorkflowRuntime()

@wfr.workflow
def order(ctx: wf.WorkflowContext, cost: int):
    kept = yield ctx.call_activity(reserve, input=cost)
    approval = yield ctx.wait_for_external_event("approval", timeout=timedelta(days=1))
    return [kept, approval]

@wfr.activity
def reserve(cost: int) -> int:
    print("reserving")
    return cost * 2

def always_late(outcome):
    return outcome.status != "COMPLETED"
"""
#: Another decision where open instances wait.
CHANGED = APP.replace("    approval =", "    yield ctx.call_activity('audit')\n    approval =")
#: The same decisions, another result.
FITTING = APP.replace("return [kept", "print('hi')\n    return [kept, 1")
SPINNING = APP.replace("    approval =", "    while True: pass\n    approval =")


@pytest.fixture
def apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in [
        ("app", APP), ("changed", CHANGED), ("fitting", FITTING), ("spinning", SPINNING)
    ]:  # fmt: skip
        Path(f"{name}.py").write_text(text)


def waits(client: wf.WorkflowClient, instance_id: str) -> bool:
    return len(client.get_workflow_history(instance_id)) >= 4


@pytest.fixture
def waiting(wfq: Cli, apps: None) -> list[str]:
    """Twelve orders that wait for their approval; the workers are gone."""
    url = wfq.env["WFQ_REDIS_URL"]
    runtime = wf.WorkflowRuntime(redis_url=url)
    namespace: dict[str, object] = {}
    exec(APP, namespace)
    runtime.registry = namespace["wfr"].registry  # type: ignore[attr-defined]  # from the text
    with wf.WorkflowClient(redis_url=url) as client, runtime:
        names = [f"o-{number}" for number in range(12)]
        client.schedule_many("order", range(12), instance_ids=names)
        for name in names:
            poll(partial(waits, client, name), 20)
    return names


# -- replay


def test_an_instance_is_replayed_by_its_id(wfq: Cli, waiting: list[str]) -> None:
    (row,) = wfq.rows("replay", "o-7", "app.py")

    assert wfq.rows("replay", "o-7", "app:wfr") == [row]
    assert row == {
        "instance_id": "o-7", "workflow": "order", "result": "fits", "status": "RUNNING",
    }  # fmt: skip


def test_saved_histories_are_replayed_by_file_and_folder(wfq: Cli, waiting: list[str]) -> None:
    Path("saved").mkdir()
    assert wfq.ok("history", "o-7", "--save", "saved").strip() == "saved/o-7.json"
    wfq.ok("history", "o-8", "--save", "saved/eight.json")
    document = json.loads(wfq.ok("history", "o-7", "--save", "-"))

    rows = wfq.rows("replay", "saved", "saved/o-7.json", "fitting.py")

    assert document["events"] == 4
    assert [row["instance_id"] for row in rows] == ["o-8", "o-7", "o-7"]
    assert {row["result"] for row in rows} == {"fits"}


def test_code_that_does_not_fit_ends_with_8_and_the_difference(
    wfq: Cli, waiting: list[str]
) -> None:
    done = wfq.run("replay", "o-7", "changed.py")

    assert done.exit_code == 8
    row = json.loads(done.stdout)
    assert (row["result"], row["task_id"], row["event"]) == ("nondeterminism", 1, 3)
    assert row["expected"] == "WaitForEvent 'approval' (task 1)"
    assert row["found"] == "ScheduleTask 'audit' (task 1)"
    assert row["source"].endswith("changed.py:9 in order")
    assert "expected  WaitForEvent 'approval' (task 1)" in done.stderr


def test_going_back_prints_the_variables(wfq: Cli, waiting: list[str]) -> None:
    stopped = wfq.json("replay", "o-7", "app.py", "--at", "3")
    text = wfq.ok("replay", "o-7", "app.py", "--at", "3", "-o", "table")

    assert stopped["event"]["type"] == "EventAwaited"
    assert stopped["frames"][0]["locals"]["kept"] == "14"
    assert "before event 3, EventAwaited 'approval'" in text
    assert "kept = 14" in text


def test_a_debugger_opens_before_the_event(wfq: Cli, waiting: list[str]) -> None:
    done = wfq.run("replay", "o-7", "app.py", "--at", "3", "--pdb", stdin="p kept * 100\nq\n")

    assert done.exit_code == 0, done.output
    assert "1400" in done.stdout


def test_another_result_is_tried(wfq: Cli, waiting: list[str]) -> None:
    same = wfq.json("replay", "o-7", "app.py", "--what-if", "2=99")
    failed = wfq.json("replay", "o-7", "app.py", "--what-if", "2=!no more")

    assert not same["differs"]
    assert failed["differs"]
    assert "no more" in failed["after"][0]


def test_wrong_use_of_replay_is_one_line(wfq: Cli, apps: None) -> None:
    assert "no workflow instance 'nobody'" in wfq.fails(5, "replay", "nobody", "app.py")
    assert "there is no file 'x.json'" in wfq.fails(2, "replay", "x.json", "app.py")
    assert "is no saved history" in _of_a_list(wfq)
    assert "N=JSON" in wfq.fails(2, "replay", "app.py", "app.py", "--what-if", "x")


def _of_a_list(wfq: Cli) -> str:
    Path("list.json").write_text("[1]")
    return wfq.fails(2, "replay", "list.json", "app.py")


# -- check


def test_the_gate_opens_for_code_that_fits(wfq: Cli, waiting: list[str]) -> None:
    report = wfq.json("check", "fitting.py", "--against", "live")

    assert (report["checked"], report["fit"], report["groups"]) == (12, 12, [])


@pytest.mark.parametrize("few", [300, 0])
@pytest.mark.processes
def test_the_gate_closes_for_code_that_does_not(
    wfq: Cli, waiting: list[str], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With 0 processes of their own do the work.
    monkeypatch.setattr(gate, "FEW", few)

    done = wfq.run("check", "changed.py", "--against", "live", "--processes", "2")

    assert done.exit_code == 8, done.stderr
    report = json.loads(done.stdout)
    (group,) = report["groups"]
    assert (report["break"], group["count"], group["task_id"]) == (12, 12, 1)
    assert sorted(group["instances"]) == sorted(waiting)
    assert group["source"].endswith("changed.py:9 in order")
    assert "12 would break, in 1 way" in done.stderr


def test_the_gate_writes_nothing(wfq: Cli, waiting: list[str]) -> None:
    before = wfq.ok("history", "o-7")
    wfq.run("check", "changed.py")

    assert wfq.ok("history", "o-7") == before
    assert wfq.json("get", "o-7")["runtime_status"] == "RUNNING"


def test_the_gate_takes_a_folder(wfq: Cli, waiting: list[str]) -> None:
    Path("saved").mkdir()
    wfq.ok("history", "o-7", "--save", "saved")

    assert wfq.json("check", "app.py", "--against", "saved")["checked"] == 1
    assert wfq.run("check", "changed.py", "--against", "saved").exit_code == 8
    assert wfq.run("check", "changed.py", "-o", "ids").stdout.split() != []
    assert "there is no 'nowhere'" in wfq.fails(2, "check", "app.py", "--against", "nowhere")


def test_code_that_never_waits_is_given_up(
    wfq: Cli, waiting: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wfq_cli.check.TIMEOUT_S", 0.2)
    monkeypatch.setattr("wfq_cli.replay.TIMEOUT_S", 0.2)
    Path("saved").mkdir()
    wfq.ok("history", "o-7", "--save", "saved")

    done = wfq.run("check", "spinning.py", "--against", "saved")

    assert done.exit_code == 8
    (group,) = json.loads(done.stdout)["groups"]
    assert group["result"] == "hangs"


def test_a_damaged_history_does_not_hide_the_others(wfq: Cli, waiting: list[str]) -> None:
    Path("saved").mkdir()
    wfq.ok("history", "o-7", "--save", "saved")
    document = json.loads(wfq.ok("history", "o-8", "--save", "-"))
    document["records"][1][3] = [["C"]]
    Path("saved/damaged.json").write_text(json.dumps(document))

    done = wfq.run("check", "changed.py", "--against", "saved")

    assert done.exit_code == 8, done.stderr
    results = {group["result"]: group["instances"] for group in json.loads(done.stdout)["groups"]}
    assert results == {"error": ["o-8"], "nondeterminism": ["o-7"]}


# -- fuzz


def test_fuzzing_good_code_finds_nothing(wfq: Cli, apps: None) -> None:
    report = wfq.json(
        "fuzz", "app.py:order", "--input", "5", "--seeds", "60", "--event", 'approval="Ada"'
    )

    assert (report["runs"], report["finding"]) == (60, None)
    # What activities print is not what the command says.
    assert report["orders"] > 10


def test_fuzzing_finds_shrinks_and_repeats(wfq: Cli, apps: None) -> None:
    Path("mean.py").write_text(APP.replace("return [kept, approval]", "return approval['by']"))
    call = ("fuzz", "mean.py:order", "--input", "5", "--event", 'approval={"by": "Ada"}')

    done = wfq.run(*call, "--event", "Approval={}", "--seeds", "300")

    assert done.exit_code == 1
    finding = json.loads(done.stdout)["finding"]
    assert (finding["kind"], finding["script"]) == ("failed", ["raise Approval#1"])
    Path("script.txt").write_text("# found\nraise Approval#1\n")
    again = wfq.run(*call, "--event", "Approval={}", "--script", "script.txt")
    assert "KeyError" in again.stderr


def test_fuzzing_ends_with_8_for_nondeterminism(wfq: Cli, apps: None) -> None:
    Path("mean.py").write_text(
        "import random\n" + APP.replace("input=cost)", "input=random.randrange(10**9))")
    )

    done = wfq.run("fuzz", "mean.py:order", "--input", "5", "--activity", "reserve=1")

    assert done.exit_code == 8
    assert "nondeterminism in run 0 of --seed 0" in done.stderr


def test_fuzzing_asks_the_check(wfq: Cli, apps: None) -> None:
    done = wfq.run(
        "fuzz", "app.py:order", "--input", "5", "--event", "approval=1", "--check", "always_late"
    )

    assert done.exit_code == 1
    assert "always_late returned False" in done.stderr


def test_wrong_use_of_fuzz_is_one_line(wfq: Cli, apps: None) -> None:
    assert "APP:WORKFLOW" in wfq.fails(2, "fuzz", "app.py")
    assert "no workflow 'nowhere'; it has order" in wfq.fails(2, "fuzz", "app.py:nowhere")
    assert "NAME=JSON" in wfq.fails(2, "fuzz", "app.py:order", "--event", "x")
    assert "no function 'f'" in wfq.fails(2, "fuzz", "app.py:order", "--check", "f")
