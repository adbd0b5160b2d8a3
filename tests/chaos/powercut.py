"""Power cuts: the server dies, and the end of its append-only file was never on the disk.

A real cut leaves the file at its last fsync (everysec: at most about a second ago), or torn at
any byte behind it. Here the file's size is watched while the server runs; a cut truncates it at
a random byte of the last moments. Whatever was acknowledged before the file had that size is
still there; only what came in the *window* behind it may be lost.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.servers import LocalServer
from wfq.storage.embedded_watch import drop_torn_transaction

#: Seconds that a cut may take back: the promise of everysec, and a bit.
MOST_S = 1.5
#: Seconds for which an acknowledged write may wait before it gets into the file, while an fsync
#: takes long; and seconds by which a client may be late in writing down what it heard.
POSTPONED_S = 2.0
LATE_S = 3.0
#: Seconds between looks at the file's size.
LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class Window:
    """Epoch seconds between which acknowledged requests were lost."""

    begin: float
    end: float

    def holds(self, at: float) -> bool:
        return self.begin - POSTPONED_S <= at <= self.end + LATE_S


class PowerCuts:
    """Watches the append-only file of a server, and cuts it."""

    def __init__(self, server: LocalServer, seed: int) -> None:
        self._server = server
        self._rng = Random(f"power {seed}")
        self._sizes: deque[tuple[float, int]] = deque(maxlen=int(3 * MOST_S / LOOK_S))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="aof", daemon=True)
        self._thread.start()
        self.windows: list[Window] = []
        self.lost_bytes = 0

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(10)

    def _file(self) -> Path | None:
        """The file that grows: the last increment of the multi-part append-only file."""
        found = sorted(
            self._server.directory.glob("appendonlydir/*.incr.aof"),
            key=lambda path: int(path.name.split(".")[-3]),
        )
        return found[-1] if found else None

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_S):
            path = self._file()
            if path is not None:
                # Time first: what was acknowledged by then is within the size.
                now = time.time()
                self._sizes.append((now, path.stat().st_size))

    def cut(self) -> None:
        """Kill the server and cut its file; the caller starts it again."""
        self._server.kill()
        now, path = time.time(), self._file()
        if path is None:
            return
        size = path.stat().st_size
        # Copied in one step: the watching thread goes on adding.
        sizes = list(self._sizes)
        recent = [(at, n) for at, n in sizes if at >= now - MOST_S and n <= size]
        if not recent:
            return
        keep = self._rng.randint(recent[0][1], size)
        with path.open("r+b") as file:
            file.truncate(keep)
        # As the embedded server does; operators of Redis are told to (docs/reliability.md).
        keep -= drop_torn_transaction(str(self._server.directory))
        # The last moment at which everything acknowledged was within what is kept.
        known = [(at, n) for at, n in sizes if n <= keep]
        self.lost_bytes += size - keep
        self._sizes.clear()
        if keep < size:
            self.windows.append(Window(known[-1][0] if known else 0.0, now))
