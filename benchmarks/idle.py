"""Idle: what workers cost that have nothing to do."""

from __future__ import annotations

import time

from benchmarks.fleet import ALL, Layout
from benchmarks.result import Target
from benchmarks.stage import Outcome, Stage
from benchmarks.suite import Case, Units
from benchmarks.trace import Recorder

WORKERS = 50
#: Seconds for the partitions to be shared, and to look.
SETTLE_S = 10.0

_SECONDS: Units = {"full": 20, "quick": 10, "tiny": 1}


def settle(stage: Stage, seconds: int) -> None:
    time.sleep(SETTLE_S if seconds > 1 else 0)


def do_nothing(stage: Stage, seconds: int) -> Outcome:
    """Watch: commands by clients (what scripts call is not counted), and CPU of the workers."""
    recorder = Recorder(stage.url, stage.directory / "idle")
    before = stage.fleet.cpu_s()
    time.sleep(seconds)
    used = sum(stage.fleet.cpu_s().values()) - sum(before.values())
    executed = recorder.finish()
    sent = sum(not one.inner and one.words[0] not in (b"ECHO", b"INFO") for one in executed)
    each = used / seconds / len(stage.fleet.workers)
    return Outcome(figures={"commands": sent / seconds, "cpu_percent_each": each * 100})


CASES = [
    Case(
        "idle", f"{WORKERS} workers", Layout("idle", (ALL,) * WORKERS), do_nothing, _SECONDS,
        unit="second", prepare=settle, no_limit="nothing to do", warm_up=0,
        repeat={"full": 1, "quick": 1, "tiny": 1},
        targets=(
            Target("commands", goal=200, better="less"),
            Target("cpu_percent_each", goal=1, better="less"),
        ),
    ),
]  # fmt: skip
