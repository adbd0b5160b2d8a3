"""W3: one chain of three from start to result, idle and beside a background load."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.app import chain
from benchmarks.fleet import ONE, TWO_AND_TWO
from benchmarks.result import Target
from benchmarks.stage import Outcome, Stage
from benchmarks.suite import Case, Units
from tests.servers import ROOT

#: Seconds of load before the first measurement: workers learn which activities are short, and
#: orchestrators hear of it, within a few.
SETTLE_S = 5.0

#: The background sets the rate; what counts is the latency beside it.
_FIXED = "rate is given"

_UNITS: Units = {"full": 200, "quick": 60, "tiny": 5}

#: Starts `rate` workflows a second until it is ended, in portions of a hundredth of a second or one
#: by one; writes how many it has started, and in how many seconds.
_LOAD = """
import signal, sys, time
import wfq as wf
from benchmarks.app import chain
client, rate, singly = wf.WorkflowClient(redis_url=sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
client.ping()
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
print("ready", flush=True)
begun, started = time.monotonic(), 0
while not ended:
    due = int((time.monotonic() - begun) * rate) - started
    if due > 0 and singly:
        client.schedule_new_workflow(chain, input=started)
        started += 1
        continue
    if due > 0:
        client.schedule_many(chain, range(due))
        started += due
    time.sleep(0.0001 if singly else 0.01)
print(started / (time.monotonic() - begun), flush=True)
"""


def one_by_one(stage: Stage, units: int, *, load: int = 0, singly: bool = False) -> Outcome:
    """Start a chain, wait for its result, and start the next one."""
    before = stage.completed()
    with _load(stage, load, singly) as reached:
        if load:
            time.sleep(SETTLE_S)
        begun = time.perf_counter()
        taken = sorted(_latencies_ms(stage, units))
        seconds = time.perf_counter() - begun
    # The load has ended here, and has told its rate.
    figures = {"p50_ms": percentile(taken, 0.5), "p99_ms": percentile(taken, 0.99)}
    if not load:
        return Outcome(seconds, figures=figures)
    figures["background_rate"] = reached()
    # Costs are those of all workflows, of the load too.
    return Outcome(units=stage.completed() - before, figures=figures)


def _latencies_ms(stage: Stage, units: int) -> Iterator[float]:
    client = stage.client
    for number in range(units):
        begun = time.perf_counter()
        instance_id = client.schedule_new_workflow(chain, input=number)
        state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=60)
        yield (time.perf_counter() - begun) * 1000
        assert state.output() == number + 3


def percentile(ordered: list[float], share: float) -> float:
    """The value that `share` of the ordered values do not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@contextmanager
def _load(stage: Stage, rate: int, singly: bool) -> Iterator[Callable[[], float]]:
    """Start workflows from a process of its own; yields what tells the rate, afterwards."""
    if not rate:
        yield float
        return
    process = subprocess.Popen(
        [sys.executable, "-c", _LOAD, stage.url, str(rate), *(["singly"] * singly)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    reached: list[float] = []
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield lambda: reached[0]
        process.terminate()
        reached.append(float(process.communicate(timeout=60)[0]))
    finally:
        process.kill()
        process.wait()


CASES = [
    Case(
        "W3", "idle, one process", ONE, one_by_one, _UNITS, at_once=1, warm_up=20,
        targets=(
            Target("p50_ms", goal=1.5, floor=3, better="less"),
            Target("p99_ms", goal=4, floor=8, better="less"),
        ),
    ),
    Case(
        "W3", "beside 2,000 workflows/s, 2 + 2", TWO_AND_TWO, partial(one_by_one, load=2_000),
        _UNITS, no_limit=_FIXED, warm_up=0,
    ),
    Case(
        "W3", "beside 2,000 workflows/s started one by one, 2 + 2", TWO_AND_TWO,
        partial(one_by_one, load=2_000, singly=True), _UNITS, no_limit=_FIXED, warm_up=0,
    ),
    Case(
        "W3", "beside 5,000 workflows/s, 2 + 2", TWO_AND_TWO, partial(one_by_one, load=5_000),
        _UNITS, no_limit=_FIXED, warm_up=0, targets=(Target("p50_ms", goal=4, better="less"),),
    ),
]  # fmt: skip
