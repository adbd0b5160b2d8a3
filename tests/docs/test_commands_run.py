"""Commands that other pages show are run, not only parsed, in a directory with such a program."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.executed import Shown
from tests.docs.markdown import Block
from tests.docs.terminal import Terminal
from tests.servers import ROOT, poll

APP = """
import wfq as wf

app = wf.WorkflowRuntime()


@app.workflow
def release(ctx: wf.WorkflowContext, version: str):
    built = yield ctx.call_activity(build, input=version)
    return (yield ctx.wait_for_external_event("go"))


@app.activity
def build(version: str) -> str:
    return version
"""

#: What the examples of `docs/cli.md` speak of.
CLI_APP = """
import wfq as wf

app = wf.WorkflowRuntime()


@app.workflow
def purchase(ctx: wf.WorkflowContext, request: dict):
    yield ctx.call_activity(work, input=request)
    for name in ("approval", "approval", "holiday", "never"):
        yield ctx.wait_for_external_event(name)


@app.workflow
def greet(ctx: wf.WorkflowContext, name: str):
    return f"Hello, {name}!"
    yield


@app.workflow
def order(ctx: wf.WorkflowContext, cost):
    for step in range(3):
        yield ctx.call_activity(work, input=step)
    ctx.set_custom_status("asked")
    return (yield ctx.wait_for_external_event("approval"))


@app.workflow
def purchase_order_workflow(ctx: wf.WorkflowContext, order: dict):
    yield ctx.call_activity(work, input=order)


@app.activity
def work(value):
    return value


def nothing_is_paid_twice(outcome):
    return True
"""

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.long
def test_commands_about_an_instance_work(shown: Shown, terminal: Terminal) -> None:
    (terminal.directory / "app.py").write_text(APP)
    dev, *others = shown.of()
    terminal.run(shown.use(dev))
    terminal.enter("""wfq start release '"1.0"' --id order-7""")
    poll(lambda: "go" in terminal.enter("wfq explain order-7"), 20)

    printed = ""
    for block in others:
        text = re.sub(r"\bID\b", "order-7", shown.use(block).text)
        printed += terminal.run(replace(block, text=text))

    for said in ("flowchart", "release order-7  RUNNING", "'wfq raise order-7 go' answers it"):
        assert said in printed
    assert (terminal.directory / "release.svg").read_text().startswith("<svg")


@pytest.mark.long
def test_the_patterns_run_as_they_are_shown(shown: Shown, terminal: Terminal) -> None:
    for block in shown.of():
        terminal.enter(f"wfq dev {_example(block)}")
        terminal.run(shown.use(block))
        terminal.stop()


@pytest.mark.long
def test_the_examples_of_the_reference_work(shown: Shown, terminal: Terminal) -> None:
    (terminal.directory / "app.py").write_text(CLI_APP)
    (terminal.directory / "answer.json").write_text('{"approved": true}')
    terminal.enter("wfq dev app.py")
    terminal.enter("wfq start order 5 --id order-7")
    terminal.enter("""wfq raise order-7 approval '{"by": "Ada"}'""")
    terminal.enter("wfq wait order-7")
    terminal.enter("wfq history order-7 --save tests/histories")

    for block in shown.of():
        # A hundredth of the runs shows that the command is right.
        text = shown.use(block).text.replace("--seeds 10000", "--seeds 100")
        terminal.run(replace(block, text=text))

    assert (terminal.directory / "order.svg").read_text().startswith("<svg")
    assert "TERMINATED" in terminal.enter("wfq get po-7")
    holiday = json.loads(terminal.enter("wfq history po-7 -o json"))
    assert "holiday" in {event.get("name") for event in holiday}


def test_the_quick_test_of_an_installation_runs(shown: Shown, terminal: Terminal) -> None:
    (block,) = shown.of()

    printed = terminal.run(shown.use(block))

    assert "PER SECOND" in printed


def _example(block: Block) -> Path:
    """The example that has the workflow which a block starts."""
    started = re.search(r"wfq start (\w+)|wfq/(\w+)/start", block.text)
    assert started is not None
    name = started[1] or started[2]
    (found,) = [
        path for path in (ROOT / "examples").glob("*.py") if f"def {name}(" in path.read_text()
    ]
    return found
