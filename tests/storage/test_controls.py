"""Negative controls: an engine with one guard taken out must be found out.

A search that finds nothing proves something only if it does find what is broken on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

import pytest

from tests.servers import command_client
from tests.storage import tiny
from tests.storage.kit import QUEUE
from tests.storage.machine import IDS, Engine, Pick
from tests.storage.test_model import explore
from wfq.core import intake
from wfq.core.intake import Intake
from wfq.core.opentask import OpenTask
from wfq.errors import NonDeterministicWorkflow
from wfq.storage import scripts
from wfq.storage.scripts import Script

#: A search that must find something takes as long as it takes on a slow machine.
pytestmark = pytest.mark.timeout(240)

#: Several times what each control needs.
EXAMPLES = 200


def mutated(script: Script, *changes: tuple[str, str]) -> Script:
    """A script with pieces of its text replaced; each must be there."""
    body = script.body
    for old, new in changes:
        assert old in body, f"{script.name} has no {old!r} any more: mend this control"
        body = body.replace(old, new)
    return Script(script.name, body, sha1(body.encode(), usedforsecurity=False).hexdigest())


def assert_found_out(
    url: str,
    *programs: str,
    favour: Sequence[str] = (),
    ids: Sequence[str] = IDS,
) -> None:
    """The search must fail; it is told which programs and steps are worth trying."""

    class Biased(Engine):
        pass

    Biased.programs = programs or tiny.PROGRAMS
    Biased.favour = dict.fromkeys(favour, 5)
    Biased.ids = ids
    # A history that nobody can replay any more is a find, too.
    with pytest.raises((AssertionError, NonDeterministicWorkflow)):
        explore(url, Biased, examples=EXAMPLES)


@dataclass(frozen=True)
class Broken:
    """A script, what is replaced in it, and where to look for the damage."""

    script: str
    changes: Sequence[tuple[str, str]]
    programs: Sequence[str] = ()
    favour: Sequence[str] = ()


FENCES = (
    ("if held[1] ~= token then return {'stale', 'token'} end", ""),
    ("if held[2] ~= before then return {'stale', 'position'} end", ""),
    ("if redis.call('XDEL', stream, last) == 0 then return {'stale', 'entry'} end", ""),
)
TURNS = ("return {'stale', 'turns'}", "")
TRIM = "redis.call('XTRIM', stream, 'MINID', keep)"
BROKEN_SCRIPTS = {
    "a commit has no fence": Broken(
        "COMMIT", [*FENCES, TURNS], favour=("take_over", "draft", "commit")
    ),
    "a commit does not look at the token": Broken(
        "COMMIT", [*FENCES[:2], TURNS], favour=("take_over", "draft", "commit")
    ),
    "a commit does not trim the stream": Broken("COMMIT", [FENCES[2], (TRIM, "")]),
    "a commit trims what was not read": Broken(
        "COMMIT", [(TRIM, "redis.call('XTRIM', stream, 'MAXLEN', 0)")], favour=("turn",)
    ),
    "a commit adds no timers": Broken("COMMIT", [("flush('ZADD', timers, due)", "")]),
    "a commit leaves the timers of an ended run": Broken(
        "COMMIT", [("flush('ZREM', timers, undue)", "local _ = undue")], ("approval",)
    ),
    "a taken child id is not told": Broken(
        "COMMIT", [("send(own, id, taken)", "local _ = own")], ("parent", "approval"), ("start",)
    ),
    "an outcome is acknowledged and not queued": Broken(
        "COMPLETE", [("redis.call('XADD', prefix .. 'events:'", "tostring(prefix .. 'events:'")]
    ),
    "completing trims what others hold": Broken(
        "COMPLETE",
        [
            (
                "redis.call('XTRIM', stream, 'MINID', pending[2])",
                "redis.call('XTRIM', stream, 'MAXLEN', 0)",
            )
        ],
    ),
    "a retry is not scheduled": Broken(
        "COMPLETE",
        [
            ("redis.call('ZADD', timers, string.format", "tostring(string.format"),
            ("if earliest then", "if false then"),  # what would look for that timer
        ],
        ("fan_out",),
        ("failed",),
    ),
    "a timer fires into nowhere": Broken("FIRE", [("send(queue, id, rest)", "local _ = rest")]),
    "a due retry is dropped": Broken(
        "FIRE",
        [("redis.call('XADD', prefix .. 'activities:' .. queue, '*', id, message)", "")],
        ("fan_out",),
        ("failed", "take", "fire"),
    ),
    "a start takes a live id": Broken(
        "START", [("gone = status == 'COMPLETED' or", "gone = true or")]
    ),
    "a start queues no event": Broken(
        "START", [("redis.call('XADD', prefix .. 'events:'", "tostring(prefix .. 'events:'")]
    ),
    "a taken child id of another partition is not told": Broken(
        "DELIVER",
        [("redis.call('XADD', prefix .. 'outbox', '*', 'm', ARGV[at + 10])", "")],
        ("parent", "approval"),
        ("start", "advance"),
    ),
    "an event is not counted in the inbox": Broken(
        "APPEND", [("redis.call('HINCRBY', prefix .. 'instance:' .. id, 'inbox', 1)", "")]
    ),
    "an owner reads from where the last one stopped": Broken(
        "ACQUIRE",
        [("'CREATE', stream, token, '0', 'MKSTREAM'", "'CREATE', stream, token, '$', 'MKSTREAM'")],
    ),
}


broken_scripts = pytest.mark.parametrize(
    "broken", BROKEN_SCRIPTS.values(), ids=[what.replace(" ", "-") for what in BROKEN_SCRIPTS]
)


@broken_scripts
def test_a_broken_script_compiles(valkey_url: str, broken: Broken) -> None:
    """One that does not would prove nothing."""
    script = mutated(getattr(scripts, broken.script), *broken.changes)

    with command_client(valkey_url) as client:
        assert client.script_load(script.body) == script.sha


@pytest.mark.long
@broken_scripts
def test_a_broken_script_is_found_out(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch, broken: Broken
) -> None:
    script = mutated(getattr(scripts, broken.script), *broken.changes)
    monkeypatch.setattr(scripts, broken.script, script)

    assert_found_out(valkey_url, *broken.programs, favour=broken.favour)


@pytest.mark.long
def test_ignoring_nonces_is_found_out(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A completion of a lost future, or of an earlier generation, resolves today's task."""
    takes = Intake._on_completion

    def on_completion(self: Intake, event: list[Any]) -> None:
        opened: OpenTask | None = self.open.get(event[1])
        takes(self, event if opened is None else [*event[:2], opened.nonce, *event[3:]])

    for code in "CX":
        monkeypatch.setitem(intake._HANDLERS, code, on_completion)

    assert_found_out(valkey_url, "monitor", favour=("done", "advance"))


@pytest.mark.long
def test_ignoring_the_consumed_position_is_found_out(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            pass

    begins = tiny.Owner.__init__

    def init(self: tiny.Owner, *args: Any) -> None:
        begins(self, *args)
        self.consumed = Forgetful()

    monkeypatch.setattr(tiny.Owner, "__init__", init)

    assert_found_out(
        valkey_url, "approval", favour=("raise_event", "turn_of_one", "die", "take_over")
    )


@pytest.mark.long
def test_acknowledging_before_the_commit_is_found_out(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = tiny.Owner.read

    def read(self: tiny.Owner, count: int) -> bool:
        had = self.held
        found = reads(self, count)
        if self.held is not None and self.held is not had:
            for entry_id, _ in self.held.entries[:-1]:
                key = self.store.ns.events(self.partition, QUEUE)
                self.store.command("XDEL", key, entry_id)
        return found

    monkeypatch.setattr(tiny.Owner, "read", read)

    assert_found_out(valkey_url, favour=("read", "die"))


def test_going_on_after_a_takeover_is_found_out(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner keeps its live instances though another has held the partition.

    The number of turns gives it away, so that guard is taken out too.
    """
    owns = tiny.Owner.own

    def own(self: tiny.Owner, *, by_force: bool) -> bool:
        cache = dict(self.cache)
        taken = owns(self, by_force=by_force)
        self.cache = cache
        return taken

    monkeypatch.setattr(tiny.Owner, "own", own)
    monkeypatch.setattr(scripts, "COMMIT", mutated(scripts.COMMIT, TURNS))

    # Too many steps in the right order for a random search: they are told.
    class Told(Engine):
        url = valkey_url
        programs = ("approval",)
        ids = ("a",)

    machine = Told()
    machine.open([Pick(0, 1, 1, False, 0)])
    first, second = (2 * machine.store.ns.partition_of("a") + n for n in (0, 1))

    def steps() -> None:
        for number, owner in enumerate((first, second, first)):
            machine.take_over(Pick(0, owner, 1, False, 0))
            machine.turn(Pick(0, owner, 4, False, 0))
            machine.check()
            machine.raise_event(Pick(0, number, 1, False, 0))

    try:
        with pytest.raises(AssertionError, match="H2"):
            steps()
    finally:
        machine.store.close()
