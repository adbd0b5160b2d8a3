"""Messages between the shards of a cluster while one of them cannot take any."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from tests.groups import ClusterGroup, TcpServer
from tests.servers import WHY_SKIPPED, find_binary, poll
from wfq.storage import instances
from wfq.storage.instances import NewInstance
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.outbox import Message
from wfq_workers.scheduling.forwarder import Forwarder
from wfq_workers.scheduling.scheduler import SchedulerLoop

pytestmark = pytest.mark.timeout(120)

NAMESPACE = Namespace("test", 16)
#: More than what is read at once, several times.
MANY = 500


class Scene:
    """Three masters: messages come from the first, and go to the second, which will be away, and
    to the third."""

    def __init__(self, cluster: ClusterGroup) -> None:
        self.cluster = cluster
        self.link = SyncLink(cluster.url)
        self.source, self.away, self.near = (self.some_partition(m) for m in cluster.masters)
        self.lost = self.start("lost", self.away)
        self.found = self.start("found", self.near)
        self.carrier = Forwarder(cluster.url, NAMESPACE)
        self.scheduler = SchedulerLoop(cluster.url, NAMESPACE)

    def close(self) -> None:
        self.scheduler.stop()
        self.carrier.close()
        self.link.close()

    def server(self, partition: int) -> TcpServer:
        return self.cluster.owner(NAMESPACE.outbox(partition))

    def some_partition(self, server: TcpServer) -> int:
        return next(p for p in range(NAMESPACE.partitions) if self.server(p) is server)

    def start(self, name: str, partition: int) -> str:
        """Start an instance in a partition; returns its id."""
        ids = (f"{name}-{n}" for n in range(1000))
        instance_id = next(i for i in ids if NAMESPACE.partition_of(i) == partition)
        new = NewInstance(instance_id, "inc1", "default", "flow", b"1")
        self.link.run(instances.start(NAMESPACE, partition, [new]))
        return instance_id

    def post(self, target: str, *numbers: int) -> None:
        """Leave events in the outbox, as a commit does."""
        outbox = NAMESPACE.outbox(self.source)
        for number in numbers:
            message = Message("E", [target, "", "E", f',"e{number}","go",{number}]'])
            self.link.command("XADD", outbox, "*", "m", message.encode())
        self.link.beside(outbox, "PUBLISH", NAMESPACE.wake(self.source), 0)

    def arrived(self, partition: int) -> list[int]:
        """The numbers of the events that have arrived, in their order."""
        key = NAMESPACE.events(partition, "default")
        events = [
            orjson.loads(event)
            for _, fields in self.link.command("XRANGE", key, "-", "+")
            for event in fields.values()
        ]
        return [event[4] for event in events if event[0] == "E"]

    def waiting(self) -> int:
        """How many messages the outbox holds."""
        return int(self.link.command("XLEN", NAMESPACE.outbox(self.source)))

    def carried(self, partition: int, count: int, within_s: float) -> None:
        poll(lambda: len(self.arrived(partition)) >= count, within_s)


@pytest.fixture
def scene() -> Iterator[Scene]:
    if find_binary("valkey") is None:
        pytest.skip(WHY_SKIPPED["valkey"])
    group = ClusterGroup(options=("--appendonly", "yes", "--appendfsync", "always"))
    made = Scene(group)
    yield made
    made.close()
    group.close()


def test_messages_pass_those_for_a_node_that_is_away(scene: Scene) -> None:
    lost = scene.server(scene.away)
    scene.scheduler.start()
    scene.post(scene.lost, 1)
    scene.carried(scene.away, 1, 10)

    lost.kill()
    scene.post(scene.lost, *range(2, MANY))
    scene.post(scene.found, 1, 2, 3)
    scene.carried(scene.near, 3, 10)
    scene.post(scene.lost, MANY)
    scene.post(scene.found, 4)
    scene.carried(scene.near, 4, 10)
    poll(lambda: scene.waiting() == MANY - 1, 10)
    lost.start()
    scene.cluster.wait_healed()

    scene.carried(scene.away, MANY, 30)
    assert scene.arrived(scene.away) == list(range(1, MANY + 1))
    assert scene.arrived(scene.near) == [1, 2, 3, 4]
    poll(lambda: scene.waiting() == 0, 10)


@pytest.mark.long
@pytest.mark.parametrize("how", ["killed", "hung"])
def test_what_is_held_goes_before_what_comes_later(scene: Scene, how: str) -> None:
    """A receiver takes nothing below what it has applied: the oldest must go first."""
    lost = scene.server(scene.away)
    scene.post(scene.lost, 0)
    scene.carrier.forward([scene.source])
    lost.kill() if how == "killed" else lost.freeze()
    scene.post(scene.lost, *range(1, 150))
    assert 0 < scene.carrier.forward([scene.source])[scene.source] < 10
    scene.post(scene.found, 1)
    scene.post(scene.lost, 150)
    scene.carrier.forward([scene.source])
    assert scene.arrived(scene.near) == [1]
    lost.start() if how == "killed" else lost.thaw()
    scene.cluster.wait_healed()

    scene.post(scene.lost, 151)
    poll(lambda: scene.carrier.forward([scene.source]) == {}, 20)

    assert scene.arrived(scene.away) == list(range(152))
    assert scene.waiting() == 0


def test_a_source_that_forgot_what_it_sent_and_has_a_clock_behind_is_heard(scene: Scene) -> None:
    """Its ids come again. Without more they would be below what the receiver has applied."""
    scene.post(scene.found, 1)
    scene.carrier.forward([scene.source])
    # As if it had gone back, and its clock a day with it.
    outbox, applied = NAMESPACE.outbox(scene.source), NAMESPACE.inbox_from(scene.near)
    seen = scene.link.command("HGET", applied, scene.source).decode()
    later = f"{int(seen.split('-')[0]) + 86_400_000}-7"
    scene.link.command("HSET", applied, scene.source, later)
    scene.post(scene.found, *range(2, 700))
    scene.post(scene.lost, 1)

    scene.carrier.forward([scene.source])
    scene.post(scene.found, 700)
    scene.carrier.forward([scene.source])

    assert scene.arrived(scene.near) == list(range(1, 701))
    assert scene.arrived(scene.away) == [1]
    assert scene.waiting() == 0
    last = scene.link.command("HGET", applied, scene.source).decode()
    assert int(last.split("-")[0]) >= int(later.split("-")[0])
    assert scene.link.command("XLEN", outbox) == 0
