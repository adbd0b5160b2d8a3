"""Flame graphs of worker processes, by py-spy where it is installed."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self


def find_profiler() -> str | None:
    """py-spy beside this Python, or on PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


class Profiler:
    """Records every process while the block runs; writes one SVG each into `directory`."""

    def __init__(self, pids: Sequence[tuple[str, int]], directory: Path, name: str) -> None:
        self._pids = pids
        self._directory = directory
        self._name = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        program = find_profiler()
        if program is None:
            sys.stderr.write("no flame graphs: py-spy is not installed\n")
            return self
        self._directory.mkdir(parents=True, exist_ok=True)
        for number, (role, pid) in enumerate(self._pids):
            path = self._directory / f"{self._name}-{number}-{role.replace(' ', '-')}.svg"
            # Only threads that hold the interpreter: the others wait.
            command = [program, "record", "--gil", "--rate", "500", "--output", str(path)]
            self._running.append(
                subprocess.Popen(
                    [*command, "--pid", str(pid)],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            print(f"flame graph: {path}")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.send_signal(signal.SIGINT)
        for process in self._running:
            process.wait(60)
