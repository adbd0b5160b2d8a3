"""The limit: a recorded trace replayed by a client that does nothing but pipeline.

What blocked when it was recorded is put where it was answered, as a read that does not block:
the place is known, because the order of execution and all that scripts added is recorded.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import hiredis

from benchmarks.server import RedisMeter, RedisUse, start_server
from benchmarks.trace import BEGIN, END, Executed, fix_entry_ids
from tests.servers import command_client
from wfq.storage import scripts

Words = list[bytes]

#: Commands that carry no work, or are the harness's own.
_IDLE = frozenset(
    (
        b"AUTH", b"CLIENT", b"CONFIG", b"ECHO", b"HELLO", b"INFO", b"MEMORY", b"MONITOR", b"PING",
        b"PSUBSCRIBE", b"PUNSUBSCRIBE", b"SCRIPT", b"SELECT", b"SUBSCRIBE", b"UNSUBSCRIBE",
        b"XLEN", b"ZCARD", b"MULTI", b"EXEC",
    )
)  # fmt: skip
_COUNT_SHA = scripts.COUNT.sha.encode()
_FIRE_SHA = scripts.FIRE.sha.encode()

#: Commands of one write, of which two are under way: Redis never waits for us.
WINDOW = 64


@dataclass(slots=True)
class Trace:
    """Commands to replay: those that make ready, and those that are measured."""

    before: list[Words] = field(default_factory=list)
    measured: list[Words] = field(default_factory=list)
    #: Instances that had completed when the recording ended.
    completed: int = 0


@dataclass(slots=True)
class _Stream:
    first: int = 1
    last: int = 0


@dataclass(slots=True)
class _Read:
    group: bytes
    consumer: bytes
    keys: Sequence[bytes]
    count: int
    words: Words

    def of(self, key: bytes) -> Words:
        """The read that does not block, of one stream alone."""
        count = str(self.count).encode()
        noack = [b"NOACK"] if b"NOACK" in self.words else []
        head = [b"XREADGROUP", b"GROUP", self.group, self.consumer, b"COUNT", count]
        return [*head, *noack, b"STREAMS", key, b">"]


class Arranger:
    """Turns what MONITOR told into commands that one connection can send."""

    def __init__(self) -> None:
        self._streams: dict[bytes, _Stream] = {}
        #: Number of the last entry delivered, by stream and group.
        self._delivered: dict[tuple[bytes, bytes], int] = {}
        self._blocked: list[_Read] = []
        self._grown: list[bytes] = []

    def arrange(self, executed: Iterable[Executed]) -> Trace:
        """The trace, in the order of execution; what follows the end mark is left out."""
        trace = Trace()
        into = trace.before
        fire: Words | None = None
        for one in executed:
            words = one.words
            if one.inner:
                self._inner(words)
                if fire is not None and words[0].upper() == b"ZREM":
                    # As many as were due then: replayed later, all of them are.
                    into.append([*fire[:-1], str(len(words) - 2).encode()])
                    fire = None
                continue
            fire = None
            into += self._served()
            name = words[0].upper()
            if name == b"ECHO":
                if words[1] == END.encode():
                    break
                into = trace.measured if words[1] == BEGIN.encode() else into
            elif name == b"XREADGROUP":
                into += self._read(words)
            elif name == b"EVALSHA" and words[1] == _FIRE_SHA:
                fire = words
            elif name not in _IDLE and not (name == b"EVALSHA" and words[1] == _COUNT_SHA):
                into.append(words)
                self._inner(words)
        return trace

    def _inner(self, words: Words) -> None:
        """Keep account of streams and groups."""
        name = words[0].upper()
        if name == b"XADD":
            self._stream(words[1]).last += 1
            self._grown.append(words[1])
        elif name == b"XTRIM" and words[2].upper() == b"MINID":
            self._stream(words[1]).first = _number(words[3])
        elif name == b"XGROUP" and words[1].upper() == b"CREATE":
            self._delivered.setdefault((words[2], words[3]), 0)
        elif name == b"XGROUP" and words[1].upper() == b"DESTROY":
            self._delivered.pop((words[2], words[3]), None)
            self._blocked = [read for read in self._blocked if read.group != words[3]]

    def _stream(self, key: bytes) -> _Stream:
        return self._streams.setdefault(key, _Stream())

    def _read(self, words: Words) -> list[Words]:
        read = _parse_read(words)
        # One consumer waits in one place only: its earlier read has timed out.
        self._blocked = [
            b for b in self._blocked if (b.group, b.consumer) != (read.group, read.consumer)
        ]
        blocks = b"BLOCK" in words
        if self._deliver(read, read.keys) or not blocks:
            return [_without_block(words)]
        self._blocked.append(read)
        return []

    def _deliver(self, read: _Read, keys: Iterable[bytes]) -> bool:
        found = False
        for key in keys:
            stream, place = self._stream(key), (key, read.group)
            if place not in self._delivered:
                continue
            at = max(self._delivered[place], stream.first - 1)
            taken = min(read.count, stream.last - at)
            if taken > 0:
                self._delivered[place] = at + taken
                found = True
        return found

    def _served(self) -> list[Words]:
        """Reads that were blocked until the last command added what they wait for."""
        served: list[Words] = []
        for key in dict.fromkeys(self._grown):
            for read in list(self._blocked):
                if key in read.keys and self._deliver(read, [key]):
                    self._blocked.remove(read)
                    served.append(read.of(key))
        self._grown.clear()
        return served


def _number(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[2] or 0)


def _parse_read(words: Words) -> _Read:
    upper = [word.upper() for word in words]
    streams = upper.index(b"STREAMS")
    count = int(words[upper.index(b"COUNT") + 1])
    rest = words[streams + 1 :]
    return _Read(words[2], words[3], rest[: len(rest) // 2], count, words)


def _without_block(words: Words) -> Words:
    if b"BLOCK" not in words:
        return words
    at = words.index(b"BLOCK")
    return [*words[:at], *words[at + 2 :]]


# --- replaying


@dataclass(frozen=True, slots=True)
class Replayed:
    """How long the measured commands took, and what they cost."""

    seconds: float
    redis: RedisUse
    commands: int
    #: Whether the same came out as when it was recorded.
    faithful: bool


def replay(trace: Trace, *, at_once: int = WINDOW) -> Replayed:
    """Replay a trace on a fresh server. `at_once` 1: each command waits for the answer."""
    server = start_server()
    try:
        fix_entry_ids(server.url)
        with command_client(server.url) as client:
            for script in scripts.ALL:
                client.script_load(script.body)
        meter = RedisMeter(server.url)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(server.url.removeprefix("unix://"))
            # Some of what makes ready is refused as it was then: groups that exist already.
            _send(sock, trace.before, WINDOW)
            before, begun = meter.read(), time.perf_counter()
            refused = _send(sock, trace.measured, at_once)
            seconds = time.perf_counter() - begun
            used = meter.read().since(before)
        faithful = not refused and meter.count("COMPLETED") == trace.completed
        meter.close()
        return Replayed(seconds, used, len(trace.measured), faithful)
    finally:
        server.close()


def _send(sock: socket.socket, commands: Sequence[Words], at_once: int) -> int:
    """Send all commands, two writes under way; returns how many were refused."""
    reader = hiredis.Reader()
    chunks = [
        (b"".join(hiredis.pack_command(cast(Any, tuple(w))) for w in part), len(part))
        for part in (commands[at : at + at_once] for at in range(0, len(commands), at_once))
    ]
    refused = owed = 0
    depth = 1 if at_once == 1 else 2
    for number, (packed, _) in enumerate(chunks):
        sock.sendall(packed)
        if number >= depth - 1:
            owed = chunks[number - depth + 1][1]
            refused += _receive(sock, reader, owed)
    for _, size in chunks[max(0, len(chunks) - depth + 1) :]:
        refused += _receive(sock, reader, size)
    return refused


def _receive(sock: socket.socket, reader: hiredis.Reader, size: int) -> int:
    refused = 0
    while size:
        reply = reader.gets()
        if reply is False:
            reader.feed(sock.recv(1 << 16))
            continue
        size -= 1
        if isinstance(reply, hiredis.HiredisError) or (
            isinstance(reply, list) and reply and reply[0] == b"stale"
        ):
            refused += 1
    return refused
