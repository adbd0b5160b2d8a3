"""The page on listeners: what it starts hears messages, and its letters come and go."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

import wfq as wf
from tests.docs.executed import Shown, on
from tests.docs.markdown import DOCS
from tests.docs.terminal import Terminal
from tests.servers import command_client, poll

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(180)]

APP = """
import wfq as wf

app = wf.WorkflowRuntime()


@app.workflow
def order(ctx: wf.WorkflowContext):
    return (yield ctx.wait_for_external_event("approval"))


@app.workflow
def process_order(ctx: wf.WorkflowContext, message: dict):
    return message["id"]
"""


def test_its_listeners_raise_start_and_keep(
    shown: Shown, terminal: Terminal, valkey_url: str
) -> None:
    terminal.extra["WFQ_REDIS_URL"] = valkey_url
    (terminal.directory / "app.py").write_text(APP)
    terminal.enter("wfq worker app.py")
    channel, stream, rules, letters = shown.of()

    with (
        wf.WorkflowClient(redis_url=valkey_url) as client,
        command_client(valkey_url) as server,
    ):

        def ended(instance_id: str) -> object:
            state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=30)
            assert state.runtime_status.name == "COMPLETED"
            return state.output()

        def publish(message: dict[str, object]) -> None:
            poll(lambda: server.publish("approvals", json.dumps(message)) or None, 20)

        client.schedule_new_workflow("order", instance_id="order-1")
        terminal.run(shown.use(channel))
        publish({"order_id": "order-1", "answer": "yes"})
        assert ended("order-1") == {"order_id": "order-1", "answer": "yes"}
        terminal.stop()

        terminal.run(shown.use(stream))
        server.xadd("orders", {"data": json.dumps({"id": "order-2"})})
        poll(lambda: client.get_workflow_state("order-2"), 20)
        assert ended("order-2") == "order-2"
        terminal.stop()

        (file,) = on(DOCS / "listeners.md", "toml")
        (terminal.directory / "wfq.toml").write_text(file.text)
        terminal.run(shown.use(rules))
        publish({"order_id": "order-3", "answer": "no", "message_id": "m-3"})
        first = _letter(terminal)
        client.schedule_new_workflow("order", instance_id="order-3")
        publish({"order_id": "order-4", "answer": "lost", "message_id": "m-4"})
        poll(lambda: len(terminal.enter("wfq dead list -o ids").split()) == 2 or None, 20)
        text = re.sub(r"3:1700000000000-0", first, shown.use(letters).text)
        printed = terminal.run(replace(letters, text=text))

        assert ended("order-3") == "no"
        assert f"{first} " in printed
        assert terminal.enter("wfq dead list -o ids") == ""


def _letter(terminal: Terminal) -> str:
    """Return the address of the one dead letter, once there is one."""
    return poll(lambda: terminal.enter("wfq dead list -o ids").strip() or None, 20)
