"""One shard of a cluster goes back to an earlier moment while the others go on.

A parent lives on one shard, its child on another; each order of events must end with the answer
that it would have had without the loss. The shard is taken back for real: its snapshot is put in
place while it is down, and workers run all the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.e2e.conftest import FleetFor
from tests.e2e.fleet import Fleet
from tests.groups import ClusterGroup, TcpServer
from tests.servers import WHY_SKIPPED, Processes, Spawned, find_binary, poll
from wfq.checker.crossing import forsaken_children
from wfq.checker.namespace import check_namespace
from wfq.core.events import B_INC, B_INPUT, B_PARENT
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq_workers.scheduling.forwarder import Forwarder
from wfq_workers.scheduling.reconciler import ReconcilerLoop

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

NAMESPACE = Namespace("default", 16)

APP = """
import wfq as wf

def parent(ctx: wf.WorkflowContext, child: str):
    given = yield ctx.wait_for_external_event("begin")
    answer = yield ctx.call_child_workflow(waiter, input=given, instance_id=child)
    return [given, answer]

def grandparent(ctx: wf.WorkflowContext, below: list):
    given = yield ctx.wait_for_external_event("begin")
    parent, child = below
    return (yield ctx.call_child_workflow(middle, input=[given, child], instance_id=parent))

def middle(ctx: wf.WorkflowContext, input: list):
    given, child = input
    answer = yield ctx.call_child_workflow(waiter, input=given, instance_id=child)
    return [given, answer]

def waiter(ctx: wf.WorkflowContext, given: int):
    first = yield ctx.wait_for_external_event("first")
    second = yield ctx.wait_for_external_event("second")
    return [given, first, second]
"""


class Scene:
    """A cluster of three masters, workers, and a parent and a child on two of the shards."""

    def __init__(self, cluster: ClusterGroup, fleet: Fleet) -> None:
        self.cluster = cluster
        self.client = fleet.client
        self.fleet = fleet
        self.worker: Spawned = fleet.worker()
        self.link = SyncLink(fleet.url)
        # Notices what a worker's own notices within seconds, at once.
        self._reconciler = ReconcilerLoop(fleet.url, NAMESPACE, period_s=0.001, settle_s=0)
        meta = cluster.owner(NAMESPACE.meta)
        self.parent = next(f"p{n}" for n in range(100) if self.shard(f"p{n}") is not meta)
        self.child = next(
            f"c{n}" for n in range(100)
            if self.shard(f"c{n}") not in (meta, self.shard(self.parent))
        )  # fmt: skip

    def close(self) -> None:
        self.link.close()
        self.fleet.close()

    def shard(self, instance_id: str) -> TcpServer:
        """The server that an instance is on."""
        return self.cluster.owner(NAMESPACE.timers(NAMESPACE.partition_of(instance_id)))

    def beside_the_parent(self, count: int) -> list[str]:
        """Ids on the parent's shard, each in a partition of its own."""
        found = {NAMESPACE.partition_of(self.parent): self.parent}
        for n in range(1000):
            one = f"g{n}"
            if self.shard(one) is self.shard(self.parent):
                found.setdefault(NAMESPACE.partition_of(one), one)
        return list(found.values())[1 : count + 1]

    def begin(self, given: int = 1) -> None:
        """Start the parent where there is none, and let it schedule the child."""
        if self.client.get_workflow_state(self.parent) is None:
            self.client.schedule_new_workflow("parent", input=self.child, instance_id=self.parent)
        self.client.raise_workflow_event(self.parent, "begin", data=given)

    def child_runs(self) -> None:
        """Wait until the child has begun, and every message has arrived."""
        poll(lambda: len(self.records(self.child)) > 1, 20)
        outboxes = [("XLEN", NAMESPACE.outbox(p)) for p in range(NAMESPACE.partitions)]
        poll(lambda: not any(self.link.commands(outboxes)), 20)

    def tell(self, name: str, data: int) -> None:
        self.client.raise_workflow_event(self.child, name, data=data)

    def child_ends(self) -> None:
        poll(lambda: self.status(self.child) == "COMPLETED", 20)

    def status(self, instance_id: str) -> str:
        state = self.client.get_workflow_state(instance_id)
        return "" if state is None else state.runtime_status.name

    def records(self, instance_id: str) -> list[list[Any]]:
        """The history, as it is stored."""
        found = self.link.command("LRANGE", NAMESPACE.history(instance_id), 0, -1)
        return [orjson.loads(record) for record in found]

    def posted_by(self, instance_id: str) -> int:
        """How many messages wait in the outbox of the instance's partition."""
        outbox = NAMESPACE.outbox(NAMESPACE.partition_of(instance_id))
        return int(self.link.command("XLEN", outbox))

    def snapshot(self, instance_id: str) -> bytes:
        """What the instance's shard holds now."""
        server = self.shard(instance_id)
        server.ask("SAVE")
        return Path(server.directory, "dump.rdb").read_bytes()

    def go_back(self, instance_id: str, snapshot: bytes) -> None:
        """Let the instance's shard crash and come back with what it held."""
        server = self.shard(instance_id)
        server.kill()
        Path(server.directory, "dump.rdb").write_bytes(snapshot)
        server.start()
        self.cluster.wait_healed()

    def reconciled_until(self, holds: Callable[[], bool]) -> None:
        """Wait, and let the reconciler look meanwhile."""

        def look() -> bool:
            # Whose turn it is does not matter here.
            self.link.command("DEL", NAMESPACE.turn("lives"))
            self._reconciler.look(self.link)
            return holds()

        poll(look, 40, every_s=0.1)

    def answer(self) -> object:
        """What the parent ends with."""
        self.reconciled_until(lambda: self.status(self.parent) == "COMPLETED")
        return self.fleet.output(self.parent)

    def check(self) -> None:
        """Nothing is wrong, and no worker has met anything it did not expect."""
        report = check_namespace(self.link, NAMESPACE)
        assert report.ok, str(report)
        assert self.worker.alive
        assert "Traceback" not in self.worker.log()


@pytest.fixture
def scene(cluster_fleet_for: FleetFor, processes: Processes) -> Iterator[Scene]:
    if find_binary("valkey") is None:
        pytest.skip(WHY_SKIPPED["valkey"])
    group = ClusterGroup()
    try:
        made = Scene(group, Fleet(group.url, cluster_fleet_for(APP).app, processes))
        made.client.schedule_new_workflow("parent", input=made.child, instance_id=made.parent)
        poll(lambda: len(made.records(made.parent)) > 1, 20)
        yield made
        made.close()
    finally:
        group.close()


def test_a_parent_that_forgot_its_live_child_finds_it_again(scene: Scene) -> None:
    before = scene.snapshot(scene.parent)
    scene.begin()
    scene.child_runs()
    scene.tell("first", 2)
    scene.go_back(scene.parent, before)

    scene.begin()
    poll(lambda: "it is the same child" in scene.worker.log(), 30)
    scene.tell("second", 3)

    assert scene.answer() == [1, [1, 2, 3]]  # the event of the other shard was not lost
    scene.check()


@pytest.mark.long
def test_a_child_that_ends_before_it_notes_its_adoption_tells_its_parent(scene: Scene) -> None:
    """Nobody reconciles here: what the child tells must be right the first time."""
    before = scene.snapshot(scene.parent)
    scene.begin()
    scene.child_runs()
    scene.tell("first", 2)
    poll(lambda: len(scene.records(scene.child)) > 2, 20)
    scene.go_back(scene.parent, before)
    scene.worker.stop()
    carrier = Forwarder(scene.fleet.url, NAMESPACE)

    scene.worker = scene.fleet.worker("orchestrator")
    scene.begin()
    poll(lambda: scene.posted_by(scene.parent) == 1, 20)
    scene.worker.stop()
    scene.tell("second", 3)
    carrier.forward(range(NAMESPACE.partitions))
    # One turn reads the event that ends the child, and the adoption behind it.
    scene.worker = scene.fleet.worker("orchestrator")
    scene.child_ends()
    poll(lambda: scene.posted_by(scene.child) == 1, 20)
    carrier.forward(range(NAMESPACE.partitions))
    carrier.close()

    assert not any("adopt" in str(record) for record in scene.records(scene.child))
    assert scene.fleet.output(scene.parent, 10) == [1, [1, 2, 3]]
    scene.check()


@pytest.mark.long
@pytest.mark.parametrize("ended", [False, True], ids=["live", "ended"])
@pytest.mark.parametrize("near", [False, True], ids=["far", "near"])
def test_a_parent_that_is_decided_again_itself_finds_its_child(
    scene: Scene, near: bool, ended: bool
) -> None:
    """Two levels on the shard that goes back: the parent is another incarnation then."""
    root, other = scene.beside_the_parent(2)
    scene.client.schedule_new_workflow(
        "grandparent", input=[None if near else other, scene.child], instance_id=root
    )
    poll(lambda: len(scene.records(root)) > 1, 20)
    before = scene.snapshot(root)
    scene.client.raise_workflow_event(root, "begin", data=1)
    scene.child_runs()
    parent, first, *_ = scene.records(scene.child)[0][B_PARENT]
    scene.tell("first", 2)
    if ended:
        scene.tell("second", 3)
        scene.child_ends()
    scene.go_back(root, before)

    scene.client.raise_workflow_event(root, "begin", data=1)
    poll(lambda: "it is the same child" in scene.worker.log(), 30)
    if not ended:
        scene.tell("second", 3)
    scene.reconciled_until(lambda: scene.status(root) == "COMPLETED")

    assert scene.fleet.output(root) == [1, [1, 2, 3]]
    assert scene.records(parent)[0][B_INC] != first
    scene.check()


@pytest.mark.long
def test_a_parent_that_forgot_its_finished_child_gets_its_outcome(scene: Scene) -> None:
    before = scene.snapshot(scene.parent)
    scene.begin()
    scene.child_runs()
    scene.tell("first", 2)
    scene.tell("second", 3)
    assert scene.answer() == [1, [1, 2, 3]]
    scene.go_back(scene.parent, before)

    scene.begin()

    assert scene.answer() == [1, [1, 2, 3]]
    scene.check()


@pytest.mark.long
def test_a_parent_that_decides_otherwise_gets_another_child(scene: Scene) -> None:
    before = scene.snapshot(scene.parent)
    scene.begin(1)
    scene.child_runs()
    scene.tell("first", 2)
    scene.go_back(scene.parent, before)

    scene.begin(7)
    poll(lambda: scene.records(scene.child)[0][B_INPUT] == 7, 30)
    scene.tell("first", 8)
    scene.tell("second", 9)

    assert scene.answer() == [7, [7, 8, 9]]
    scene.check()


@pytest.mark.long
def test_a_parent_that_forgot_an_outcome_is_told_again(scene: Scene) -> None:
    scene.begin()
    scene.child_runs()
    before = scene.snapshot(scene.parent)
    scene.tell("first", 2)
    scene.tell("second", 3)
    scene.child_ends()
    assert scene.answer() == [1, [1, 2, 3]]
    scene.go_back(scene.parent, before)
    assert scene.status(scene.parent) == "RUNNING"

    assert scene.answer() == [1, [1, 2, 3]]
    scene.check()


@pytest.mark.long
def test_a_child_whose_shard_forgot_that_it_was_terminated_is_told_again(scene: Scene) -> None:
    scene.begin()
    scene.child_runs()
    before = scene.snapshot(scene.child)
    scene.client.terminate_workflow(scene.parent, output="enough")
    for one in (scene.parent, scene.child):
        poll(lambda one=one: scene.status(one) == "TERMINATED", 20)  # type: ignore[misc]
    scene.go_back(scene.child, before)
    assert scene.status(scene.child) == "RUNNING"

    scene.reconciled_until(lambda: scene.status(scene.child) == "TERMINATED")

    scene.check()


@pytest.mark.long
def test_a_child_in_between_ends_with_its_parent_and_not_by_its_own_child(scene: Scene) -> None:
    """Both are torn: nobody told it that its own child has ended with it, either."""
    root, leaf = scene.beside_the_parent(2)
    middle = scene.child
    scene.client.schedule_new_workflow("grandparent", input=[middle, leaf], instance_id=root)
    poll(lambda: len(scene.records(root)) > 1, 20)
    scene.client.raise_workflow_event(root, "begin", data=1)
    scene.child_runs()
    poll(lambda: len(scene.records(leaf)) > 1, 20)
    before = scene.snapshot(middle)
    scene.client.terminate_workflow(root)
    for one in (root, middle, leaf):
        poll(lambda one=one: scene.status(one) == "TERMINATED", 20)  # type: ignore[misc]
    scene.go_back(middle, before)
    assert scene.status(middle) == "RUNNING"

    scene.reconciled_until(lambda: scene.status(middle) != "RUNNING")

    assert scene.status(middle) == "TERMINATED"
    scene.check()


@pytest.mark.long
def test_a_child_that_outlives_its_parent_on_purpose_is_left_alone(scene: Scene) -> None:
    scene.begin()
    scene.child_runs()
    before = scene.snapshot(scene.child)
    scene.client.terminate_workflow(scene.parent, recursive=False)
    poll(lambda: scene.status(scene.parent) == "TERMINATED", 20)
    scene.go_back(scene.child, before)

    pages = forsaken_children(scene.link, NAMESPACE, range(NAMESPACE.partitions))

    assert [child for page in pages for child in page] == []
    assert scene.status(scene.child) == "RUNNING"


def test_a_child_that_its_shard_forgot_is_started_again(scene: Scene) -> None:
    before = scene.snapshot(scene.child)
    scene.begin()
    scene.child_runs()
    scene.go_back(scene.child, before)

    scene.reconciled_until(lambda: bool(scene.records(scene.child)))
    scene.tell("first", 2)
    scene.tell("second", 3)

    assert scene.answer() == [1, [1, 2, 3]]
    scene.check()


@pytest.mark.long
def test_a_child_whose_shard_went_back_while_it_ran_goes_on_from_there(scene: Scene) -> None:
    scene.begin()
    scene.child_runs()
    scene.tell("first", 2)
    before = scene.snapshot(scene.child)
    scene.tell("second", 4)
    assert scene.answer() == [1, [1, 2, 4]]
    scene.go_back(scene.child, before)

    # It does not know that it has ended. What it tells now comes too late.
    poll(lambda: scene.status(scene.child) == "RUNNING", 20)
    scene.tell("second", 5)
    scene.child_ends()

    assert scene.answer() == [1, [1, 2, 4]]
    scene.check()
