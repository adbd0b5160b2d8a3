"""The processes that run activities with ``process=True``: CPU-bound work, killed on timeout.

Each child runs one attempt at a time, in a fresh interpreter that imports the activity's
module; it ends when the pipe to its worker closes, however the worker ended.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import orjson

from wfq.core.events import Failure
from wfq.core.failures import make_failure
from wfq.errors import ConfigurationError
from wfq.logs import form_in_use
from wfq_workers.activities.attempt import Attempt

log = logging.getLogger("wfq.activity")

#: Seconds that an idle child gets to end by itself.
CLOSE_S = 2.0

_COMMAND = "from wfq_workers.activities.child import main; main()"


class ChildFailed(Exception):
    """The activity failed in its process: `failure`, and the `names` of the error's classes."""

    def __init__(self, failure: Failure, names: list[str]) -> None:
        super().__init__(str(failure.get("message")))
        self.failure = failure
        self.names = names


class NotStarted(Exception):
    """The attempt was withdrawn before a process was free for it."""


class Child:
    """One child process and the connection to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        level = logging.getLogger().getEffectiveLevel()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, str(theirs.fileno()), str(level), form_in_use()],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._connection = Connection(ours.detach())
        self._sending = threading.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self, request: dict[str, Any]) -> None:
        """Hand over one attempt. Raises: OSError when the process is gone."""
        self._send(request)

    def finish(self, name: str, on_beat: Callable[[Any], None]) -> bytes:
        """Return the encoded result of what was begun: the activity called `name`.

        Raises: ChildFailed when it fails, or when the process dies of it.
        """
        try:
            while True:
                kind, *values = orjson.loads(self._connection.recv_bytes())
                if kind == "beat":
                    on_beat(values[0])
                elif kind == "done":
                    return orjson.dumps(values[0])
                else:
                    raise ChildFailed(values[0], values[1])
        except (EOFError, OSError) as exc:
            raise ChildFailed(self._death(name), []) from exc

    def cancel(self) -> None:
        """Make `is_cancelled` true for what runs."""
        try:
            self._send({"do": "cancel"})
        except OSError:
            pass  # it is gone, and so is what ran in it

    def kill(self) -> None:
        """End the process at once; `run` raises."""
        self._process.kill()

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End an idle process, which closes its dependencies, and reap it."""
        try:
            self._send({"do": "close"})
            self._process.wait(CLOSE_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._connection.close()

    def _send(self, message: dict[str, Any]) -> None:
        with self._sending:
            self._connection.send_bytes(orjson.dumps(message))

    def _death(self, name: str) -> Failure:
        code = self._process.wait()
        ended = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        return make_failure("WorkerLost", f"the process that ran activity {name!r} ended {ended}")


class ChildPool:
    """At most `limit` children, started as attempts need them; used by many threads."""

    def __init__(self, limit: int) -> None:
        self._free = threading.Semaphore(limit)
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._all: set[Child] = set()

    def run(
        self,
        attempt: Attempt,
        request: dict[str, Any],
        *,
        wanted: Callable[[], bool],
        on_start: Callable[[], None],
        on_beat: Callable[[Any], None],
    ) -> bytes:
        """Run an attempt in a child and return its encoded result.

        `wanted` is asked while it waits for one to be free; `on_start` is called when it has
        one. Raises: ChildFailed, NotStarted.
        """
        while not self._free.acquire(timeout=0.1):
            if not wanted():
                raise NotStarted
        try:
            child = self._begin(request)
            attempt.stop = lambda at_once: child.kill() if at_once else child.cancel()
            try:
                on_start()
                return child.finish(attempt.name, on_beat)
            finally:
                attempt.stop = None
                self._give_back(child)
        finally:
            self._free.release()

    def kill_all(self) -> None:
        """End every child at once."""
        with self._lock:
            children = list(self._all)
        for child in children:
            child.kill()

    def close(self) -> None:
        """End the children that are idle, and kill those that are not."""
        with self._lock:
            idle, busy = self._idle[:], self._all.difference(self._idle)
            self._idle.clear()
            self._all.clear()
        for child in busy:
            child.kill()
        for child in idle:
            child.close()

    def _begin(self, request: dict[str, Any]) -> Child:
        while True:
            child = self._borrow()
            try:
                child.begin(request)
                return child
            except OSError:
                # It died between two attempts, of nothing that this one did.
                self._give_back(child)

    def _borrow(self) -> Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.alive():
                    return child
                self._all.discard(child)
        child = Child()
        with self._lock:
            self._all.add(child)
        return child

    def _give_back(self, child: Child) -> None:
        with self._lock:
            if child.alive() and child in self._all:
                self._idle.append(child)
                return
            self._all.discard(child)
        child.close()


def locate(function: Callable[..., Any]) -> dict[str, Any]:
    """Return where a child finds `function`: its module, the module's file, its name there.

    Raises: ConfigurationError for a function that no module holds by name.
    """
    function = inspect.unwrap(function)
    name = getattr(function, "__qualname__", "")
    if not name or "<" in name:
        raise ConfigurationError(
            f"activity {name or function!r} cannot run in a process: define it at the top of "
            "a module"
        )
    module = sys.modules.get(function.__module__)
    return {
        "module": function.__module__,
        "file": getattr(module, "__file__", None),
        "function": name,
    }
