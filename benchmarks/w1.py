"""W1: chains of three sequential trivial activities."""

from __future__ import annotations

import time

from benchmarks.app import chain, inline_chain
from benchmarks.fleet import ONE, TWO_AND_TWO
from benchmarks.result import Target
from benchmarks.stage import Outcome, Stage
from benchmarks.suite import Case, Units

#: Instances of one start while others run, and most that run at once.
PORTION, IN_FLIGHT = 100, 4_000

_UNITS: Units = {"full": 20_000, "quick": 5_000, "tiny": 60}
_COST = Target("redis_us", goal=45, better="less")


def start_all(stage: Stage, units: int) -> Outcome:
    """All started up front; from the first start to the last completion."""
    before, begun = stage.completed(), time.perf_counter()
    stage.client.schedule_many(chain, range(units))
    stage.wait_completed(before + units)
    return Outcome(time.perf_counter() - begun)


def start_inline(stage: Stage, units: int) -> Outcome:
    """As `start_all`, with inline activities."""
    before, begun = stage.completed(), time.perf_counter()
    stage.client.schedule_many(inline_chain, range(units))
    stage.wait_completed(before + units)
    return Outcome(time.perf_counter() - begun)


def start_while_running(stage: Stage, units: int) -> Outcome:
    """Started in portions, with a bound on how many run at once."""
    before, begun = stage.completed(), time.perf_counter()
    started = ended = 0
    while started < units:
        while started - ended < IN_FLIGHT and started < units:
            portion = min(PORTION, units - started)
            stage.client.schedule_many(chain, range(portion))
            started += portion
        ended = stage.completed() - before
        if started - ended >= IN_FLIGHT:
            time.sleep(0.01)
    stage.wait_completed(before + units)
    return Outcome(time.perf_counter() - begun)


CASES = [
    Case(
        "W1", "chain of 3, one process", ONE, start_all, _UNITS,
        targets=(Target("rate", goal=15_000, floor=8_000), Target("ratio", goal=0.4), _COST),
    ),
    Case(
        "W1", "chain of 3, 2 + 2", TWO_AND_TWO, start_all, _UNITS,
        targets=(Target("rate", goal=22_000, floor=15_000), Target("ratio", goal=0.6), _COST),
    ),
    Case(
        "W1", "chain of 3, 2 + 2, started while running", TWO_AND_TWO, start_while_running,
        _UNITS, targets=(_COST,),
    ),
    Case(
        "W1", "3 inline activities, one process", ONE, start_inline, _UNITS,
        targets=(Target("rate", goal=45_000, floor=25_000),),
    ),
]  # fmt: skip
