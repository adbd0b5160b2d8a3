"""What the pages on reliability and scaling say to a server, said to one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

import wfq as wf
from tests.docs.executed import Shown
from tests.docs.terminal import Terminal
from tests.servers import LocalServer, command_client
from wfq.storage.preflight import acl_rule

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


def test_the_least_privilege_is_enough(
    shown: Shown, start_server: Callable[..., LocalServer]
) -> None:
    (block,) = shown.of()
    server = start_server("valkey")
    rules = acl_rule().partition("-@all ")[2]
    command = shown.use(block).text.replace("PASSWORD", "pw").replace("RULES", rules)

    with command_client(server.url) as client:
        client.execute_command(*command.split())
    url = server.url.replace("unix://", "unix://wfq:pw@")
    app = wf.WorkflowRuntime(redis_url=url)

    @app.workflow
    def flow(ctx: wf.WorkflowContext) -> Iterator[Any]:
        return (yield ctx.call_activity(work))

    @app.activity
    def work() -> str:
        return "done"

    with app, wf.WorkflowClient(redis_url=url) as wfq:
        started = wfq.schedule_new_workflow(flow)
        state = wfq.wait_for_workflow_completion(started, timeout_in_seconds=30)

    assert state.output() == "done"


@pytest.mark.slow
def test_payloads_are_ciphertext_with_the_keys(
    shown: Shown, terminal: Terminal, valkey_url: str
) -> None:
    pytest.importorskip("cryptography", reason="the extra crypto is not installed")
    from wfq.encryption import generate_key

    (block,) = shown.of()
    keys = terminal.directory / "wfq-keys"
    keys.write_text(f"2026-11:{generate_key()}\n")
    terminal.extra["WFQ_REDIS_URL"] = valkey_url
    export = shown.use(block).text.replace("/run/secrets/wfq-keys", str(keys))
    start = """wfq start greet '"Ada Lovelace"' --id greet-1\nwfq get greet-1\n"""

    seen = terminal.run(replace(block, text=export + start))

    assert 'input     "Ada Lovelace"' in seen
    assert "Lovelace" not in terminal.enter("wfq get greet-1 || true")
    with command_client(valkey_url) as client:
        kept = b"".join(client.dump(key) for key in client.keys("wfq:*"))
    assert b"greet-1" in kept
    assert b"Lovelace" not in kept


def test_a_lone_master_refuses_writes(
    shown: Shown, start_server: Callable[..., LocalServer]
) -> None:
    (block,) = shown.of()
    options = [
        word
        for line in shown.use(block).text.splitlines()
        for word in (f"--{line.split()[0]}", line.split()[1])
    ]

    server = start_server("valkey", *options)

    with (
        command_client(server.url) as client,
        pytest.raises(redis.ResponseError, match="NOREPLICAS"),
    ):
        client.set("wfq:test", 1, ex=1)
