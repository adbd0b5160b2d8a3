"""Repair: what is missing is put back once, and nothing that exists is added again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import orjson
import pytest

from tests.checker import scene as damage
from tests.checker.scene import Scene
from tests.storage import tiny
from tests.storage.kit import QUEUE, Store
from wfq.checker import repair as repair_module
from wfq.checker.crossing import Termination, forsaken_children, torn_parents
from wfq.checker.evidence import Evidence
from wfq.checker.repair import repair_instance, repair_namespace
from wfq.core.events import B_EXTRA, B_INC, B_PARENT
from wfq.core.instance import Instance
from wfq.storage.instances import lifecycle_command
from wfq.storage.outbox import Message
from wfq.storage.reconciling import Mending
from wfq.storage.timers import delayed_start_member, timer_member


def repair(scene: Scene, *, quiet: bool = False) -> list[str]:
    """Repair everything; returns what was done, and checks that nothing is wrong any more."""
    done, report = repair_namespace(scene.store.link, scene.store.ns, quiet=quiet)
    assert report.ok, str(report)
    again, _ = repair_namespace(scene.store.link, scene.store.ns, quiet=quiet)
    assert again == []
    return [words for mended in done for words in mended.what]


def finish(scene: Scene, instance_id: str = "a") -> object:
    """Let the instance come to its end; returns its output."""
    scene.owner.own(by_force=True)
    for round_number in range(20):
        scene.turn()
        for attempt in tiny.take(scene.store, 0, "w", 100) + tiny.claim(scene.store, 0, "w"):
            scene.store.complete(attempt.outcome("done"))
        tiny.make_due(scene.store)
        scene.store.fire()
        for live in scene.report().explanations:
            scene.store.raise_event(live, f"late{round_number}")
        last = scene.store.history(instance_id)[-1]
        if last[0] == "T" and last[4] and last[4][-1][0] == "K":
            return last[4][-1][1]
    raise AssertionError(scene.said())


MENDABLE: dict[str, tuple[str, Callable[[Scene], None], str]] = {
    "an entry is gone": ("chain", damage.drop_entries, "the entry of activity work (task 0)"),
    "a pending entry is held by nobody": (
        "chain",
        damage.lose_pending,
        "the entry of activity work (task 0)",
    ),
    "a retry has no message": (
        "chain",
        damage.drop_message,
        "the entry of activity work (task 0)",
    ),
    "a timer is gone": ("approval", damage.drop_timer, "the timer of task 0"),
    "a child is gone": ("parent", damage.drop_child, "child far-a"),
    "in two indexes": ("chain", damage.wrong_index, "its place in the index of RUNNING"),
    "in no index": ("chain", damage.no_index, "its place in the index of RUNNING"),
    "at another time in the index": (
        "chain",
        damage.other_time,
        "its place in the index of RUNNING",
    ),
}


@pytest.mark.parametrize("what", MENDABLE, ids=lambda what: what.replace(" ", "-"))
def test_what_is_missing_is_put_back_and_the_instance_goes_on(scene: Scene, what: str) -> None:
    program, harm, words = MENDABLE[what]
    scene.begin(program)
    harm(scene)

    assert repair(scene) == [words]
    assert finish(scene)


@pytest.mark.parametrize("program", tiny.PROGRAMS)
def test_what_is_whole_is_left_alone(scene: Scene, program: str) -> None:
    scene.begin(program)
    before = scene.store.image()

    for instance_id in scene.report().traces:
        assert repair_instance(scene.store.link, scene.store.ns, instance_id) == []

    assert scene.store.image() == before


def test_every_form_of_an_attempt_is_evidence_of_it(scene: Scene) -> None:
    """Waiting, pending, between attempts, ended: nothing is dispatched a second time."""
    scene.begin("chain")

    def mend() -> list[str]:
        return repair_instance(scene.store.link, scene.store.ns, "a")

    done = [mend()]
    (first,) = tiny.take(scene.store, 0, "w", 1)
    done.append(mend())
    scene.store.complete(first.outcome("done"))
    done.append(mend())
    scene.turn()
    (second,) = tiny.take(scene.store, 0, "w", 1)
    scene.store.complete(second.outcome("failed"))
    done.append(mend())
    tiny.make_due(scene.store)
    scene.store.fire()
    done.append(mend())

    assert done == [[]] * 5
    assert len(scene.store.messages()) == 1


def test_a_retry_that_lost_its_timer_keeps_its_attempts(scene: Scene) -> None:
    scene.begin("chain")
    (first,) = tiny.take(scene.store, 0, "w", 1)
    scene.store.complete(first.outcome("done"))
    scene.turn()
    (second,) = tiny.take(scene.store, 0, "w", 1)
    scene.store.complete(second.outcome("failed"))
    for member in scene.store.timers():
        scene.store.command("ZREM", scene.store.ns.timers(0), member)

    done = repair(scene)
    scene.store.fire()

    assert done == ["the entry of activity work (task 1)"]
    assert [m[1] for _, m in scene.store.messages()] == [2]


def test_an_attempt_that_nobody_holds_keeps_its_number(scene: Scene) -> None:
    scene.begin("chain")
    message = scene.store.messages()[0][1]
    message[1] = 3
    scene.store.command("XTRIM", scene.store.ns.activities(0, QUEUE), "MAXLEN", 0)
    key = scene.store.ns.activities(0, QUEUE)
    scene.store.command("XADD", key, "*", "a", orjson.dumps(message))
    damage.lose_pending(scene)

    repair(scene)

    assert [m[1] for _, m in scene.store.messages()] == [3]


def test_a_lost_start_is_put_back(scene: Scene) -> None:
    scene.store.start("a", name="chain", payload=None)
    damage.drop_events(scene)

    assert repair(scene) == ["its start"]
    assert finish(scene)


def test_a_lost_delayed_start_begins_at_once(scene: Scene) -> None:
    scene.store.start("a", name="chain", payload=None, due_ms=10**13)
    member = delayed_start_member(QUEUE, "a", "inc1")
    scene.store.command("ZREM", scene.store.ns.timers(0), member)

    assert repair(scene) == ["its start"]


@pytest.mark.parametrize("verb", ["finish", "terminate"])
def test_a_lost_outcome_of_a_child_is_told_again(scene: Scene, verb: str) -> None:
    scene.begin("parent")
    scene.turn()
    if verb == "terminate":
        scene.store.append(("far-a", "", "L", lifecycle_command("c1", "terminate", {})))
    else:
        scene.store.raise_event("far-a", "one")
        scene.store.raise_event("far-a", "two")
    while scene.owner.read(100):
        call = scene.owner.draft_all()
        assert call is not None
        scene.owner.settle(call)
        damage.drop_events(scene)

    assert repair(scene) == ["the outcome of child far-a"]
    output = finish(scene)
    assert isinstance(output, list)
    assert output[1] == ("far" if verb == "finish" else "TaskFailedError")


def test_an_instance_that_moved_on_is_left_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.begin("chain")
    damage.drop_entries(scene)
    mending = repair_module._mending

    def late(evidence: Evidence, lost_end: Termination | None) -> Mending:
        made = mending(evidence, lost_end)
        scene.store.command("RPUSH", scene.store.ns.history("a"), "[]")
        return made

    monkeypatch.setattr(repair_module, "_mending", late)

    assert repair_instance(scene.store.link, scene.store.ns, "a") == []
    assert scene.store.messages() == []


@pytest.mark.parametrize("status", ["ended", "unknown"])
def test_what_is_left_over_is_removed(scene: Scene, status: str) -> None:
    if status == "ended":
        scene.begin("approval")
        scene.command("terminate")
        scene.turn()
    ns = scene.store.ns
    scene.store.command("ZADD", ns.timers(0), 10**13, timer_member(QUEUE, "a", 0, "n"))
    scene.store.command("ZADD", ns.timers(0), 10**13, f"R {QUEUE} a 1 n")
    scene.store.command("HSET", ns.tasks(0), "a 1 n", "m", "hb a 1 n", "1", "s a 1 n", "5-5")
    scene.store.command("HSET", ns.cursors(0), "a", "n 5")

    done = repair(scene, quiet=True)

    assert len(done) == 6
    assert scene.store.timers() == {}
    assert scene.store.tasks() == {}


def test_a_member_of_an_index_that_does_not_exist_is_removed(scene: Scene) -> None:
    scene.store.command("ZADD", scene.store.ns.index(0, "RUNNING"), 1, "gone")

    assert repair(scene) == ["its place in an index"]


@pytest.fixture
def wide(redis_url: str) -> Iterator[Store]:
    opened = Store(redis_url, partitions=2)
    yield opened
    opened.close()


def test_children_of_other_partitions_are_put_back(wide: Store) -> None:
    home = wide.ns.partition_of("c")
    away = wide.ns.partition_of("far-c")
    assert home != away
    scene = Scene(wide, home)
    wide.start_in("c", name="parent")
    scene.turn()
    wide.command("DEL", wide.ns.outbox(home))

    assert repair(scene) == ["child far-c"]
    for target, messages in tiny.by_target(wide, tiny.read_outbox(wide, home)):
        assert "applied" in wide.deliver(home, target, *messages)
        ids = [entry_id for entry_id, _ in messages]
        wide.command("XDEL", wide.ns.outbox(home), *ids)
    assert scene.wrong() == []

    other = tiny.Owner(wide, away, "other", tiny.new_registry())
    other.own(by_force=False)
    wide.run_command("far-c", lifecycle_command("c1", "terminate", {}))
    while other.read(10):
        call = other.draft_all()
        assert call is not None
        other.settle(call)
    wide.command("DEL", wide.ns.outbox(away))
    assert repair(scene) == ["the outcome of child far-c"]
    assert ["X", 1] in [event[:2] for _, event in wide.events(partition=home)]


def test_a_child_that_has_not_yet_noted_its_adoption_is_no_stranger(wide: Store) -> None:
    home = wide.ns.partition_of("c")
    away = wide.ns.partition_of("far-c")
    scene = Scene(wide, home)
    wide.start_in("c", name="parent")
    scene.turn()
    for target, messages in tiny.by_target(wide, tiny.read_outbox(wide, home)):
        wide.deliver(home, target, *messages)
        wide.command("XDEL", wide.ns.outbox(home), *[entry_id for entry_id, _ in messages])
    # As if its parent's server had lost the turn that started it, and decided it again.
    child = wide.ns.instance("far-c")
    inc = wide.command("HGET", child, "inc")
    birth = orjson.loads(wide.command("LINDEX", wide.ns.history("far-c"), 0))
    birth[2], birth[6][3] = "lost.1", "lost"
    wide.command("LSET", wide.ns.history("far-c"), 0, orjson.dumps(birth))
    wide.command("HSET", child, "inc", "lost.1")
    assert ["c"] in torn_parents(wide.link, wide.ns, {away})
    wide.command("HSET", child, "adopted", inc)

    assert ["c"] not in torn_parents(wide.link, wide.ns, {away})
    assert repair_instance(wide.link, wide.ns, "c") == []


class Crossing:
    """A parent "c" and its child "far-c" in two partitions, and what is carried between them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.home, self.away = (store.ns.partition_of(one) for one in ("c", "far-c"))
        assert self.home != self.away
        self.scene = Scene(store, self.home)
        self.other = tiny.Owner(store, self.away, "other", tiny.new_registry())
        self.other.own(by_force=False)
        store.start_in("c", name="parent")

    def terminate(self, *, recursive: bool = True) -> None:
        """Terminate the parent, whose turn decides what its child is told."""
        tail = lifecycle_command("c1", "terminate", {"recursive": recursive})
        self.store.run_command("c", tail)
        self.scene.turn()

    def carry(self, *, lost: str = "") -> None:
        """Deliver what the parent has sent; what has `lost` in it gets lost."""
        for target, messages in tiny.by_target(self.store, self.posted()):
            kept = [m for m in messages if not lost or lost not in str(m[1].values)]
            self.store.deliver(self.home, target, *kept)
        self.store.command("DEL", self.store.ns.outbox(self.home))

    def posted(self) -> list[tuple[bytes, Message]]:
        return tiny.read_outbox(self.store, self.home)

    def child_turns(self) -> None:
        while self.other.read(10):
            call = self.other.draft_all()
            assert call is not None
            self.other.settle(call)

    def child_status(self) -> bytes:
        found: bytes = self.store.command("HGET", self.store.ns.instance("far-c"), "status")
        return found

    def forsaken(self) -> list[str]:
        pages = forsaken_children(self.store.link, self.store.ns, range(2))
        return [child for page in pages for child in page]

    def rebirth(self, inc: str, parent: list[object], extra: dict[str, object] | None) -> None:
        """Have the child been born another way."""
        key, child = self.store.ns.history("far-c"), self.store.ns.instance("far-c")
        birth = orjson.loads(self.store.command("LINDEX", key, 0))
        birth[B_INC], birth[B_PARENT], birth[B_EXTRA] = inc, parent, extra
        self.store.command("LSET", key, 0, orjson.dumps(birth))
        self.store.command("HSET", child, "inc", inc)


@pytest.fixture
def crossing(wide: Store) -> Crossing:
    return Crossing(wide)


@pytest.mark.parametrize("begun", [True, False], ids=["open-before", "of-the-last-turn"])
def test_a_child_that_was_not_told_of_its_end_is_told_again(
    crossing: Crossing, begun: bool
) -> None:
    if begun:
        crossing.scene.turn()
        crossing.carry()
        crossing.child_turns()
    crossing.terminate()
    crossing.carry(lost='"terminate"')
    assert crossing.forsaken() == ["far-c"]
    assert crossing.scene.wrong() == ["W5"]

    assert repair(crossing.scene) == ["its end with its parent"]
    crossing.child_turns()

    assert crossing.child_status() == b"TERMINATED"
    assert crossing.forsaken() == []
    assert crossing.scene.wrong() == []


def test_a_child_whose_end_is_on_its_way_is_not_told_again(crossing: Crossing) -> None:
    crossing.scene.turn()
    crossing.carry()
    crossing.terminate()
    seen = [crossing.forsaken(), crossing.scene.wrong()]
    seen += [repair_instance(crossing.store.link, crossing.store.ns, "far-c")]  # in the outbox
    crossing.carry()
    seen += [repair(crossing.scene), crossing.scene.wrong()]  # in the stream
    crossing.child_turns()

    assert seen == [[]] * 5
    assert crossing.child_status() == b"TERMINATED"


def test_a_child_that_was_left_alone_on_purpose_is_not_terminated(crossing: Crossing) -> None:
    crossing.scene.turn()
    crossing.carry()
    crossing.terminate(recursive=False)

    assert (crossing.forsaken(), repair(crossing.scene)) == ([], [])


#: How the child was born, as (incarnation, parent's incarnation, task, extra), and whether the
#: end of its parent is its own; None: as it is.
BIRTHS: dict[str, tuple[str | None, str | None, int, dict[str, object] | None, bool]] = {
    "of a release without lineage": (None, None, 1, None, True),
    "of a turn that is lost": ("lost.1", None, 1, {"pg": 0}, True),
    "of a parent that was decided again": ("lost.1", "lost", 1, {"pg": 0, "ln": ""}, True),
    "of another run of the parent": ("x.1", "other", 1, {"pg": 0, "ln": "x"}, False),
    "of another task": ("x.2", None, 2, {"pg": 0}, False),
    "of another generation": ("x.1", None, 1, {"pg": 1}, False),
    "of a lost turn of an old release": ("x.1", None, 1, None, False),
}


@pytest.mark.parametrize("how", BIRTHS, ids=lambda how: how.replace(" ", "-"))
def test_only_the_child_of_that_very_task_ends_with_its_parent(
    crossing: Crossing, how: str
) -> None:
    crossing.scene.turn()
    crossing.carry()
    crossing.terminate()
    crossing.carry(lost='"terminate"')
    inc, parent_inc, task, extra, ends = BIRTHS[how]
    birth = crossing.store.history("far-c")[0]
    if extra and extra.get("ln") == "":
        extra = {**extra, "ln": birth[B_EXTRA]["ln"]}
    parent = ["c", parent_inc or birth[B_PARENT][1], task, birth[B_PARENT][3]]
    crossing.rebirth(inc or birth[B_INC], parent, extra)

    assert crossing.forsaken() == (["far-c"] if ends else [])


def test_a_history_that_cannot_be_read_ends_no_child(crossing: Crossing) -> None:
    crossing.scene.turn()
    crossing.carry()
    crossing.terminate()
    crossing.carry(lost='"terminate"')
    crossing.store.command("LSET", crossing.store.ns.history("c"), 1, "[]")

    assert crossing.forsaken() == []


def test_a_mended_history_still_replays(scene: Scene) -> None:
    scene.begin("fan_out")
    damage.drop_entries(scene)
    repair(scene)
    finish(scene)

    instance = Instance.load("a", scene.store.history("a"), tiny.new_registry())
    assert instance.status == "COMPLETED"
