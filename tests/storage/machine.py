"""The model-based test's state machine: every step that clients, workers and faults can take."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.storage import tiny
from tests.storage.kit import QUEUE, Store
from tests.storage.snapshots import dump, restore
from wfq.checker import Report, check_namespace
from wfq.storage import instances, outbox
from wfq.storage.instances import NewInstance, external_event, lifecycle_command
from wfq.storage.partitions import Committed
from wfq.storage.scripts import Call

PARTITIONS = 2
#: Where "parent" runs as "a" or "bb", its child may find its id taken, in the other partition or
#: beside it.
IDS = ("a", "bb", "far-a", "far-bb")
ENDED = ("COMPLETED", "FAILED", "TERMINATED")


@dataclass(frozen=True)
class Pick:
    """The choices of one step; each step uses some of them."""

    step: int
    number: int
    count: int
    flag: bool
    which: int


PICKS = st.builds(
    Pick,
    st.integers(0, 999),
    st.integers(0, 30),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 99),
)


class Engine(RuleBasedStateMachine):
    """Two partitions, two owners each, activity workers; the checker runs after every step.

    The ledger outside: starts that were acknowledged. A rollback takes it back to the snapshot
    too, since a lost second is all that a rollback may cost.

    One rule with weighted steps: Hypothesis leaves out whole rules at random, and without
    starts or turns nothing happens. `favour` makes steps more frequent, for a search that
    knows what it looks for.
    """

    url = ""
    favour: Mapping[str, int] = MappingProxyType({})
    programs: Sequence[str] = tiny.PROGRAMS
    ids: Sequence[str] = IDS

    @initialize(picks=st.lists(PICKS, min_size=2, max_size=4))
    def open(self, picks: list[Pick]) -> None:
        self.store = Store(self.url, partitions=PARTITIONS)
        self.store.command("FLUSHALL")
        self.registry = tiny.new_registry()
        self.owners = [
            tiny.Owner(self.store, partition, name, self.registry)
            for partition in range(PARTITIONS)
            for name in (f"o{partition}", f"p{partition}")
        ]
        self.store.make_groups()
        self.attempts: list[tiny.Attempt] = []
        self.posted: list[tuple[int, int, list[tuple[bytes, outbox.Message]]]] = []
        self.calls: list[Call[Any]] = []
        self.drafts: list[tuple[tiny.Owner, Call[Committed]]] = []
        self.count = 0
        self.started: dict[str, str] = {}
        self.saved: tuple[Any, ...] | None = None
        self.report = Report()
        self.names = [
            name
            for name, (weight, _) in STEPS.items()
            for _ in range(weight * self.favour.get(name, 1))
        ]
        #: What was done, for whoever reads a failure.
        self.log: list[str] = []
        for pick in picks:
            self.start(pick)
        self.check()

    @rule(pick=PICKS)
    def step(self, pick: Pick) -> None:
        name = self.names[pick.step % len(self.names)]
        self.log.append(f"{name} {pick}")
        # A run that has failed is not healed: that could only fail in another way.
        self.broken = True
        STEPS[name][1](self, pick)
        self.check()

    def _id(self, pick: Pick) -> str:
        return self.ids[pick.which % len(self.ids)]

    def teardown(self) -> None:
        if hasattr(self, "store"):
            try:
                if not getattr(self, "broken", False):
                    self.heal()
            finally:
                self.store.close()

    def check(self, *, quiet: bool = False) -> None:
        """Every invariant holds; an exception or a violation ends the run."""
        self.broken = True
        report = check_namespace(self.store.link, self.store.ns, quiet=quiet, before=self.report)
        assert report.ok, "\n".join([*self.log, str(report)])
        self.report = report
        for instance_id in report.traces:
            self._results_are_its_own(instance_id)
        self.broken = False

    def _results_are_its_own(self, instance_id: str) -> None:
        birth, *turns = self.store.history(instance_id)
        run = f"{birth[2]}.{birth[3]}"
        kinds = {a[1]: a[0] for t in turns for a in t[4] if a[0] in "ATEW"}
        for turn in turns:
            for event in turn[3]:
                if event[0] == "C" and kinds[event[1]] == "A":
                    assert event[3] == f"{instance_id}:{run}:{event[1]}", instance_id

    # --- clients

    def _partition(self, instance_id: str) -> int:
        return self.store.ns.partition_of(instance_id)

    def start(self, pick: Pick) -> None:
        self.count += 1
        program = self.programs[(pick.which // 7) % len(self.programs)]
        item = NewInstance(
            self._id(pick), f"i{self.count}", QUEUE, program, None,
            due_ms=10**13 if pick.number % 5 == 0 else None, policy="replace",
        )  # fmt: skip
        call = instances.start(self.store.ns, self._partition(self._id(pick)), [item])
        self.calls.append(call)
        self._start(call)

    def _start(self, call: Call[Any]) -> None:
        (reply,) = self.store.run(call)
        if reply.outcome == "started":
            self.started[str(call.args[4])] = reply.incarnation

    def raise_event(self, pick: Pick) -> None:
        name = "Go" if pick.flag else "go"
        tail = external_event(f"e{pick.number % 6}", name, b"[]")
        self._append(self._id(pick), "E", tail)

    def command(self, pick: Pick) -> None:
        self.count += 1
        verb = ("suspend", "resume", "resume", "terminate")[pick.number % 4]
        tail = lifecycle_command(f"c{self.count}", verb, {"recursive": pick.flag})
        self._append(self._id(pick), "L", tail)

    def _append(self, instance_id: str, kind: str, tail: bytes) -> None:
        items = [(instance_id, "", kind, tail)]
        call: Call[Any] = instances.append(self.store.ns, self._partition(instance_id), items, 100)
        self.calls.append(call)
        self.store.run(call)

    def send_again(self, pick: Pick) -> None:
        """A reply was lost: the client sends one of its last calls once more."""
        call = self.calls[-1 - pick.number % min(len(self.calls), 3)]
        if call.script.name == "start":
            self._start(call)
        else:
            self.store.run(call)

    def purge(self, pick: Pick) -> None:
        if self.store.purge(self._id(pick)) == "purged":
            self.started.pop(self._id(pick), None)

    # --- orchestrators

    def _owner(self, pick: Pick) -> tiny.Owner:
        """Some owner; one that has lost its lease asks for it first."""
        owner = self.owners[pick.number % len(self.owners)]
        if not owner.token:
            owner.own(by_force=False)
        return owner

    def take_over(self, pick: Pick) -> None:
        """An owner takes its partition: the other was paused, and becomes a zombie."""
        self.owners[pick.number % len(self.owners)].own(by_force=True)

    def turn(self, pick: Pick) -> None:
        owner = self._owner(pick)
        owner.read(pick.count)
        call = owner.draft_all()
        if call is not None:
            owner.settle(call)

    def advance(self, pick: Pick) -> None:
        """Everybody does some of what there is to do."""
        for owner in self.owners:
            if not owner.token:
                owner.own(by_force=False)
            owner.read(10)
            call = owner.draft_all()
            if call is not None:
                owner.settle(call)
        for partition in range(PARTITIONS):
            self.attempts += tiny.take(self.store, partition, "w0", pick.count)
            for attempt in self.attempts[-pick.count :] if pick.flag else ():
                self.store.complete(attempt.outcome("done"), partition=attempt.partition)
            self._forward(partition, trim=True)

    def read(self, pick: Pick) -> None:
        """An owner has a batch in hand, and has not committed it."""
        self._owner(pick).read(pick.count)

    def draft(self, pick: Pick) -> None:
        """An owner has run its turns; the commit is on its way."""
        owner = self._owner(pick)
        owner.read(pick.count)
        call = owner.draft_all()
        if call is not None:
            self.drafts.append((owner, call))

    def commit(self, pick: Pick) -> None:
        """A commit that was on its way arrives."""
        if self.drafts:
            owner, call = self.drafts.pop(pick.number % len(self.drafts))
            owner.settle(call)

    def turn_of_one(self, pick: Pick) -> None:
        """Suspect mode: one instance of the batch is committed alone."""
        owner = self._owner(pick)
        owner.read(pick.count)
        call = owner.draft_one()
        if call is not None:
            owner.settle(call)

    def lose_a_commit(self, pick: Pick) -> None:
        """A commit's reply is lost, or the commit itself: its owner forgets everything."""
        owner = self._owner(pick)
        owner.read(pick.count)
        call = owner.draft_all()
        if call is not None:
            if pick.flag:
                self.store.run(call)
            owner.abandon()
            owner.token = ""

    def commit_again(self, pick: Pick) -> None:
        """A duplicate of the last commit arrives late."""
        call = self.owners[pick.number % len(self.owners)].sent
        if call is not None:
            before = self.store.image()
            reply: Committed = self.store.run(call)
            assert reply.stale or self.store.image() == before, reply

    def die(self, pick: Pick) -> None:
        """An owner dies between two calls, and another comes in its place."""
        index = pick.number % len(self.owners)
        old = self.owners[index]
        fresh = tiny.Owner(self.store, old.partition, f"{old.name}x", self.registry)
        self.owners[index] = fresh
        if pick.flag:
            fresh.own(by_force=True)

    # --- activity workers

    def take(self, pick: Pick) -> None:
        partition, worker = pick.number % PARTITIONS, f"w{pick.number % 3}"
        self.attempts += tiny.take(self.store, partition, worker, pick.count)

    def claim(self, pick: Pick) -> None:
        """A worker takes over; whoever held the attempts before goes on as a zombie."""
        partition, worker = pick.number % PARTITIONS, f"w{pick.number % 3}"
        self.attempts += tiny.claim(self.store, partition, worker)

    def done(self, pick: Pick) -> None:
        self._report(pick, "done")

    def failed(self, pick: Pick) -> None:
        self._report(pick, "failed")

    def dead(self, pick: Pick) -> None:
        self._report(pick, "dead")

    def hand_back(self, pick: Pick) -> None:
        self._report(pick, "back")

    def _report(self, pick: Pick, kind: str) -> None:
        """An attempt ends; its holder may be a zombie, or report twice."""
        if self.attempts:
            attempt = self.attempts[pick.number % len(self.attempts)]
            self.store.complete(attempt.outcome(kind), partition=attempt.partition)
            if pick.flag:
                self.attempts.remove(attempt)

    # --- schedulers

    def fire(self, pick: Pick) -> None:
        """Timers fire, those that are due; or time passes, and all are."""
        if pick.flag:
            tiny.make_due(self.store)
        for partition in range(PARTITIONS):
            self.store.fire(pick.count, partition)

    def forward(self, pick: Pick) -> None:
        """A carrier brings messages over; it may die before it removes them."""
        self._forward(pick.number % PARTITIONS, trim=pick.flag)

    def _forward(self, source: int, *, trim: bool) -> None:
        for target, messages in tiny.by_target(self.store, tiny.read_outbox(self.store, source)):
            self.store.deliver(source, target, *messages)
            self.posted.append((source, target, messages))
            if trim:
                ids = [entry_id for entry_id, _ in messages]
                self.store.command(*outbox.trim_command(self.store.ns, source, ids))

    def forward_again(self, pick: Pick) -> None:
        """A carrier that was paused delivers what another has delivered long ago."""
        if self.posted:
            source, target, messages = self.posted[-1 - pick.number % len(self.posted)]
            self.store.deliver(source, target, *messages)

    # --- faults

    def deliver_twice(self, pick: Pick) -> None:
        """A completion, firing, start or command is in the stream once more."""
        partition = pick.number % PARTITIONS
        rows = self.store._raw("XRANGE", self.store.ns.events(partition, QUEUE), "-", "+")
        pairs = [
            fields[n : n + 2]
            for _, fields in rows
            for n in range(0, len(fields), 2)
            if not fields[n + 1].startswith(b'["E"')
        ]
        if pairs:
            pair = pairs[pick.number % len(pairs)]
            self.store.command("XADD", self.store.ns.events(partition, QUEUE), "*", *pair)

    def execute_twice(self, pick: Pick) -> None:
        """An activity entry is in the stream once more."""
        partition = pick.number % PARTITIONS
        rows = self.store._raw("XRANGE", self.store.ns.activities(partition, QUEUE), "-", "+")
        if rows:
            fields = rows[pick.number % len(rows)][1]
            self.store.command("XADD", self.store.ns.activities(partition, QUEUE), "*", *fields)

    def save(self, pick: Pick) -> None:
        self.saved = (dump(self.store), dict(self.started), copy.copy(self.report))

    def roll_back(self, pick: Pick) -> None:
        """The server comes back as it was. Processes notice it by their connections, or not."""
        if self.saved is None:
            return
        content, self.started, self.report = self.saved
        restore(self.store, content)
        self.saved = None
        # What a carrier read in the lost future is gone with its connection.
        self.posted.clear()
        for owner in self.owners:
            owner.sent = None  # it would be written for the first time now
        if pick.flag:
            self.drafts.clear()
            for owner in self.owners:
                owner.abandon()
                owner.token = ""

    # --- the end

    def heal(self) -> None:
        """No more faults: everything that was begun comes to its end."""
        owners = [tiny.Owner(self.store, p, f"last{p}", self.registry) for p in range(PARTITIONS)]
        for owner in owners:
            owner.own(by_force=True)
        for _ in range(60):
            self.help_along(owners)
            self.check()
            if all(trace.status in ENDED for trace in self.report.traces.values()):
                break
        self.help_along(owners)
        self.check(quiet=True)
        assert self.report.explanations == {}
        for instance_id, inc in self.started.items():
            trace = self.report.traces.get(instance_id)
            assert trace is not None, f"{instance_id} was started and is gone"
            assert trace.inc == inc, f"{instance_id} was started as {inc}"

    def help_along(self, owners: list[tiny.Owner]) -> None:
        for owner in owners:
            while owner.read(100):
                call = owner.draft_all()
                assert call is not None
                assert owner.settle(call).stale == ""
        for partition in range(PARTITIONS):
            held = tiny.take(self.store, partition, "last", 100)
            held += tiny.claim(self.store, partition, "last")
            for attempt in held:
                self.store.complete(attempt.outcome("done"), partition=partition)
            self._forward(partition, trim=True)
        tiny.make_due(self.store)
        for partition in range(PARTITIONS):
            while self.store.fire(100, partition).fired:
                pass
        for instance_id in self.report.explanations:
            self.count += 1
            self._append(instance_id, "L", lifecycle_command(f"c{self.count}", "resume", {}))
            self._append(instance_id, "E", external_event(f"last{self.count}", "go", b"1"))


#: How often each step is taken, relative to the others.
STEPS: dict[str, tuple[int, Callable[[Engine, Pick], None]]] = {
    "start": (4, Engine.start),
    "raise_event": (3, Engine.raise_event),
    "command": (3, Engine.command),
    "send_again": (2, Engine.send_again),
    "purge": (2, Engine.purge),
    "take_over": (2, Engine.take_over),
    "turn": (4, Engine.turn),
    "advance": (5, Engine.advance),
    "read": (1, Engine.read),
    "draft": (2, Engine.draft),
    "commit": (2, Engine.commit),
    "turn_of_one": (3, Engine.turn_of_one),
    "lose_a_commit": (2, Engine.lose_a_commit),
    "commit_again": (1, Engine.commit_again),
    "die": (2, Engine.die),
    "take": (2, Engine.take),
    "claim": (1, Engine.claim),
    "done": (4, Engine.done),
    "failed": (3, Engine.failed),
    "dead": (1, Engine.dead),
    "hand_back": (1, Engine.hand_back),
    "fire": (3, Engine.fire),
    "forward": (2, Engine.forward),
    "forward_again": (1, Engine.forward_again),
    "deliver_twice": (2, Engine.deliver_twice),
    "execute_twice": (1, Engine.execute_twice),
    "save": (1, Engine.save),
    "roll_back": (2, Engine.roll_back),
}
