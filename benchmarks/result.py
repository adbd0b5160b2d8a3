"""What a run of the suite has found: figures with their references, as tables and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from benchmarks.replay import Replayed
from benchmarks.stage import Sample

#: Commands of the product's own: one of them is one round trip, a script counts as one.
_TOP = ("evalsha", "eval", "xreadgroup")


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to reach. `floor`: below it is failure."""

    figure: str
    goal: float | None = None
    floor: float | None = None
    better: Literal["more", "less"] = "more"

    def verdict(self, value: float) -> str:
        sign = 1 if self.better == "more" else -1
        if self.floor is not None and sign * value < sign * self.floor:
            return "below the floor"
        if self.goal is not None and sign * value < sign * self.goal:
            return "below the goal"
        return "ok"


@dataclass(frozen=True, slots=True)
class Limit:
    """What the replayed trace has reached, as medians."""

    rate: float
    main_us: float
    commands: float
    faithful: bool
    #: Round trips a unit while it was recorded: near the run's own, the trace stands for it.
    round_trips: float


@dataclass(slots=True)
class CaseResult:
    """One case: its samples, and the limit where there is one."""

    workload: str
    case: str
    unit: str
    samples: Sequence[Sample]
    limit: Limit | None = None
    targets: Sequence[Target] = ()
    #: Why there is no limit, where none can be.
    no_limit: str = ""
    #: What else is worth a line.
    notes: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return median(sample.rate for sample in self.samples)

    @property
    def redis_us(self) -> float:
        """Redis CPU of the main thread for one unit."""
        return median(s.redis.main_s / s.units * 1e6 for s in self.samples)

    @property
    def redis_all_us(self) -> float:
        return median(s.redis.total_s / s.units * 1e6 for s in self.samples)

    @property
    def worker_us(self) -> dict[str, float]:
        """CPU of worker processes for one unit, by role."""
        roles = self.samples[0].workers
        return {
            role: median(s.workers.get(role, 0.0) / s.units * 1e6 for s in self.samples)
            for role in roles
        }

    @property
    def round_trips(self) -> float:
        return median(round_trips(s) for s in self.samples)

    @property
    def ratio(self) -> float | None:
        """Share of the limit."""
        return None if self.limit is None else self.rate / self.limit.rate

    @property
    def figures(self) -> dict[str, float]:
        """Every figure by its name."""
        found = {"rate": self.rate, "redis_us": self.redis_us, "seconds": self.seconds}
        for name in self.samples[0].figures:
            found[name] = median(s.figures[name] for s in self.samples)
        if self.ratio is not None:
            found["ratio"] = self.ratio
        return found

    @property
    def seconds(self) -> float:
        return median(sample.seconds for sample in self.samples)

    def verdicts(self) -> list[tuple[Target, float, str]]:
        figures = self.figures
        return [
            (target, figures[target.figure], target.verdict(figures[target.figure]))
            for target in self.targets
            if target.figure in figures
        ]

    def document(self) -> dict[str, Any]:
        """The result as JSON-ready values."""
        return {
            "workload": self.workload,
            "case": self.case,
            "unit": self.unit,
            "units": self.samples[0].units,
            "figures": self.figures,
            "redis_all_us": self.redis_all_us,
            "worker_us": self.worker_us,
            "round_trips": self.round_trips,
            "calls": _calls(self.samples[-1]),
            "limit": None if self.limit is None else dataclasses.asdict(self.limit),
            "no_limit": self.no_limit,
            "verdicts": [
                {"figure": t.figure, "goal": t.goal, "floor": t.floor, "value": v, "verdict": word}
                for t, v, word in self.verdicts()
            ],
            "samples": [{"seconds": s.seconds, "figures": s.figures} for s in self.samples],
            "notes": self.notes,
        }


def round_trips(sample: Sample) -> float:
    """Scripts and reads for one unit."""
    return sum(sample.redis.calls.get(name, 0) for name in _TOP) / sample.units


def _calls(sample: Sample) -> dict[str, dict[str, float]]:
    """Calls, and microseconds, of each command for one unit."""
    spent = sorted(sample.redis.micros.items(), key=lambda item: -item[1])
    return {
        name: {
            "calls": round(sample.redis.calls[name] / sample.units, 3),
            "us": round(micros / sample.units, 2),
        }
        for name, micros in spent[:20]
        if micros > 0
    }


def limit_of(recorded: Sample, replays: Sequence[Replayed]) -> Limit:
    """The limit that replays of one recording show."""
    units = recorded.units
    return Limit(
        rate=units / median(r.seconds for r in replays),
        main_us=median(r.redis.main_s for r in replays) / units * 1e6,
        commands=replays[0].commands / units,
        faithful=all(r.faithful for r in replays),
        round_trips=round_trips(recorded),
    )


# --- texts


def describe(result: CaseResult) -> str:
    """A few lines on one case, for a terminal."""
    unit = result.unit
    head = f"{result.workload:<5}{result.case:<40}{amount(result.rate):>9} {unit}s/s"
    if result.limit is not None:
        head += f"   limit {amount(result.limit.rate)}, ratio {result.rate / result.limit.rate:.2f}"
        if not result.limit.faithful:
            head += " (the replay came out differently)"
    lines = [head]
    costs = f"     Redis {result.redis_us:.1f} us a {unit} ({result.redis_all_us:.1f} all threads)"
    if result.limit is not None:
        costs += f", replayed {result.limit.main_us:.1f}"
    for role, spent in result.worker_us.items():
        costs += f"; {role} {spent:.0f} us"
    lines.append(costs)
    trips = f"     round trips a {unit}: {result.round_trips:.3f}"
    if result.limit is not None:
        trips += f" (while recorded {result.limit.round_trips:.3f})"
    lines.append(trips)
    extra = {name: v for name, v in result.figures.items() if name in result.samples[0].figures}
    if extra:
        lines.append("     " + ", ".join(f"{name} {amount(v)}" for name, v in extra.items()))
    lines += [f"     {note}" for note in result.notes]
    for target, value, word in result.verdicts():
        bounds = ", ".join(
            f"{name} {amount(bound)}"
            for name, bound in (("floor", target.floor), ("goal", target.goal))
            if bound is not None
        )
        lines.append(f"     {target.figure} {amount(value)}: {word} ({bounds})")
    return "\n".join(lines)


def amount(value: float) -> str:
    """A number with about three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
