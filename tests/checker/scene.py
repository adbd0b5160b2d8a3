"""A small scene for the checker's tests, and ways to damage it."""

from __future__ import annotations

from collections.abc import Callable

from tests.storage import tiny
from tests.storage.kit import QUEUE, Store
from wfq.checker import Report, check_namespace
from wfq.core.ports import Limits
from wfq.registry import Registry
from wfq.storage.instances import lifecycle_command
from wfq.storage.timers import retry_member, timer_member


class Scene:
    """One partition, an owner and a worker that do nothing by themselves."""

    def __init__(self, store: Store, partition: int = 0) -> None:
        self.store = store
        self.owner = tiny.Owner(store, partition, "owner", tiny.new_registry())
        self.owner.own(by_force=False)
        store.make_groups()

    def lose_code(self, grace_ms: int) -> None:
        """From here on the owner has no workflow, and waits `grace_ms` for one who has."""
        registry = Registry(limits=Limits(unknown_grace_ms=grace_ms))
        self.owner = tiny.Owner(self.store, self.owner.partition, "heir", registry)
        self.owner.own(by_force=True)

    def begin(self, program: str, instance_id: str = "a") -> None:
        """Start an instance and run its first turn."""
        self.store.start(instance_id, name=program, payload=None)
        self.turn()

    def turn(self) -> None:
        while self.owner.read(100):
            call = self.owner.draft_all()
            assert call is not None
            assert self.owner.settle(call).stale == ""

    def report(self, *, quiet: bool = False) -> Report:
        return check_namespace(self.store.link, self.store.ns, quiet=quiet)

    def said(self, instance_id: str = "a") -> str:
        report = self.report()
        assert report.violations == []
        return report.explanations[instance_id]

    def wrong(self, *, quiet: bool = False) -> list[str]:
        return [v.invariant for v in self.report(quiet=quiet).violations]

    def nonce(self, instance_id: str = "a") -> str:
        nonce: str = self.store.history(instance_id)[-1][2]
        return nonce

    def command(self, verb: str) -> None:
        self.store.append(("a", "", "L", lifecycle_command(f"c-{verb}", verb, {})))


def drop_entries(scene: Scene) -> None:
    scene.store.command("XTRIM", scene.store.ns.activities(0, QUEUE), "MAXLEN", 0)


def lose_pending(scene: Scene) -> None:
    tiny.take(scene.store, 0, "w", 1)
    scene.store.command(
        "XGROUP", "DELCONSUMER", scene.store.ns.activities(0, QUEUE), "activities", "w"
    )


def drop_message(scene: Scene) -> None:
    (attempt,) = tiny.take(scene.store, 0, "w", 1)
    member = retry_member(QUEUE, "a", attempt.task_id, attempt.nonce)
    drop_entries(scene)
    scene.store.command("ZADD", scene.store.ns.timers(0), 10**13, member)


def drop_timer(scene: Scene) -> None:
    scene.store.command(
        "ZREM", scene.store.ns.timers(0), timer_member(QUEUE, "a", 0, scene.nonce())
    )


def drop_child(scene: Scene) -> None:
    scene.store.purge("far-a", force=True)


def drop_events(scene: Scene) -> None:
    scene.store.command("XTRIM", scene.store.ns.events(0, QUEUE), "MAXLEN", 0)


def field(name: str, value: str) -> Callable[[Scene], None]:
    return lambda scene: scene.store.command("HSET", scene.store.ns.instance("a"), name, value)


def wrong_index(scene: Scene) -> None:
    scene.store.command("ZADD", scene.store.ns.index(0, "FAILED"), 1, "a")


def no_index(scene: Scene) -> None:
    scene.store.command("ZREM", scene.store.ns.index(0, "RUNNING"), "a")


def other_time(scene: Scene) -> None:
    scene.store.command("ZADD", scene.store.ns.index(0, "RUNNING"), 1, "a")


def ttl(scene: Scene) -> None:
    scene.store.command("EXPIRE", scene.store.ns.history("a"), 1000)


def again(scene: Scene) -> None:
    key = scene.store.ns.history("a")
    scene.store.command("RPUSH", key, scene.store.command("LINDEX", key, -1))
