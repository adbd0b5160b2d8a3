"""Negative controls: an engine with one guard taken out must be found out.

A search that finds nothing proves something only if it does find what is broken on purpose.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Any

import pytest

from tests.storage import tiny
from tests.storage.machine import Engine
from tests.storage.test_model import explore
from wfq.core import intake
from wfq.core.intake import Intake
from wfq.core.opentask import OpenTask
from wfq.storage import scripts
from wfq.storage.scripts import Script

#: Enough for each of them many times over.
EXAMPLES = 150


def mutated(script: Script, *changes: tuple[str, str]) -> Script:
    """A script with pieces of its text replaced; each must be there."""
    body = script.body
    for old, new in changes:
        assert old in body, f"{script.name} has no {old!r} any more: mend this control"
        body = body.replace(old, new)
    return Script(script.name, body, sha1(body.encode(), usedforsecurity=False).hexdigest())


def assert_found_out(url: str, machine: type[Engine] = Engine) -> None:
    with pytest.raises(AssertionError):
        explore(url, machine, examples=EXAMPLES)


FENCES = (
    ("if held[1] ~= token then return {'stale', 'token'} end", ""),
    ("if held[2] ~= before then return {'stale', 'position'} end", ""),
    ("if redis.call('XDEL', stream, last) == 0 then return {'stale', 'entry'} end", ""),
)
TURNS = ("return {'stale', 'turns'}", "")
BROKEN_SCRIPTS = {
    "a commit has no fence": ("COMMIT", [*FENCES, TURNS]),
    "a commit does not look at the token": ("COMMIT", [FENCES[0], FENCES[1], TURNS]),
    "a commit does not trim the stream": (
        "COMMIT",
        [FENCES[2], ("redis.call('XTRIM', stream, 'MINID', keep)", "")],
    ),
    "a commit trims one entry too many": (
        "COMMIT",
        [
            (
                "redis.call('XTRIM', stream, 'MINID', keep)",
                "redis.call('XTRIM', stream, 'MAXLEN', 0)",
            )
        ],
    ),
    "a commit adds no timers": ("COMMIT", [("flush('ZADD', timers, due)", "")]),
    "a commit leaves the timers of an ended run": (
        "COMMIT",
        [("flush('ZREM', timers, undue)", "local _ = undue")],
    ),
    "a taken child id is not told": ("COMMIT", [("send(own, id, taken)", "local _ = own")]),
    "removals are not counted": ("PURGE", [("redis.call('INCR', prefix .. 'removals')", "")]),
    "an outcome is acknowledged and not queued": (
        "COMPLETE",
        [("redis.call('XADD', prefix .. 'events:' .. target, '*'", "local _ = ('' .. target, '*'")],
    ),
    "completing trims what others hold": (
        "COMPLETE",
        [
            (
                "redis.call('XTRIM', stream, 'MINID', pending[2])",
                "redis.call('XTRIM', stream, 'MAXLEN', 0)",
            )
        ],
    ),
    "a retry is not scheduled": (
        "COMPLETE",
        [("redis.call('ZADD', timers, string.format", "local _ = (string.format")],
    ),
    "a timer fires into nowhere": ("FIRE", [("send(queue, id, rest)", "local _ = rest")]),
    "a due retry is dropped": (
        "FIRE",
        [("redis.call('XADD', prefix .. 'activities:' .. queue, '*', id, message)", "")],
    ),
    "a start takes a live id": ("START", [("gone = status == 'COMPLETED' or", "gone = true or")]),
    "a start queues no event": (
        "START",
        [
            (
                "redis.call('XADD', prefix .. 'events:' .. queue, '*', unpack(fields",
                "local _ = (unpack(fields",
            )
        ],
    ),
    "a taken child id of another partition is not told": (
        "DELIVER",
        [("redis.call('XADD', prefix .. 'outbox', '*', 'm', ARGV[at + 9])", "")],
    ),
    "an event is not counted in the inbox": (
        "APPEND",
        [("redis.call('HINCRBY', prefix .. 'instance:' .. id, 'inbox', 1)", "")],
    ),
    "an owner reads from where the last one stopped": (
        "ACQUIRE",
        [("'CREATE', stream, token, '0', 'MKSTREAM'", "'CREATE', stream, token, '$', 'MKSTREAM'")],
    ),
}


@pytest.mark.parametrize("what", BROKEN_SCRIPTS, ids=lambda what: what.replace(" ", "-"))
def test_a_broken_script_is_found_out(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name, changes = BROKEN_SCRIPTS[what]
    monkeypatch.setattr(scripts, name, mutated(getattr(scripts, name), *changes))

    assert_found_out(valkey_url)


def test_ignoring_nonces_is_found_out(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A completion of a lost future, or of an earlier generation, resolves today's task."""
    takes = Intake._on_completion

    def on_completion(self: Intake, event: list[Any]) -> None:
        opened: OpenTask | None = self.open.get(event[1])
        takes(self, event if opened is None else [*event[:2], opened.nonce, *event[3:]])

    for code in "CX":
        monkeypatch.setitem(intake._HANDLERS, code, on_completion)

    assert_found_out(valkey_url)


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

    assert_found_out(valkey_url)


def test_acknowledging_before_the_commit_is_found_out(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = tiny.Owner.read

    def read(self: tiny.Owner, count: int) -> bool:
        had = self.held
        found = reads(self, count)
        if self.held is not None and self.held is not had:
            for entry_id, _ in self.held.entries[:-1]:
                self.store.command(
                    "XDEL", self.store.ns.events(self.partition, "default"), entry_id
                )
        return found

    monkeypatch.setattr(tiny.Owner, "read", read)

    assert_found_out(valkey_url)


def test_going_on_after_a_takeover_is_found_out(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner keeps its live instances though another has held the partition."""
    owns = tiny.Owner.own

    def own(self: tiny.Owner, *, by_force: bool) -> bool:
        cache = dict(self.cache)
        taken = owns(self, by_force=by_force)
        self.cache = cache
        return taken

    monkeypatch.setattr(tiny.Owner, "own", own)

    assert_found_out(valkey_url)
