"""W5: many instances that wait: for an event, for a timer; and all timers due at once."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.app import napping, parked, sleeping
from benchmarks.fleet import ONE
from benchmarks.result import Target
from benchmarks.stage import Outcome, Stage
from benchmarks.suite import Case, Units
from benchmarks.w3 import percentile

#: Instances that park in a second, at least: the timers are due when all are parked.
PARKED_A_S = 2_500
#: Milliseconds of one nap, and instances whose lateness is read after the drain.
NAP_MS, LOOKED_AT = 50, 1_000

_UNITS: Units = {"full": 100_000, "quick": 10_000, "tiny": 100}
_SIZE = Target("redis_bytes", goal=750, floor=900, better="less")


def park_on_event(stage: Stage, units: int) -> Outcome:
    return _park(stage, units, lambda: stage.client.schedule_many(parked, range(units)))


def park_on_timer(stage: Stage, units: int) -> Outcome:
    """Timers of an hour: none is due while anybody looks."""
    due_ms = int(time.time() * 1000) + 3_600_000
    return _park(stage, units, lambda: stage.client.schedule_many(sleeping, [due_ms] * units))


def _park(stage: Stage, units: int, start: Callable[[], object]) -> Outcome:
    before = stage.meter.count("RUNNING")
    redis, workers = stage.meter.memory_bytes(), stage.fleet.memory_bytes()
    begun = time.perf_counter()
    start()
    stage.wait_parked(before + units)
    seconds = time.perf_counter() - begun
    return Outcome(
        seconds,
        figures={
            "redis_bytes": (stage.meter.memory_bytes() - redis) / units,
            "worker_bytes": (stage.fleet.memory_bytes() - workers) / units,
        },
    )


def set_timers(stage: Stage, units: int) -> None:
    """Park instances on timers that are due at one moment, soon after all are parked."""
    due_ms = int(time.time() * 1000) + 2_000 + units * 1000 // PARKED_A_S
    before = stage.meter.count("RUNNING")
    ids = stage.client.schedule_many(sleeping, [due_ms] * units)
    stage.wait_parked(before + units)
    left_ms = due_ms - time.time() * 1000
    assert left_ms > 0, f"parking took {-left_ms:.0f} ms too long; lower PARKED_A_S"
    stage.ready = {"due_ms": due_ms, "ids": ids, "completed": stage.completed()}


def drain_timers(stage: Stage, units: int) -> Outcome:
    """From the moment when all are due to the last completion."""
    stage.wait_completed(stage.ready["completed"] + units)
    return Outcome(time.time() - stage.ready["due_ms"] / 1000)


def lateness(stage: Stage, units: int) -> dict[str, float]:
    """How late timers woke their workflows, by the turns' own time."""
    ids = stage.ready["ids"]
    late = sorted(
        float(state.output() or 0)
        for instance_id in ids[:: max(1, len(ids) // LOOKED_AT)]
        if (state := stage.client.get_workflow_state(instance_id)) is not None
    )
    return {"late_p50_ms": percentile(late, 0.5), "late_p99_ms": percentile(late, 0.99)}


def nap_one_by_one(stage: Stage, units: int) -> Outcome:
    late = []
    for _ in range(units):
        instance_id = stage.client.schedule_new_workflow(napping, input=NAP_MS)
        state = stage.client.wait_for_workflow_completion(instance_id, timeout_in_seconds=60)
        late.append(float(state.output() or 0))
    late.sort()
    return Outcome(
        figures={"late_p50_ms": percentile(late, 0.5), "late_p99_ms": percentile(late, 0.99)}
    )


_ONCE: Units = {"full": 1, "quick": 1, "tiny": 1}

CASES = [
    Case(
        "W5", "park on an event, one process", ONE, park_on_event, _UNITS, unit="instance",
        targets=(_SIZE,), warm_up=1000, repeat=_ONCE,
    ),
    Case(
        "W5", "park on a timer, one process", ONE, park_on_timer, _UNITS, unit="instance",
        targets=(_SIZE,), warm_up=1000, repeat=_ONCE,
    ),
    Case(
        "W5", "all timers due at once, one process", ONE, drain_timers, _UNITS, unit="timer",
        prepare=set_timers, inspect=lateness,
        targets=(Target("rate", goal=40_000, floor=20_000),),
    ),
    Case(
        "W5", "single timers, idle, one process", ONE, nap_one_by_one,
        {"full": 100, "quick": 40, "tiny": 3}, unit="timer", warm_up=5,
        no_limit="naps take their time",
        targets=(Target("late_p50_ms", goal=3, better="less"),),
    ),
]  # fmt: skip
