"""A lane's connection: calls and plain commands that give up control while they wait."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from typing import Any

from wfq.errors import StaleLease
from wfq.storage.link import ServerReply, Wire
from wfq.storage.scripts import Argument, Call
from wfq_workers.orchestrating.engine import Engine

#: Seconds beyond the block after which a silent connection is given up.
SILENCE_S = 5.0

#: What a lane yields: when to go on at the latest (monotonic seconds); True = a reply is due.
Wait = tuple[float, bool]
Steps = Generator[Wait, None, None]


class LaneConnection:
    """One raw connection at a time. `stopping` ends every pause."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.stopping = False
        self.wanted: frozenset[int] = frozenset()
        self.wire: Wire | None = None

    def _calls(self, calls: Iterable[Call[Any]]) -> Generator[Wait, None, list[Any]]:
        """Run calls on the lane's own connection, in one round trip where scripts are known."""
        calls = list(calls)
        wire = self.wire
        if not calls or wire is None:
            return []
        lessons = self._engine.lessons(wire)
        wire.send([*lessons, *(call.command() for call in calls)])
        for _ in lessons:
            yield from self._reply()
        self._engine.taught(wire)
        replies, missing = [], False
        for call in calls:
            try:
                reply = yield from self._reply()
                replies.append(call.parse(reply))
            except ServerReply as exc:
                if not exc.missing_script:
                    raise
                missing = True
        if missing:
            self._engine.forget_scripts()
            raise StaleLease("the server forgot its scripts")
        return replies

    def _plain(self, command: tuple[Argument, ...]) -> Generator[Wait, None, Any]:
        assert self.wire is not None
        self.wire.send([command])
        reply = yield from self._reply()
        return reply

    def _reply(self) -> Generator[Wait, None, Any]:
        wire = self.wire
        assert wire is not None
        deadline = time.monotonic() + SILENCE_S * 2
        while not wire.has_reply():
            if time.monotonic() > deadline:
                raise StaleLease("no answer from the server")
            yield deadline, True
        return wire.receive()

    def _pause(self, seconds: float) -> Steps:
        until = time.monotonic() + seconds
        wanted = self.wanted
        while time.monotonic() < until and not self.stopping and self.wanted == wanted:
            yield until, False

    def _close_wire(self) -> None:
        if self.wire is not None:
            self.wire.close()
            self.wire = None
