"""Workers of an earlier commit and of this one side by side on one namespace.

There is no published release yet. In its place stands `EARLIER`, the first commit with today's
formats (activities that share an entry came with it): its tree is taken out of the repository's
history, and its workers run with the packages of this environment. Once there are releases, the
last one belongs here.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.servers import ROOT, Processes, Spawned, poll
from wfq.checker import check_namespace
from wfq.client import WorkflowClient
from wfq.errors import SchemaMismatch
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import SCHEMA, open_namespace

EARLIER = "80ddb81"

APP = """
import wfq as wf
app = wf.WorkflowRuntime()

@app.workflow
def order(ctx, n):
    total = yield ctx.call_activity(work, input=n)
    yield ctx.create_timer(__import__("datetime").timedelta(milliseconds=200))
    parts = yield wf.when_all([ctx.call_activity(work, input=total + i) for i in range(3)])
    extra = yield ctx.call_child_workflow(child, input=n)
    word = yield ctx.wait_for_external_event("go")
    return [total, sum(parts), extra, word]

@app.workflow
def child(ctx, n):
    return (yield ctx.call_activity(work, input=-n))

@app.activity
def work(ctx, n):
    return n + 1
"""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of `EARLIER`; skips where there is no history that has it."""
    taken = subprocess.run(["git", "-C", str(ROOT), "archive", EARLIER], capture_output=True)
    if taken.returncode != 0:
        pytest.skip(f"no git history with {EARLIER} here")
    place = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(taken.stdout)) as tree:
        if sys.version_info >= (3, 12):
            tree.extractall(place, filter="data")
        else:  # the patch releases of 3.11 differ in whether they know filters
            tree.extractall(place)
    return place


class Fleets:
    """Starts workers of either version."""

    def __init__(self, url: str, app: Path, earlier: Path, processes: Processes) -> None:
        self._env = {"WFQ_REDIS_URL": url, "WFQ_LEASE_S": "1.5", "WFQ_TASK_LEASE_S": "1.5"}
        self._app, self._earlier, self._processes = app, earlier, processes

    def new(self, *only: str) -> Spawned:
        return self._ready(self._start({}, only))

    def old(self, *only: str) -> Spawned:
        paths = [self._earlier, *(self._earlier / part for part in ("workers", "cli", "server"))]
        return self._ready(self._start({"PYTHONPATH": ":".join(map(str, paths))}, only))

    def _start(self, env: dict[str, str], only: tuple[str, ...]) -> Spawned:
        roles = [word for role in only for word in ("--only", role)]
        program = (
            "import sys, wfq; print('wfq of', wfq.__file__, file=sys.stderr, flush=True); "
            "from wfq_cli.app import main; main()"
        )
        return self._processes.python(
            "-c", program, "worker", self._app, *roles, env={**self._env, **env}
        )

    @staticmethod
    def _ready(process: Spawned) -> Spawned:
        process.wait_for_log("ready as", 30)
        return process


@pytest.fixture
def fleets(valkey_url: str, tmp_path: Path, earlier: Path, processes: Processes) -> Fleets:
    app = tmp_path / "app.py"
    app.write_text(APP)
    return Fleets(valkey_url, app, earlier, processes)


def finish(client: WorkflowClient, ids: list[str]) -> None:
    for instance_id in ids:
        client.raise_workflow_event(instance_id, "go", data="on")
    for number, instance_id in enumerate(ids):
        state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=60)
        assert state is not None
        assert state.output() == [number + 1, 3 * number + 9, 1 - number, "on"], instance_id


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_both_versions_share_the_work_while_one_replaces_the_other(
    valkey_url: str, fleets: Fleets, earlier: Path
) -> None:
    with WorkflowClient(redis_url=valkey_url) as client:
        old = [fleets.old(), fleets.old()]
        assert str(earlier) in old[0].log()
        ids = [str(one) for one in client.schedule_many("order", inputs=range(40))]
        new = fleets.new()
        assert str(ROOT / "wfq") in new.log()
        ids_of_both = [str(one) for one in client.schedule_many("order", inputs=range(40))]
        # One by one, as a rolling upgrade goes; what the old ones held is taken over.
        assert old[0].stop() == 0
        finish(client, ids)
        old[1].kill()
        finish(client, ids_of_both)

    link = SyncLink(valkey_url)
    report = poll(lambda: _sound(link), 20, every_s=0.2)
    link.close()
    assert report


def _sound(link: SyncLink) -> bool:
    report = check_namespace(link, Namespace(), quiet=True)
    assert report.violations == []
    return True


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_upgrade_can_be_taken_back(valkey_url: str, fleets: Fleets) -> None:
    with WorkflowClient(redis_url=valkey_url) as client:
        new = fleets.new()
        ids = [str(one) for one in client.schedule_many("order", inputs=range(20))]
        poll(lambda: client.get_workflow_history(ids[-1])[3:], 20)
        fleets.old()
        assert new.stop() == 0

        finish(client, ids)


def test_a_newer_schema_is_refused_in_one_line(valkey_url: str, processes: Processes) -> None:
    link = SyncLink(valkey_url)
    open_namespace(link, "default")
    link.command("HSET", Namespace().meta, "schema", SCHEMA + 1)

    with pytest.raises(SchemaMismatch, match="upgrade wfq"):
        open_namespace(link, "default")
    link.close()
    refused = processes.wfq("list", env={"WFQ_REDIS_URL": valkey_url})

    assert refused.wait() != 0
    (line,) = refused.log().splitlines()
    assert f"schema {SCHEMA + 1}, this wfq reads up to {SCHEMA}; upgrade wfq" in line
