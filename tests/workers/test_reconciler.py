"""The reconciler: who looks when, and what a pass costs. What it mends: see tests/faults."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from tests.servers import LocalServer
from wfq.checker import crossing
from wfq.storage import instances
from wfq.storage.instances import NewInstance
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq_workers.scheduling import reconciler
from wfq_workers.scheduling.reconciler import ReconcilerLoop

NAMESPACE = Namespace("test", 4)


class Scene:
    """A server, and the passes that were made over it."""

    def __init__(self, server: LocalServer, passes: list[frozenset[int]]) -> None:
        self.server = server
        self.passes = passes
        self.link = SyncLink(server.url)

    def loop(self, settle_s: float = 0) -> ReconcilerLoop:
        return ReconcilerLoop(self.server.url, NAMESPACE, period_s=0, settle_s=settle_s)

    def look(self, loop: ReconcilerLoop) -> int:
        """Look, whoever's turn it is; returns how many passes have been made."""
        self.link.command("DEL", NAMESPACE.turn("lives"))
        loop.look(self.link)
        return len(self.passes)

    def lives(self) -> set[bytes]:
        return set(self.link.commands([("GET", NAMESPACE.life(p)) for p in range(4)]))


@pytest.fixture
def scene(
    start_server: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    passes: list[frozenset[int]] = []

    def watched(
        link: SyncLink, namespace: Namespace, partitions: frozenset[int]
    ) -> Iterator[list[str]]:
        passes.append(partitions)
        yield []

    monkeypatch.setattr(reconciler, "torn_parents", watched)
    made = Scene(start_server("valkey", "--appendonly", "yes"), passes)
    # A turn lasts a millisecond at least.
    monkeypatch.setattr(
        reconciler, "turn_command",
        lambda ns, name, who, _ms: ("SET", ns.turn(name), who, "NX", "PX", 60_000),
    )  # fmt: skip
    yield made
    made.link.close()


def test_a_life_of_a_server_is_reconciled_twice(scene: Scene) -> None:
    loop = scene.loop()

    assert [scene.look(loop) for _ in range(5)] == [1, 2, 2, 2, 2]
    assert set(map(frozenset, scene.passes)) == {frozenset(range(4))}
    assert len(scene.lives()) == 1


def test_the_second_pass_waits_until_things_have_settled(scene: Scene) -> None:
    loop = scene.loop(settle_s=3600)

    assert [scene.look(loop) for _ in range(4)] == [1] * 4


def test_what_one_has_done_another_does_not_repeat(scene: Scene) -> None:
    first, second = scene.loop(), scene.loop()

    assert [scene.look(first), scene.look(second), scene.look(second)] == [1, 2, 2]


def test_only_whose_turn_it_is_looks(scene: Scene) -> None:
    scene.look(scene.loop())

    scene.loop().look(scene.link)

    assert len(scene.passes) == 1


def test_while_one_makes_a_pass_others_keep_away(scene: Scene) -> None:
    loop = scene.loop()
    scene.link.command("SET", NAMESPACE.turn("reconcile"), "another")

    assert scene.look(loop) == 0
    scene.link.command("DEL", NAMESPACE.turn("reconcile"))
    assert scene.look(loop) == 1  # what was put off is not forgotten
    assert scene.link.command("EXISTS", NAMESPACE.turn("reconcile")) == 0


def test_a_server_that_was_started_again_is_noticed_and_told_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    loop = scene.loop()
    scene.look(loop)
    scene.look(loop)
    assert not caplog.records

    scene.server.restart()
    with caplog.at_level(logging.WARNING, "wfq.reconciler"):
        passes = [scene.look(loop) for _ in range(4)]

    assert passes == [3, 4, 4, 4]
    (line,) = [record.message for record in caplog.records]
    assert "the servers of partitions 0, 1, 2, 3 were started again" in line


def test_an_emptied_server_is_noticed(scene: Scene) -> None:
    loop = scene.loop()
    scene.look(loop)
    scene.look(loop)

    scene.server.flush()

    assert [scene.look(loop) for _ in range(8)][-1] >= 3
    assert len(scene.lives()) <= 2


@pytest.mark.parametrize("walk", ["forsaken_children", "torn_parents"])
def test_a_long_pass_keeps_its_claim_and_is_given_up_without_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, walk: str
) -> None:
    turn, pages = NAMESPACE.turn("reconcile"), 0

    def long(*_: object) -> Iterator[list[str]]:
        nonlocal pages
        for pages in range(1, 8):
            if pages == 3:
                # The last page was a while ago, and somebody else may look any moment.
                assert scene.link.command("PEXPIRE", turn, 3_600_000) == 1
            if pages == 4:
                assert scene.link.command("PTTL", turn) <= reconciler.CLAIM_MS
            if pages == 6:
                scene.link.command("SET", turn, "another")
            yield []

    monkeypatch.setattr(reconciler, walk, long)
    monkeypatch.setattr(reconciler, "RENEW_S", 0.0)

    scene.look(scene.loop())

    assert pages == 6
    assert scene.lives() == {None}
    assert scene.link.command("GET", turn) == b"another"


def test_who_is_to_end_with_its_parent_is_told_before_anything_else(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it might end otherwise, by the outcome of a child that has ended with it."""
    mended: list[str] = []

    def mend(_link: SyncLink, _namespace: Namespace, instance_id: str) -> list[str]:
        mended.append(instance_id)
        return []

    monkeypatch.setattr(reconciler, "forsaken_children", lambda *_: iter([["forsaken"]]))
    monkeypatch.setattr(reconciler, "torn_parents", lambda *_: iter([["torn"]]))
    monkeypatch.setattr(reconciler, "repair_instance", mend)

    scene.look(scene.loop())

    assert mended == ["forsaken", "torn"]


def test_pages_show_every_member_once(scene: Scene) -> None:
    index = NAMESPACE.index(0, "RUNNING")
    members = {f"i{n}": n // 120 for n in range(400)}
    scene.link.command("ZADD", index, *(word for m, s in members.items() for word in (s, m)))

    pages = list(crossing._pages(scene.link, index))

    assert sorted(one for page in pages for one in page) == sorted(members)
    assert max(map(len, pages)) <= crossing.PAGE


def test_only_parents_with_children_elsewhere_are_looked_at(scene: Scene) -> None:
    for n in range(20):
        new = NewInstance(f"i{n}", "inc1", "q", "flow", b"1")
        scene.link.run(instances.start(NAMESPACE, NAMESPACE.partition_of(f"i{n}"), [new]))

    pages = list(crossing.torn_parents(scene.link, NAMESPACE, range(4)))

    assert pages == [[]] * 4


def test_a_damaged_history_holds_nothing_up(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    new = NewInstance("odd", "inc", "flow", "default", b"1")
    scene.link.run(instances.start(NAMESPACE, NAMESPACE.partition_of("odd"), [new]))
    scene.link.command("RPUSH", NAMESPACE.history("odd"), crossing._STARTS + b"torn")

    found = list(crossing.torn_parents(scene.link, NAMESPACE, frozenset(range(4))))

    assert [one for page in found for one in page] == []
    assert "the history of instance odd cannot be read" in caplog.text
