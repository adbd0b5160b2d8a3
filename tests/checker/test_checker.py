"""The checker on what a server holds: it names what will wake each instance, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.checker import scene as damage
from tests.checker.scene import Scene
from tests.storage import tiny
from tests.storage.kit import QUEUE
from wfq.checker import check_instance, check_namespace
from wfq.storage import partitions
from wfq.storage.instances import lifecycle_command
from wfq.storage.timers import timer_member


def test_an_empty_namespace_has_nothing_wrong(scene: Scene) -> None:
    report = scene.report(quiet=True)

    assert report.ok
    assert report.explanations == {}
    assert "0 violations" in str(report)


class TestExplanations:
    def test_a_start_that_waits(self, scene: Scene) -> None:
        scene.store.start("a", name="chain", payload=None)

        said = scene.said()

        assert "1 event waits in the stream of queue default (owner owner)" in said
        assert "its start waits in the stream" in said

    def test_a_stream_that_nobody_reads(self, scene: Scene) -> None:
        scene.store.run(partitions.release(scene.store.ns, 0, QUEUE, token=scene.owner.token))
        scene.store.start("a", name="chain", payload=None)

        assert "nobody owns partition 0" in scene.said()

    def test_a_delayed_start(self, scene: Scene) -> None:
        scene.store.start("a", name="chain", payload=None, due_ms=4_000_000_000_000)

        assert scene.said() == "delayed start due 2096-10-02T07:06:40.000Z"

    def test_an_activity_on_its_way(self, scene: Scene) -> None:
        scene.begin("chain")
        waits = scene.said()
        (attempt,) = tiny.take(scene.store, 0, "worker-1", 1)
        runs = scene.said()
        scene.store.complete(attempt.outcome("done"))
        ended = scene.said()

        assert waits == "activity work (task 0), attempt 1, waits for a worker of queue default"
        assert runs.startswith("activity work (task 0), attempt 1, pending on worker worker-1")
        assert "activity work (task 0): its outcome waits in the stream" in ended

    def test_an_activity_that_waits_for_its_next_attempt(self, scene: Scene) -> None:
        scene.begin("chain")
        (first,) = tiny.take(scene.store, 0, "w", 1)
        scene.store.complete(first.outcome("done"))
        scene.turn()
        (second,) = tiny.take(scene.store, 0, "w", 1)
        scene.store.complete(second.outcome("failed"))

        assert scene.said().startswith("activity work (task 1): next attempt due ")

    def test_timers_and_events(self, scene: Scene) -> None:
        scene.begin("approval")
        waits = scene.said()
        tiny.make_due(scene.store)
        scene.store.fire()

        assert waits.startswith("event 'go' (task 0) since ")
        assert ", times out " in waits
        assert "its firing waits in the stream" in scene.said()

    def test_children(self, scene: Scene) -> None:
        scene.begin("parent")
        born = scene.said()
        scene.turn()

        assert "child a~" in born
        assert "child far-a (task 1), RUNNING" in scene.said()

    def test_suspended_and_stalled(self, scene: Scene) -> None:
        scene.begin("approval")
        scene.command("suspend")
        scene.turn()
        suspended = scene.said()
        scene.command("resume")
        scene.turn()
        scene.begin("unheard of", "b")

        assert suspended.startswith("suspended, until it is resumed; event 'go'")
        assert scene.said("b") == "stalled: no worker has the workflow 'unheard of'"

    def test_one_instance_alone(self, scene: Scene) -> None:
        scene.begin("approval")

        report = check_instance(scene.store.link, scene.store.ns, "a")
        unknown = check_instance(scene.store.link, scene.store.ns, "nobody")

        assert list(report.explanations) == ["a"]
        assert unknown.explanations == {}
        assert report.ok
        assert unknown.ok


DAMAGE: dict[str, tuple[str, str, Callable[[Scene], None]]] = {
    "an entry is gone": ("chain", "W3", damage.drop_entries),
    "a pending entry is held by nobody": ("chain", "W3", damage.lose_pending),
    "a retry has no message": ("chain", "W3", damage.drop_message),
    "a timer is gone": ("approval", "W4", damage.drop_timer),
    "a child is gone": ("parent", "W5", damage.drop_child),
    "the instance hash is gone": (
        "chain",
        "Q8",
        lambda s: s.store.command("DEL", s.store.ns.instance("a")),
    ),
    "the history is gone": (
        "chain",
        "Q8",
        lambda s: s.store.command("DEL", s.store.ns.history("a")),
    ),
    "another incarnation": ("chain", "H1", damage.field("inc", "other")),
    "another generation": ("chain", "H1", damage.field("gen", "7")),
    "another name": ("chain", "H1", damage.field("name", "other")),
    "ended without an end": ("chain", "H1", damage.field("status", "COMPLETED")),
    "suspended without a command": ("chain", "H8", damage.field("status", "SUSPENDED")),
    "stalled without a reason": ("chain", "H8", damage.field("status", "STALLED")),
    "an unknown status": ("chain", "Q7", damage.field("status", "ASLEEP")),
    "in two indexes": ("chain", "Q7", damage.wrong_index),
    "in no index": ("chain", "Q7", damage.no_index),
    "at another time in the index": ("chain", "Q7", damage.other_time),
    "a key expires": ("chain", "Q8", damage.ttl),
    "a turn is there twice": ("chain", "H2", damage.again),
    "the inbox counts too many": ("approval", "W9", damage.field("inbox", "3")),
}


@pytest.mark.parametrize("what", DAMAGE, ids=lambda what: what.replace(" ", "-"))
def test_damage_is_named(scene: Scene, what: str) -> None:
    program, invariant, harm = DAMAGE[what]
    scene.begin(program)
    assert scene.wrong() == []

    harm(scene)

    assert invariant in scene.wrong()
    scene.store.command("FLUSHALL")  # a damage may be a key that no test should leave


def test_a_start_that_is_lost_is_named(scene: Scene) -> None:
    scene.store.start("a", name="chain", payload=None)

    damage.drop_events(scene)

    assert scene.wrong() == ["W8"]


def test_an_instance_that_waits_for_nothing_is_stuck(scene: Scene) -> None:
    scene.begin("chain")
    (attempt,) = tiny.take(scene.store, 0, "w", 1)
    scene.store.complete(attempt.outcome("done"))
    record = b'["T",4000000000000,"n9",[["C",0,"%b",1]],[],null]' % scene.nonce().encode()
    damage.drop_events(scene)
    scene.store.command("RPUSH", scene.store.ns.history("a"), record)

    assert scene.wrong() == ["W2"]


def test_an_outcome_that_is_lost_leaves_its_parent_stuck(scene: Scene) -> None:
    scene.begin("parent")
    scene.turn()
    scene.store.append(("far-a", "", "L", lifecycle_command("c1", "terminate", {})))
    while scene.owner.read(100):
        call = scene.owner.draft_all()
        assert call is not None
        scene.owner.settle(call)
        damage.drop_events(scene)

    assert "W5" in scene.wrong()


class TestTidiness:
    def end(self, scene: Scene) -> None:
        scene.begin("approval")
        scene.command("terminate")
        scene.turn()
        assert scene.wrong(quiet=True) == []

    def test_an_ended_instance_leaves_no_timer(self, scene: Scene) -> None:
        self.end(scene)
        scene.store.command(
            "ZADD", scene.store.ns.timers(0), 10**13, timer_member(QUEUE, "a", 0, "n")
        )

        assert scene.wrong() == ["Q6"]

    def test_an_ended_instance_leaves_no_dispatch(self, scene: Scene) -> None:
        self.end(scene)
        scene.store.command("HSET", scene.store.ns.cursors(0), "a", "n 5")

        assert "Q6" in scene.wrong()

    @pytest.mark.parametrize(
        ("key", "command"),
        [
            ("timers", ("ZADD", 10**13, "T default gone x")),
            ("tasks", ("HSET", "gone 0 n", "message")),
            ("tasks", ("HSET", "hb gone 0 n", "1")),
            ("tasks", ("HSET", "x gone 0 n", "1 5-5/3")),
            ("tasks", ("HSET", "s gone 0 n", "5-5")),
            ("cursors", ("HSET", "gone", "n 5")),
            ("activities:default", ("XADD", "*", "gone", "[]")),
            ("events:default", ("XADD", "*", "gone", "[]")),
        ],
    )
    def test_what_belongs_to_nobody_is_named(
        self, scene: Scene, key: str, command: tuple[str | int, ...]
    ) -> None:
        scene.store.command(command[0], scene.store.ns.prefix(0) + key, *command[1:])

        assert scene.wrong() == []
        assert scene.wrong(quiet=True) == ["Q1"]

    def test_what_is_late_is_named(self, scene: Scene) -> None:
        scene.begin("approval")
        scene.store.command(
            "ZADD", scene.store.ns.timers(0), 1000, timer_member(QUEUE, "a", 0, scene.nonce())
        )
        scene.store.command("XADD", scene.store.ns.outbox(0), "1000-0", "m", '["E","b","","E",""]')

        assert sorted(scene.wrong(quiet=True)) == ["Q2", "Q3"]

    def test_a_missing_consumer_group_is_named(self, scene: Scene) -> None:
        scene.begin("chain")
        scene.store.command("XGROUP", "DESTROY", scene.store.ns.activities(0, QUEUE), "activities")

        assert scene.wrong(quiet=True) == ["Q4"]

    def test_an_index_that_names_nobody_is_named(self, scene: Scene) -> None:
        scene.store.command("ZADD", scene.store.ns.index(0, "RUNNING"), 1, "gone")

        assert scene.wrong() == ["Q7"]

    def test_a_strange_key_is_named(self, scene: Scene) -> None:
        scene.store.command("SET", scene.store.ns.prefix(0) + "strange", "1")

        assert scene.wrong() == ["Q8"]
        scene.store.command("FLUSHALL")


class TestChanges:
    def test_ended_instances_never_change(self, scene: Scene) -> None:
        scene.begin("approval")
        scene.command("terminate")
        scene.turn()
        before = scene.report()
        scene.store.command(
            "LSET", scene.store.ns.history("a"), -1, b'["T",4000000000000,"n",[],[["Q",1]],null]'
        )

        after = check_namespace(scene.store.link, scene.store.ns, before=before)

        assert "A4" in [v.invariant for v in after.violations]

    def test_records_only_grow(self, scene: Scene) -> None:
        scene.begin("chain")
        before = scene.report()
        (attempt,) = tiny.take(scene.store, 0, "w", 1)
        scene.store.complete(attempt.outcome("done"))
        scene.turn()
        grown = check_namespace(scene.store.link, scene.store.ns, before=before)
        cut = check_namespace(scene.store.link, scene.store.ns, before=grown)
        scene.store.command("LTRIM", scene.store.ns.history("a"), 0, -2)
        shrunk = check_namespace(scene.store.link, scene.store.ns, before=grown)

        assert grown.ok
        assert cut.ok
        assert "A4" in [v.invariant for v in shrunk.violations]

    def test_a_reborn_instance_is_another(self, scene: Scene) -> None:
        scene.begin("approval")
        scene.command("terminate")
        scene.turn()
        before = scene.report()
        scene.store.start("a", "inc2", name="chain", payload=None, policy="replace")

        assert check_namespace(scene.store.link, scene.store.ns, before=before).ok
