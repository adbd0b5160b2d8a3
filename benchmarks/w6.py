"""W6: long histories: many steps, with live workers and with new ones; generations."""

from __future__ import annotations

import time
from functools import partial

from benchmarks.app import generations, long_chain, long_then_parked
from benchmarks.fleet import ONE
from benchmarks.stage import Outcome, Stage
from benchmarks.suite import Case, Size, Units

#: Instances at once: the same for all lengths, so that batches are as large.
INSTANCES: Units = {"full": 100, "quick": 30, "tiny": 2}
LENGTHS = (30, 300, 3_000)
#: Steps of a recording: what MONITOR tells of more does not fit into memory.
_RECORDED = 60_000


def steps(stage: Stage, units: int, *, length: int) -> Outcome:
    """All instances from the first step to the last, by workers that keep them live."""
    count = max(1, units // length)
    before, begun = stage.completed(), time.perf_counter()
    stage.client.schedule_many(long_chain, [length] * count)
    stage.wait_completed(before + count)
    return Outcome(time.perf_counter() - begun, units=count * length)


def walk_and_forget(stage: Stage, units: int, *, length: int) -> None:
    """Bring instances to their last step; then other workers take over."""
    before = stage.meter.count("RUNNING")
    count = max(1, units // length)
    ids = stage.client.schedule_many(long_then_parked, [length] * count)
    stage.wait_parked(before + count)
    stage.replace_fleet()
    stage.ready = {"ids": ids, "completed": stage.completed()}


def wake_cold(stage: Stage, units: int) -> Outcome:
    """Raise an event in every instance: its history is read and replayed once."""
    ids = stage.ready["ids"]
    begun = time.perf_counter()
    for instance_id in ids:
        stage.client.raise_workflow_event(instance_id, "go")
    stage.wait_completed(stage.ready["completed"] + len(ids))
    seconds = time.perf_counter() - begun
    return Outcome(seconds, figures={"ms_an_instance": seconds * 1000 / len(ids)})


def renew(stage: Stage, units: int, *, length: int) -> Outcome:
    """Instances that continue as new `length` times."""
    count = max(1, units // length)
    before, begun = stage.completed(), time.perf_counter()
    stage.client.schedule_many(generations, [length] * count)
    stage.wait_completed(before + count)
    return Outcome(time.perf_counter() - begun, units=count * length)


def _units(length: int) -> Units:
    shorter: dict[Size, int] = {"full": 1, "quick": 1, "tiny": 10}
    return {size: max(1, length // shorter[size]) * INSTANCES[size] for size in shorter}


CASES = [
    *(
        Case(
            "W6", f"{length:,} steps, warm", ONE, partial(steps, length=length), _units(length),
            unit="step", most_recorded=_RECORDED,
        )
        for length in LENGTHS
    ),
    *(
        Case(
            "W6", f"{length:,} steps, cold", ONE, wake_cold, _units(length), unit="step",
            prepare=partial(walk_and_forget, length=length), warm_up=0, most_recorded=_RECORDED,
        )
        for length in LENGTHS
    ),
    Case(
        "W6", "300 generations", ONE, partial(renew, length=300), _units(300), unit="generation"
    ),
]  # fmt: skip
