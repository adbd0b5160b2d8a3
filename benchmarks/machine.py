"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.server import choose_kind
from tests.servers import ROOT, find_binary


def describe() -> dict[str, Any]:
    """The machine, its load, and the versions of what runs on it."""
    kind = choose_kind()
    binary = find_binary(kind)
    version = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=True)
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "server": f"{kind} {version.stdout.partition('v=')[2].split()[0]}",
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def line(found: dict[str, Any]) -> str:
    """The machine in one line."""
    return (
        f"{found['cores']} cores {found['cpu']}, load {found['load'][0]}; "
        f"Python {found['python']}, {found['server']}, wfq {found['commit']}"
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for row in info.read_text().splitlines():
            if row.startswith("model name"):
                return row.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "of no repository"
