"""`wfq_cluster`: real processes, really killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.servers import WHY_SKIPPED, find_binary, runs
from wfq.errors import ConfigurationError
from wfq.testing import Cluster

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(find_binary("valkey") is None, reason=WHY_SKIPPED["valkey"]),
]
PROGRAM = str(Path(__file__).with_name("program.py"))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_work_goes_on_after_the_worker_and_the_server_were_killed(
    wfq_cluster: Cluster, tmp_path: Path
) -> None:
    first, second = wfq_cluster.start(PROGRAM, workers=2)
    started = wfq_cluster.client.schedule_new_workflow("careful", input=str(tmp_path))
    mark = tmp_path / "begun"
    wfq_cluster.until(mark.exists, "the activity to begin")

    victim = first if int(mark.read_text()) == first.pid else second
    assert wfq_cluster.kill(victim) is victim
    wfq_cluster.start()
    wfq_cluster.wait_for_event(started, "EventAwaited", name="go")
    # Acknowledged a second before: no power cut takes it back.
    wfq_cluster.kill_server()
    wfq_cluster.client.raise_workflow_event(started, "go")
    state = wfq_cluster.client.wait_for_workflow_completion(started, timeout_in_seconds=60)

    assert state.output() == "done done"
    assert not victim.alive


def test_nothing_is_left_behind() -> None:
    with Cluster(PROGRAM) as cluster:
        (worker,) = cluster.start()
        directory = cluster.directory

    assert not runs(worker.pid)
    assert not directory.exists()


def test_a_worker_that_does_not_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nowhere_to_be_found")

    with Cluster() as cluster:
        with pytest.raises(ConfigurationError, match="which app"):
            cluster.start()
        with pytest.raises(ConfigurationError, match="nowhere_to_be_found"):
            cluster.start(broken)
        with pytest.raises(ConfigurationError, match="no worker is alive"):
            cluster.kill()


def test_a_worker_may_be_frozen(wfq_cluster: Cluster) -> None:
    (worker,) = wfq_cluster.start(PROGRAM)

    worker.pause()
    os.kill(worker.pid, 0)
    worker.go_on()

    assert worker.stop() == 0
