"""Recording the commands a server executes, such that they can be replayed as they are.

MONITOR tells every command in the order of execution, those inside scripts too. What commands
name and the server makes up are stream entry ids: they come from the clock, unless the stream's
last id lies in the future. So a recording, and its replay, begin with streams of which the
last id does: the n-th entry has the same id in both, and every command fits verbatim.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.servers import ROOT, command_client
from wfq.storage.keys import Namespace

#: Milliseconds of all entry ids: in the future for as long as anybody will run this.
FAR_MS = 9_999_999_999_000

BEGIN, END = "wfq-bench-begin", "wfq-bench-end"
_LAST = "wfq-bench-last"

_ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"')


def fix_entry_ids(url: str, namespace: Namespace | None = None, queue: str = "default") -> None:
    """Make the ids of all entries to come the numbers 1, 2, 3, ... of each stream."""
    space = namespace or Namespace()
    with command_client(url) as client:
        for p in range(space.partitions):
            for key in (space.events(p, queue), space.activities(p, queue), space.outbox(p)):
                client.xadd(key, {"a": "b"}, id=f"{FAR_MS}-0")
                client.xdel(key, f"{FAR_MS}-0")


@dataclass(frozen=True, slots=True)
class Executed:
    """One command as MONITOR tells it; `inner`: a script called it."""

    inner: bool
    words: list[bytes]


class Recorder:
    """Records a server's commands into a file, by a process of its own, until `finish`."""

    def __init__(self, url: str, path: Path) -> None:
        self._path = path
        self._client: redis.Redis = command_client(url)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.trace", url.removeprefix("unix://"), str(path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("the recorder did not start")

    def mark(self, text: str) -> None:
        """Write a mark into the trace."""
        self._client.echo(text)

    def finish(self) -> list[Executed]:
        """End the recording and return what was executed."""
        self.mark(_LAST)
        wanted, end = f'"ECHO" "{_LAST}"'.encode(), time.monotonic() + 60
        while wanted not in _tail(self._path):
            if time.monotonic() > end:
                raise TimeoutError("the recorder lags behind")
            time.sleep(0.05)
        self.close()
        return list(read_trace(self._path))

    def close(self) -> None:
        """End the recorder; idempotent."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._client.close()


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        # The workers go on behind the mark, even while nobody gives them anything to do.
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        return file.read()


def read_trace(path: Path) -> Iterator[Executed]:
    """The commands of a MONITOR log, in order."""
    with path.open("rb") as file:
        for line in file:
            # +1795347113.303739 [0 unix:/path] "XADD" "key" ...; [0 lua] inside scripts
            head, _, rest = line.partition(b"] ")
            if not rest:
                continue
            words = [_unescape(word) if b"\\" in word else word for word in _ARGUMENT.findall(rest)]
            yield Executed(head.endswith(b" lua"), words)


def _unescape(word: bytes) -> bytes:
    """Undo MONITOR's quoting: backslash, quote, n, r, t, a, b and xHH."""
    return word.decode("unicode_escape").encode("latin-1")


def _record(path: str, target: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock, Path(target).open("wb") as file:
        sock.connect(path)
        sock.sendall(b"MONITOR\r\n")
        first = sock.recv(1 << 20)
        file.write(first)
        print("recording", flush=True)
        while chunk := sock.recv(1 << 20):
            file.write(chunk)
            file.flush()


if __name__ == "__main__":
    _record(sys.argv[1], sys.argv[2])
