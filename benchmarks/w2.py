"""W2: one workflow with many parallel activities, and their sum."""

from __future__ import annotations

import time

from benchmarks.app import fan_out
from benchmarks.fleet import TWO_AND_TWO, Layout
from benchmarks.result import Target
from benchmarks.stage import Outcome, Stage
from benchmarks.suite import Case, Size, Units


def one_fan_out(stage: Stage, units: int) -> Outcome:
    begun = time.perf_counter()
    instance_id = stage.client.schedule_new_workflow(fan_out, input=units)
    state = stage.client.wait_for_workflow_completion(instance_id, timeout_in_seconds=600)
    seconds = time.perf_counter() - begun
    assert state.output() == units * (units + 1) // 2
    return Outcome(seconds)


def _case(count: int, layout: Layout, *targets: Target) -> Case:
    # Seconds even in full, and the width is the name of the case.
    smaller: dict[Size, int] = {"full": 1, "quick": 1, "tiny": 1000}
    units: Units = {size: count // part for size, part in smaller.items()}
    return Case(
        "W2", f"fan-out of {count:,}, {layout.name}", layout, one_fan_out, units,
        unit="activity", targets=targets,
    )  # fmt: skip


CASES = [
    _case(1_000, TWO_AND_TWO),
    _case(10_000, TWO_AND_TWO, Target("seconds", goal=0.18, floor=0.3, better="less")),
    _case(100_000, TWO_AND_TWO),
]
