"""A stranger's tester, `schemathesis`, finds no server error and no undocumented answer.

It reads the OpenAPI document that a real server serves, and calls every operation with what the
document allows and with what it does not, on real instances and a real Redis.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import wfq as wf
from tests.ports import free_port
from tests.servers import Processes, clean_env
from wfq.client import WorkflowClient

pytestmark = [pytest.mark.processes, pytest.mark.slow]

#: Cases of each operation and phase. The run is repeatable: a failure shows the seed's request.
EXAMPLES = "8"
SEED = "1"
#: What an answer must never be: a server error, or a status, content type or body that the
#: document does not list.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,response_headers_conformance"
)


def program(url: str) -> wf.WorkflowRuntime:
    """A workflow that waits, and so obeys every command."""
    app = wf.WorkflowRuntime(redis_url=url)

    @app.workflow
    def order(ctx: wf.WorkflowContext, given: Any) -> Generator[Any, Any, Any]:
        return (yield ctx.wait_for_external_event("done"))

    return app


def find_tester() -> Path:
    """The command beside this Python; skips the test where it is not installed."""
    found = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("schemathesis is not installed (pip install schemathesis)")
    return Path(found)


@pytest.mark.timeout(120)
def test_no_answer_surprises_a_tester(
    valkey_url: str, processes: Processes, tmp_path: Path
) -> None:
    command = find_tester()
    port = free_port()
    processes.wfq("server", "--port", str(port), env={"WFQ_REDIS_URL": valkey_url})
    with WorkflowClient(redis_url=valkey_url) as client:
        client.schedule_new_workflow("order", instance_id="known")

    # Where an id is asked for, that of an instance that is there; other paths have made-up ones.
    (tmp_path / "schemathesis.toml").write_text('[parameters]\n"path.id" = "known"\n')
    url = f"http://127.0.0.1:{port}"
    processes.spawned[0].wait_for_log(str(port))
    # A worker that obeys at once what the API is told.
    with program(valkey_url):
        done = subprocess.run(
            [
                str(command),
                "run",
                f"{url}/openapi.json",
                "--checks",
                CHECKS,
                "--max-examples",
                EXAMPLES,
                "--seed",
                SEED,
                "--no-color",
                "--phases",
                "examples,coverage,fuzzing",
                "--workers",
                "1",
                "--request-timeout",
                "10",
                # One version stands for all three, whose routes are one. A stream or long poll
                # takes its time while the instance runs; `test_fuzz` asks for the latter.
                "--include-path-regex",
                "^(/v1.0/|/[a-z.]+$)",
                "--exclude-path-regex",
                "/(events|wait)$",
                "--continue-on-failure",
                "--suppress-health-check",
                "all",
            ],
            env=clean_env({"PATH": os.environ["PATH"]}),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"[1-9]\d* generated", done.stdout), done.stdout[-3000:]
