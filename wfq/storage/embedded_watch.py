"""The embedded server's supervisor: starts it, restarts it, ends it with its last user.

Runs as a process of its own, ``python -I -S embedded_watch.py DIRECTORY BINARY``, so it imports
the standard library only. It belongs to no terminal and to no user's process group: killing the
process that started it does not touch it. All that it knows about others are locks in DIRECTORY,
which the kernel drops when their holder dies, however it dies:

``users.lock``  every user holds it shared; the watcher waits for it exclusively and so wakes when
                the last user is gone. Holding it, the watcher may stop the server: a newcomer
                waits for its own share until that is done.
``watch.lock``  held by the watcher while it lives; holds its pid, for people.
``server.lock`` held by the server itself, which inherits it, and by its rewriting children: two
                servers never open one append-only file, whoever was killed.
``wfq.lock``    held by a user while it starts a watcher (see `embedded`).

The server is the watcher's child and, on Linux, ends in order when the watcher is killed.

The first line on stdout is ``ready`` or ``failed REASON``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

SOCKET = "wfq.sock"
LOG = "server.log"
DATA = "data"
USERS_LOCK = "users.lock"
WATCH_LOCK = "watch.lock"
SERVER_LOCK = "server.lock"

#: Seconds between the last user's end and the server's: a command that follows finds it running.
LINGER_S = 1.0
#: Seconds from SIGTERM until SIGKILL: the server flushes its append-only file first.
STOP_S = 30.0
#: A server that dies more often than this within `RESTART_WINDOW_S` is not started again.
RESTARTS = 5
RESTART_WINDOW_S = 60.0
#: The log is started anew beyond this many bytes.
LOG_BYTES = 1024 * 1024

_PR_SET_PDEATHSIG = 1


def server_arguments() -> list[str]:
    """Return the server's options: no TCP port, append-only file, nothing evicted.

    With `everysec` an acknowledged write survives the death of the server's process; only while
    the disk is so slow that an fsync is still under way may the write wait in memory for it.
    """
    # A relative path, since the address of a socket is short; it counts from --dir.
    place = [
        "--dir",
        DATA,
        "--port",
        "0",
        "--unixsocket",
        f"../{SOCKET}",
        "--unixsocketperm",
        "700",
    ]
    durability = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    return [*place, *durability, "--maxmemory-policy", "noeviction"]


def ask(path: str, command: bytes, timeout_s: float = 1.0) -> str:
    """Return what the server at a socket replies to a command; nothing when it does not."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as link:
        link.settimeout(timeout_s)
        try:
            link.connect(path)
            link.sendall(command + b"\r\n")
            return link.recv(512).decode("utf-8", "replace").strip()
        except OSError:
            return ""


def is_ready(path: str) -> bool:
    """Whether the server at a socket serves; while it loads its data it does not."""
    return ask(path, b"PING").startswith("+PONG")


def last_words(log: str) -> str:
    """Return the reason in a server log: its last warning, else its last line."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file.readlines()[-50:] if line.strip()]
    except OSError:
        return ""
    # "PID:ROLE DAY MONTH YEAR TIME # text" is a warning.
    warnings = [line.split(" # ", 1)[1] for line in lines if " # " in line]
    return next((text for text in reversed([*lines[-1:], *warnings])), "")


def drop_torn_transaction(data: str) -> int:
    """Cut a transaction that was not written to its end off the append-only file in `data`.

    A power cut leaves such a thing. Redis, and Valkey before 9.1, ignore it when they load the
    file, but leave it there where its last command is torn too, and write on behind it: the
    start after that executes the half of it. Returns the number of bytes cut off. For a server
    that does not run.
    """
    try:
        names = [n for n in os.listdir(f"{data}/appendonlydir") if n.endswith(".incr.aof")]
    except FileNotFoundError:
        return 0
    if not names:
        return 0
    newest = max(names, key=lambda name: int(name.split(".")[-3]))
    with open(f"{data}/appendonlydir/{newest}", "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        torn = _find_torn(file, size)
        if torn is None:
            return 0
        file.truncate(torn)
        return size - torn


def _find_torn(file: IO[bytes], size: int) -> int | None:
    """Where the last transaction begins, unless it ends as well. Looks from the end."""
    begin, chunk, overlap = b"*1\r\n$5\r\nMULTI\r\n", 1024 * 1024, 20
    position = size
    while position > 0:
        start = max(0, position - chunk)
        file.seek(start)
        # What wfq writes is JSON and names: none of it holds a line break like these.
        text = file.read(position - start + overlap)
        last = text.rfind(begin)
        if text.rfind(b"*1\r\n$4\r\nEXEC\r\n") > last:
            return None
        if last >= 0:
            return start + last
        position = start
    return None


def start_server(binary: str) -> subprocess.Popen[bytes]:
    """Start the server in the working directory; its output goes to the log. Raises: OSError."""
    if os.path.exists(LOG) and os.path.getsize(LOG) > LOG_BYTES:
        os.replace(LOG, LOG + ".1")
    os.makedirs(DATA, exist_ok=True)
    with open(SERVER_LOCK, "a") as lock, open(LOG, "ab") as log:
        _wait_for_the_last_server(lock)
        torn = drop_torn_transaction(DATA)
        if torn:
            log.write(b"wfq cut %d bytes of an unfinished transaction off the file\n" % torn)
            log.flush()
        return subprocess.Popen(
            [binary, *server_arguments()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock.fileno(),),
            # One call into libc, safe whatever our other threads hold.
            preexec_fn=_end_with_parent(),  # noqa: PLW1509
        )


def _wait_for_the_last_server(lock: IO[str]) -> None:
    """Take the server's lock; a server that lost its supervisor is asked to stop first."""
    end = time.monotonic() + STOP_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError("an earlier server still holds the data") from None
        ask(SOCKET, b"SHUTDOWN")
        time.sleep(0.01)


def _end_with_parent() -> Callable[[], object] | None:
    """Return what makes a child receive SIGTERM when this process dies, where that exists."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        # Loaded here: a forked child should do as little as possible.
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        number = ctypes.c_ulong(signal.SIGTERM)
    except (ImportError, OSError, AttributeError):
        return None
    return lambda: prctl(_PR_SET_PDEATHSIG, number)


def wait_until_ready(server: subprocess.Popen[bytes], users: IO[str]) -> str:
    """Return nothing once the server answers, else why it does not.

    Loading a large append-only file takes as long as it takes, while somebody waits for it.
    """
    pause_s = 0.002
    while server.poll() is None:
        if is_ready(SOCKET):
            return ""
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.2, 0.1)
        if pause_s == 0.1 and nobody_uses(users):
            stop_server(server)
            return "nobody waited for it"
    return last_words(LOG) or f"it ended with status {server.returncode}"


def nobody_uses(users: IO[str]) -> bool:
    """Whether no user is left; if so, newcomers are kept waiting from now on."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def stop_server(server: subprocess.Popen[bytes]) -> None:
    """End the server in order, by force where it hangs, and remove its socket."""
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET)


class Watcher:
    """Waits for three things, each reported as one byte through a pipe:

    ``s`` the server has ended, ``u`` the last user is gone, else a signal asks to stop.
    """

    def __init__(self, binary: str, users: IO[str]) -> None:
        self._binary = binary
        self._users = users
        self._read, self._write = os.pipe()
        self._restarts: list[float] = []
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def run(self, server: subprocess.Popen[bytes]) -> int:
        """Watch until the server is not needed or cannot run; return the exit status."""
        self._in_background(self._wait_for_server, server)
        self._in_background(self._wait_for_users)
        while True:
            told = os.read(self._read, 1)
            if told == b"s":
                again = self._restart()
                if again is None:
                    return 1
                server = again
                self._in_background(self._wait_for_server, server)
            elif told == b"u" and not self._nobody_came():
                self._in_background(self._wait_for_users)
            else:
                stop_server(server)
                return 0

    def _in_background(self, wait: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=wait, args=arguments, daemon=True).start()

    def _wait_for_server(self, server: subprocess.Popen[bytes]) -> None:
        server.wait()
        os.write(self._write, b"s")

    def _wait_for_users(self) -> None:
        fcntl.flock(self._users, fcntl.LOCK_EX)
        fcntl.flock(self._users, fcntl.LOCK_UN)
        os.write(self._write, b"u")

    def _nobody_came(self) -> bool:
        """Whether no user came within the linger time; then newcomers are kept waiting."""
        time.sleep(LINGER_S)
        return nobody_uses(self._users)

    def _restart(self) -> subprocess.Popen[bytes] | None:
        """Start the server again for the users it has, unless it keeps dying."""
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if at > now - RESTART_WINDOW_S] + [now]
        if len(self._restarts) > RESTARTS:
            return None
        # A file of its own: a thread may be parked in the lock of the other.
        with open(USERS_LOCK, "a") as users:
            try:
                server = start_server(self._binary)
            except OSError:
                return None
            return server if wait_until_ready(server, users) == "" else None


def main(directory: str, binary: str) -> int:
    """Run in `directory`; see the module."""
    os.chdir(directory)
    os.umask(0o077)
    # The starter reaps the process that it started at once; this one belongs to init.
    if os.fork():
        os._exit(0)
    with open(WATCH_LOCK, "a+") as watch, open(USERS_LOCK, "a") as users:
        try:
            fcntl.flock(watch, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _tell("failed another supervisor runs")
        watch.truncate(0)
        print(os.getpid(), file=watch, flush=True)
        try:
            server = start_server(binary)
        except OSError as exc:
            return _tell(f"failed {exc}")
        problem = wait_until_ready(server, users)
        if problem:
            return _tell(f"failed {problem}")
        watcher = Watcher(binary, users)
        _tell("ready")
        return watcher.run(server)


def _tell(line: str) -> int:
    """Give the starter its one line, and let go of its pipe."""
    os.write(1, f"{line}\n".encode())
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    return 1


if __name__ == "__main__":
    # Threads may be parked in a lock for ever: no clean-up of the interpreter.
    os._exit(main(*sys.argv[1:3]))
