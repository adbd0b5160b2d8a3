"""A terminal for the shell blocks of the documentation: they run as they are printed.

Blocks run with bash on a pseudo-terminal, so that their output is what a reader sees, in a
directory of the page's own, with an embedded server and real workers there. A command that
runs until it is stopped, such as ``wfq dev``, must be alone in its block: it is started in the
background, as a reader would in another terminal.

One thing differs from the print: port 3500 is another, since tests run side by side.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import Block
from tests.ports import free_port
from tests.servers import Processes, Spawned, clean_env

#: Commands that run until they are stopped, and what their logs say once they are ready.
_SERVICES = {
    "dev": ("HTTP API on", "ready as"),
    "worker": ("ready as",),
    "server": ("HTTP API on",),
    "listen": ("ready as",),
}
#: What shows something until Ctrl-C.
_ENDLESS = re.compile(r"(exec )?wfq [^#\n]*--(watch|follow)\b")
_SERVICE = re.compile(rf"wfq ({'|'.join(_SERVICES)})\b")
_PORT = "3500"
#: Points in time and ages, in the forms that the command prints.
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT)?\d\d:\d\d:\d\d\.\d{3}Z?( \(\d+\w ago\))?")
#: What makes text bold or dim.
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """Runs the blocks of one page, one after the other, in `directory`."""

    def __init__(self, directory: Path, processes: Processes) -> None:
        for tool in ("bash", "curl"):
            if shutil.which(tool) is None:
                pytest.skip(f"no {tool} on PATH, which the page's commands need")
        self.directory = directory
        self.port = free_port()
        self._processes = processes
        #: Variables that a reader has set before.
        self.extra: dict[str, str] = {}
        #: What runs in the background, oldest first.
        self.services: list[Spawned] = []
        #: What was printed to stderr so far, by what does not run in the background.
        self.errors = ""

    def run(self, block: Block) -> str:
        """Run a block and return what it prints to stdout; a service prints nothing.

        Raises: AssertionError when a command of the block fails.
        """
        script = block.text.replace(f":{_PORT}", f":{self.port}")
        service = _SERVICE.match(script)
        if service is None:
            return "".join(self._run(part, str(block)) for part in _parts(script))
        assert script.count("\n") == 1, f"{block}: a service must be alone in its block"
        words = shlex.split(script, comments=True)
        process = self._processes.wfq(*words[1:], env=self._environment(), cwd=self.directory)
        self.services.append(process)
        for said in _SERVICES[service[1]]:
            process.wait_for_log(said, 30)
        return ""

    def enter(self, line: str) -> str:
        """Run a line that stands on no page."""
        return self.run(Block(self.directory, 0, "sh", f"{line}\n"))

    def stop(self, number: int = -1) -> None:
        """End a service, as Ctrl-C does."""
        service = self.services.pop(number)
        service.send(signal.SIGINT)
        service.wait(30)

    def close(self) -> None:
        """End all services in order, so that the embedded server ends too."""
        while self.services:
            self.stop()

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "WFQ_API_PORT": str(self.port),
            "NO_COLOR": "1",
            "COLUMNS": "100",
            **self.extra,
        }

    def _run(self, script: str, where: str) -> str:
        ours, theirs = pty.openpty()
        with io.FileIO(ours) as screen:
            process = subprocess.Popen(
                ["bash", "-e", "-c", script],
                cwd=self.directory,
                env=clean_env(self._environment()),
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=subprocess.PIPE,
                start_new_session=True,
                # Whoever runs the tests in the background has Ctrl-C ignored.
                preexec_fn=_heed_ctrl_c,  # noqa: PLW1509
            )
            os.close(theirs)
            endless = _ENDLESS.match(script) is not None
            try:
                printed = _read_all(screen, process.pid if endless else None)
                _, errors = process.communicate(timeout=10)
            finally:
                process.kill()
                process.wait()
        said = errors.decode(errors="replace")
        self.errors += said
        ended = process.returncode
        assert ended == (130 if endless else 0), f"{where} ended with {ended}: {said}{printed}"
        return printed


def _parts(script: str) -> list[str]:
    """Split a script where something has to be stopped; what follows is a shell of its own."""
    parts = [""]
    for line in script.splitlines(keepends=True):
        if _ENDLESS.match(line):
            parts += [f"exec {line}", ""]
        else:
            parts[-1] += line
    return [part for part in parts if part]


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _read_all(screen: io.FileIO, interrupted: int | None = None) -> str:
    """Return what is printed until the other end of the terminal closes.

    The process group `interrupted` gets a Ctrl-C once it has printed a line.
    """
    parts: list[bytes] = []
    while True:
        try:
            part = screen.read(65536)
        except OSError:  # EIO: how Linux says that nobody writes any more
            break
        if not part:
            break
        parts.append(part)
        if interrupted is not None and b"\n" in b"".join(parts):
            os.killpg(interrupted, signal.SIGINT)
            interrupted = None
    text = b"".join(parts).decode(errors="replace").replace("\r\n", "\n")
    return _STYLE.sub("", text)


def matches(expected: str, printed: str) -> bool:
    """Whether a printed text is as expected, but for times; ``...`` stands for anything."""
    parts = _timeless(expected).split("...")
    pattern = ".*?".join(map(re.escape, parts))
    return re.fullmatch(pattern, _timeless(printed), re.DOTALL) is not None


def _timeless(text: str) -> str:
    return _TIME.sub("<time>", text.strip())
