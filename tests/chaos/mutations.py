"""Deliberate defects: with any of them, the campaign must find violations.

Each takes one of the protections out of wfq, in a worker process of the campaign alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from hashlib import sha1
from typing import Any

from wfq.core import events as ev
from wfq.core.events import Event, Record
from wfq.core.intake import _HANDLERS, Intake
from wfq.storage import scripts
from wfq.storage.scripts import Argument, Script
from wfq_workers.orchestrating.batch import Batch
from wfq_workers.orchestrating.connection import Wait
from wfq_workers.orchestrating.lane import Lane

#: The checks of commit.lua that make the fence, as they stand there.
_TOKEN = "if held[1] ~= token then return {'stale', 'token'} end"
_POSITION = "if held[2] ~= before then return {'stale', 'position'} end"
_ENTRY = "if redis.call('XDEL', stream, last) == 0 then return {'stale', 'entry'} end"
_TURNS = "return {'stale', 'turns'}"


def _without(script: Script, changes: Mapping[str, str]) -> Script:
    body = script.body
    for old, new in changes.items():
        # A control that changes nothing would prove nothing.
        assert body.count(old) == 1, f"{script.name} has no {old!r} any more"
        body = body.replace(old, new)
    return Script(script.name, body, sha1(body.encode(), usedforsecurity=False).hexdigest())


def no_fence() -> None:
    """Whoever thinks that it owns a partition may commit."""
    unfenced = {
        _TOKEN: "",
        _POSITION: "",
        _ENTRY: "redis.call('XDEL', stream, last)",
        _TURNS: "local _ = 0",
    }
    scripts.COMMIT = _without(scripts.COMMIT, unfenced)


def no_nonces() -> None:
    """A task takes a completion that was meant for another run of the instance."""
    handler = _HANDLERS[ev.COMPLETED]

    def forgiving(self: Intake, event: Event) -> None:
        opened = self.open.get(event[1])
        if opened is not None and opened.kind in "AW":
            opened.nonce, kept = event[2], opened.nonce
            try:
                handler(self, event)
            finally:
                opened.nonce = kept
        else:
            handler(self, event)

    _HANDLERS[ev.COMPLETED] = _HANDLERS[ev.FAILED] = forgiving


def early_ack() -> None:
    """Entries leave the stream when they are read, not when their turns are committed."""
    scripts.COMMIT = _without(scripts.COMMIT, {_ENTRY: "redis.call('XDEL', stream, last)"})
    blocked_read = Lane._blocked_read

    def read_and_drop(self: Lane, read: tuple[Argument, ...]) -> Generator[Wait, None, Any]:
        reply = yield from blocked_read(self, read)
        assert self.wire is not None
        for key, entries in reply or ():
            self.wire.send([("XDEL", key, *(entry_id for entry_id, _ in entries))])
            self.wire.receive()
        return reply

    Lane._blocked_read = read_and_drop  # type: ignore[method-assign]


def no_position() -> None:
    """The next owner does not look how far a partial commit of the one before has come."""

    def forget(self: Batch, instance_id: str, last: Record) -> None:
        pass

    Batch._note_consumed = forget  # type: ignore[method-assign]


MUTATIONS: Mapping[str, Callable[[], None]] = {
    "no fence": no_fence,
    "no nonces": no_nonces,
    "no position": no_position,
    "early ack": early_ack,
}
