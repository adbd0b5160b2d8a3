"""How orchestrators deal partitions: what was adopted from a late member goes back to it."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from wfq.storage import activities, membership
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq_workers.orchestrating import ownership
from wfq_workers.orchestrating.engine import OtherQueues, ShortActivities
from wfq_workers.orchestrating.ownership import ADOPTED_S, ORPHAN_MS, REPORT_S, Ownership

LEASE_MS = 5_000


class Member:
    """An orchestrator whose lanes take at once whatever they want."""

    def __init__(self, link: SyncLink, namespace: Namespace, name: str, wanted: range) -> None:
        self.link, self.namespace = link, namespace
        self.lane = SimpleNamespace(wanted=frozenset(wanted), owned={}, takes=lambda _: True)
        self.short = ShortActivities("default")
        engine: Any = SimpleNamespace(
            worker_id=name, namespace=namespace, queue="default", lease_ms=LEASE_MS,
            clock=SimpleNamespace(set=lambda _: None), short=self.short,
            other_queues=OtherQueues(),
            now_ms=lambda: membership.server_now_ms(link),
        )  # fmt: skip
        lanes: Any = [self.lane]
        self.ownership = Ownership(engine, lanes, lambda: None)
        self.renew()

    @property
    def count(self) -> int:
        return len(self.lane.owned)

    def renew(self) -> None:
        """Take what is wanted, give up what is not, and renew the leases."""
        for number in set(self.lane.owned) - self.lane.wanted:
            self.link.command("DEL", self.namespace.lease(number, "default"))
        self.lane.owned = dict.fromkeys(self.lane.wanted)
        for number in self.lane.owned:
            self.lease(number, LEASE_MS)

    def lease(self, number: int, left_ms: int) -> None:
        expires = membership.server_now_ms(self.link) + left_ms
        self.link.command("HSET", self.namespace.lease(number, "default"), "expires", expires)

    def tick(self) -> None:
        self.ownership.tick(self.link)
        self.renew()


class Clock:
    """Monotonic time that the test moves."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


def test_what_was_adopted_from_a_late_member_goes_back(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(ownership, "time", clock)
    link = SyncLink(valkey_url)
    try:
        namespace = membership.open_namespace(link, "ownership")
        first = Member(link, namespace, "a", range(8))
        second = Member(link, namespace, "b", range(8, 16))

        def both() -> None:
            clock.now += REPORT_S
            first.tick()
            second.tick()

        both()
        both()
        assert (first.count, second.count) == (8, 8)
        # The first was late with one lease; the second looks just then.
        first.lane.wanted -= {7}
        del first.lane.owned[7]
        first.lease(7, -2 * ORPHAN_MS)
        clock.now += REPORT_S
        second.tick()
        assert (first.count, second.count) == (7, 9), "it waits for the member list to tell"
        first.tick()
        assert (first.count, second.count) == (7, 9)

        for _ in range(int(ADOPTED_S / REPORT_S) + 3):
            both()
        assert (first.count, second.count) == (8, 8)
        assert not first.lane.wanted & second.lane.wanted
    finally:
        link.close()


def test_an_orchestrator_that_has_run_nothing_knows_the_short_activities(valkey_url: str) -> None:
    link = SyncLink(valkey_url)
    try:
        namespace = membership.open_namespace(link, "short-known")
        now_ms = membership.server_now_ms(link)
        for command in activities.announce_commands(
            namespace, "default", short=["add"], long=[], now_ms=now_ms
        ):
            link.command(*command)
        member = Member(link, namespace, "a", range(16))
        member.tick()
        assert member.short.has("default", "add")
        assert not member.short.has("default", "multiply")
        # Of another queue it is known once it was asked about.
        assert not member.short.has("elsewhere", "add")
    finally:
        link.close()
