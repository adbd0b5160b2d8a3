"""Processes that `wfq dev` and `wfq demo` start: `wfq` commands that end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

#: Receives each line that a child writes: the child's name and the line.
LineSink = Callable[[str, str], None]


class Child:
    """One `wfq` command in a process of its own; its output goes to `sink`, line by line."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        sink: LineSink,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self._asked = False
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "wfq_cli.tether", *arguments],
            # Held open: its end is the child's sign to stop. See `tether`.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            cwd=cwd,
            text=True,
            errors="replace",
            # A Ctrl-C at the terminal is for the parent, which then stops its children in order.
            start_new_session=True,
        )
        self._pump = threading.Thread(target=self._read, args=(sink,), daemon=True)
        self._pump.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def ask_to_stop(self) -> None:
        """SIGTERM, once: a second one would end it at once; returns at once."""
        if not self._asked and self._popen.poll() is None:
            self._asked = True
            self._popen.terminate()

    def stop(self, timeout_s: float) -> int:
        """SIGTERM, and SIGKILL after `timeout_s`; returns the exit code."""
        self.ask_to_stop()
        try:
            code = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._popen.wait()
        self._close()
        return code

    def kill(self) -> None:
        """SIGKILL the process and what it started; reap it."""
        if self._popen.poll() is None:
            # It leads a group of its own: what it started goes with it.
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
        self._close()

    def _close(self) -> None:
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        self._pump.join(2)
        if self._popen.stdout is not None and not self._pump.is_alive():
            self._popen.stdout.close()

    def _read(self, sink: LineSink) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            sink(self.name, line.rstrip("\n"))
