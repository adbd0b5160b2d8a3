"""Runs cases: samples on one stage, then a recording and its replays for the limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.fleet import Layout
from benchmarks.profile import Profiler
from benchmarks.replay import WINDOW, Arranger, Replayed, Trace, replay
from benchmarks.result import CaseResult, Target, limit_of
from benchmarks.stage import Outcome, Sample, Stage

#: Seconds after the first units until the workers know what they will know.
LEARN_S = 4.0

Size = Literal["full", "quick", "tiny"]

#: How much to do, by size.
Units = Mapping[Size, int]

#: Does `units` of work on a stage and tells what it found.
Work = Callable[[Stage, int], Outcome | None]
#: Makes ready for one sample; looks at what one has left. Neither is measured.
Prepare = Callable[[Stage, int], None]
Inspect = Callable[[Stage, int], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement of a workload. `units` by size; `unit`: what is counted."""

    workload: str
    name: str
    layout: Layout
    work: Work
    units: Units
    unit: str = "workflow"
    targets: Sequence[Target] = ()
    prepare: Prepare | None = None
    inspect: Inspect | None = None
    #: Why no trace is replayed for a limit, where there is none to find.
    no_limit: str = ""
    #: How it is replayed: 1 = one command after the other.
    at_once: int = WINDOW
    #: Units of the recording, where fewer than those measured stand for them.
    most_recorded: int | None = None
    #: Units before the first sample, so that threads and caches are there.
    warm_up: int = 200
    #: Samples on one stage, of each size; the medians count.
    repeat: Units = field(default_factory=lambda: {"full": 3, "quick": 1, "tiny": 1})


@dataclass(frozen=True, slots=True)
class Options:
    """How the suite runs."""

    size: Size = "full"
    with_limit: bool = True
    #: Where flame graphs go; None makes none.
    profiles: Path | None = None
    repeat: int | None = None


def run_case(case: Case, options: Options) -> CaseResult:
    """Measure one case and its limit, each sample beside a replay, as near as they can be."""
    units = case.units[options.size]
    recorded = min(units, case.most_recorded or units)
    recording = record(case, recorded) if options.with_limit and not case.no_limit else None
    samples: list[Sample] = []
    replays: list[Replayed] = []
    with Stage(case.layout) as stage:
        _warm_up(case, stage, units)
        for _ in range(options.repeat or case.repeat[options.size]):
            samples.append(_sample(case, stage, units))
            if recording is not None:
                replays.append(replay(recording.trace, at_once=case.at_once))
        if options.profiles is not None:
            # One more, which does not count: the profiler costs too.
            with Profiler(stage.fleet.pids(), options.profiles, f"{case.workload}-{case.name}"):
                case.work(stage, units)
    limit = None if recording is None else limit_of(recording.sample, replays)
    return CaseResult(
        case.workload,
        case.name,
        case.unit,
        samples,
        limit,
        case.targets,
        no_limit=case.no_limit,
    )


def _warm_up(case: Case, stage: Stage, units: int) -> None:
    if case.warm_up:
        few = min(units, case.warm_up)
        if case.prepare is not None:
            case.prepare(stage, few)
        case.work(stage, few)
        if units > few:
            # Orchestrators learn which activities are short within a few seconds.
            time.sleep(LEARN_S)


def _sample(case: Case, stage: Stage, units: int) -> Sample:
    if case.prepare is not None:
        case.prepare(stage, units)
    sample = stage.measure(units, lambda: case.work(stage, units))
    if case.inspect is not None:
        sample.figures.update(case.inspect(stage, units))
    return sample


@dataclass(frozen=True, slots=True)
class Recording:
    """A case's commands, and the run in which they were recorded."""

    trace: Trace
    sample: Sample


def record(case: Case, units: int) -> Recording:
    """Run the case with every command recorded, which makes the server slower."""
    with Stage(case.layout, record=True) as stage:
        _warm_up(case, stage, units)
        sample = _sample(case, stage, units)
        assert stage.recorder is not None
        done = stage.completed()
        executed = stage.recorder.finish()
    trace = Arranger().arrange(executed)
    trace.completed = done
    return Recording(trace, sample)
