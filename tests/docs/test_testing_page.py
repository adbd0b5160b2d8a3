"""The page on testing: its programs are run by pytest, its commands by the `wfq` command."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import wfq as wf
from tests.docs.markdown import DOCS, blocks
from tests.servers import Processes, clean_env, poll
from wfq.testing.director import FAULTS
from wfq.testing.fuzzing import __doc__ as fuzzing_says

PAGE = DOCS / "testing.md"

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

ASYNC = """
import asyncio

from test_shop import nothing_is_different_in_async_tests


def test_it_runs(wfq_env):
    asyncio.run(nothing_is_different_in_async_tests(wfq_env))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with the files that the page shows."""
    for block in blocks(PAGE):
        file = re.match(r"# (\w+\.py)\n", block.text)
        if block.language == "python":
            assert file is not None, f"{block} has no name"
            (tmp_path / file[1]).write_text(block.text)
    return tmp_path


@pytest.mark.slow
def test_its_tests_pass(project: Path) -> None:
    installed = any(point.value == "wfq.pytest_plugin" for point in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "wfq.pytest_plugin"]
    # The coroutine that the page shows needs a plugin of the reader's own to be collected.
    (project / "test_async.py").write_text(ASYNC)
    shown = PAGE.read_text().count("\ndef test_") + 1

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey",
         *plugin],
        cwd=project, env=clean_env(), capture_output=True, text=True,
    )  # fmt: skip

    assert f"{shown} passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_its_commands_do_what_they_say(
    project: Path, valkey_url: str, processes: Processes
) -> None:
    env = {"WFQ_REDIS_URL": valkey_url}
    with wf.WorkflowClient(redis_url=valkey_url) as client:
        processes.wfq("worker", "shop.py", env=env, cwd=project)
        client.schedule_new_workflow(
            "purchase", input={"item": "car", "cost": 5000}, instance_id="order-7"
        )
        poll(lambda: len(client.get_workflow_history("order-7")) >= 5, 30)

    said = {}
    for line in _commands():
        arguments = [word for word in shlex.split(line)[1:] if word != "--pdb"]
        done = subprocess.run(
            [sys.executable, "-m", "wfq_cli.app", *arguments],
            cwd=project, env=clean_env(env), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, line + done.stdout + done.stderr
        said[line] = done.stdout

    assert '"checked":1' in said["wfq check shop.py --against live"]
    assert "receipt for car" in said["wfq replay order-7 shop.py --at 3"]
    assert "no money" in said["wfq replay order-7 shop.py --what-if '2=!no money'"]


def _commands() -> list[str]:
    lines = [
        line for block in blocks(PAGE) if block.language == "sh" for line in block.text.split("\n")
    ]
    return [line for line in lines if line.startswith("wfq ")]


def test_its_table_of_failures_is_that_of_the_code() -> None:
    table = PAGE.read_text().partition("| kind | when |")[2].partition("\n\n")[0]
    shown = re.findall(r"^\| `(\w+)`", table, re.M)

    assert fuzzing_says is not None
    assert shown == re.findall(r"^``(\w+)``", fuzzing_says, re.M)
    assert len(FAULTS) > 8
