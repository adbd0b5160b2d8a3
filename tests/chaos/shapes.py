"""The shapes of workflows that the campaign runs: what to start, what clients do, what must come.

A shape's `make` draws an input; its `script` plays the client; its `judge` says what is wrong
with the end, given what the ledger knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from tests.chaos.hands import Hands, Script
from tests.chaos.ledger import Testimony

#: A payload that no log may ever show.
CANARY = "canary-payload-7Qm2"


@dataclass(slots=True)
class Job:
    """One instance that clients start, and how it must end."""

    instance_id: str
    shape: Shape
    workflow: str
    value: Any
    #: Whatever the script and the judge need besides the input.
    plan: dict[str, Any] = field(default_factory=dict)
    #: Whether acknowledged requests may be lost, and are repeated then.
    lossy: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How an instance was found: `status` is "" when there is none."""

    status: str
    output: Any
    failure: str
    testimony: Testimony
    #: External events in the records.
    raised: int = 0


def play_start(job: Job, hands: Hands) -> Script:
    """Start the instance; that is all."""
    yield from hands.start(job.instance_id, job.workflow, job.value, **job.plan.get("options", {}))


Judge = Callable[[Job, Ending], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of workflow. `weight`: how often it is drawn, relative to the others."""

    name: str
    weight: int
    make: Callable[[Random, str], tuple[Any, dict[str, Any]]]
    judge: Judge
    script: Callable[[Job, Hands], Script] = play_start
    workflow: str = ""
    #: Whether the script may be played again where a server has forgotten its end.
    repeatable: bool = True
    #: Whether it is still there at the end, with its children.
    stays: bool = False

    def draw(self, rng: Random, instance_id: str) -> Job:
        """Return a job of this shape."""
        value, plan = self.make(rng, instance_id)
        return Job(instance_id, self, self.workflow or self.name, value, plan)


def must_be(expected: Callable[[Job], Any]) -> Judge:
    """Judge by equality with what the model says."""

    def judge(job: Job, ending: Ending) -> Iterator[str]:
        wanted = expected(job)
        if ending.status != "COMPLETED":
            yield f"ended as {ending.status}: {ending.failure}"
        elif ending.output != wanted:
            yield f"gave {ending.output!r}, not {wanted!r}"

    return judge


# --- chains


def _make_chain(rng: Random, _: str) -> tuple[Any, dict[str, Any]]:
    plan: dict[str, Any] = {}
    if rng.random() < 0.1:
        plan["options"] = {"start_at": timedelta(milliseconds=rng.randint(200, 2500))}
    return {"steps": rng.randint(1, 8), "secret": CANARY}, plan


def judge_chain(job: Job, ending: Ending) -> Iterator[str]:
    """The sum is right, and each stamp is that of an execution of this very instance."""
    steps = job.value["steps"]
    output = ending.output
    if ending.status != "COMPLETED":
        yield f"ended as {ending.status}: {ending.failure}"
        return
    if output["total"] != sum(range(steps)) or not output["same"]:
        yield f"gave {output!r} after {steps} steps"
    known = {
        execution.result[1]
        for execution in ending.testimony.executions_of(job.instance_id)
        if execution.name in ("add", "add_here")
    }
    strange = [stamp for stamp in output["stamps"] if stamp not in known]
    if strange or len(set(output["stamps"])) != steps:
        yield f"has results that no activity gave, or the same one twice: {strange!r}"


def _play_suspended(job: Job, hands: Hands) -> Script:
    yield from play_start(job, hands)
    for pause_s in job.plan["pauses_s"]:
        yield pause_s
        yield from hands.suspend(job.instance_id)
        yield pause_s
        yield from hands.resume(job.instance_id)


def _make_suspended(rng: Random, _: str) -> tuple[Any, dict[str, Any]]:
    pauses = [rng.uniform(0.0, 0.4) for _ in range(rng.randint(1, 3))]
    value = {"steps": rng.randint(3, 10), "pause_ms": rng.choice((1, 30, 120))}
    return value, {"pauses_s": pauses}


def _play_reused(job: Job, hands: Hands) -> Script:
    """The same id several times over, each time purged before the next start."""
    for number, steps in enumerate(job.plan["lives"], 1):
        value = {"steps": steps}
        if number > 1:
            yield from hands.until_ended(job.instance_id)
            yield from hands.purge(job.instance_id, number - 1)
        yield from hands.start(job.instance_id, job.workflow, value, number)


def _make_reused(rng: Random, _: str) -> tuple[Any, dict[str, Any]]:
    lives = [rng.randint(1, 4) for _ in range(rng.randint(2, 4))]
    return {"steps": lives[-1]}, {"lives": lives}


# --- events


def judge_numbers(job: Job, ending: Ending) -> Iterator[str]:
    """Every number once, in the order in which they were raised.

    Where the last second may be lost and is asked for again, later ones may have overtaken.
    """
    wanted = list(range(job.plan["count"]))
    if ending.status != "COMPLETED":
        yield f"ended as {ending.status}: {ending.failure}"
    elif (sorted(ending.output) if job.lossy else ending.output) != wanted:
        yield f"gave {ending.output!r}, not {wanted!r}"


def _play_events(job: Job, hands: Hands) -> Script:
    """Raise numbered events, some of them again under the same id, each after the last ack."""
    yield from play_start(job, hands)
    rng = Random(job.instance_id)
    for number in range(job.plan["count"]):
        yield rng.choice((0.0, 0.0, rng.uniform(0.0, 0.3)))
        event_id = f"{job.instance_id}/{number}"
        for _ in range(rng.choice((1, 1, 2, 3))):
            yield from hands.raise_event(job.instance_id, job.plan["event"], number, event_id)


def _make_collect(rng: Random, _: str) -> tuple[Any, dict[str, Any]]:
    count = rng.randint(1, 6)
    return {"name": "Go", "count": count}, {"event": rng.choice(("go", "GO")), "count": count}


def _make_loop(rng: Random, _: str) -> tuple[Any, dict[str, Any]]:
    rounds = rng.randint(1, 5)
    return {"round": 0, "rounds": rounds, "seen": []}, {"event": "tick", "count": rounds}


def _make_resident(rng: Random, _: str) -> tuple[Any, dict[str, Any]]:
    count = rng.randint(1, 8)
    return {"takes": rng.randint(0, count)}, {"event": "go", "count": count}


def _judge_resident(job: Job, ending: Ending) -> Iterator[str]:
    """It took its events in order, the others wait, and the instance lives."""
    taken = [e.result for e in ending.testimony.executions_of(job.instance_id) if e.name == "echo"]
    wanted = list(range(job.value["takes"]))
    if ending.status != "RUNNING":
        yield f"should wait for ever, and is {ending.status}: {ending.failure}"
    if ending.raised != job.plan["count"]:
        yield f"has recorded {ending.raised} events of {job.plan['count']}"
    for numbers in taken or [None]:
        if numbers is None or (not job.lossy and numbers != wanted):
            yield f"took {numbers!r}, not {wanted!r}"


def _play_mail(job: Job, hands: Hands) -> Script:
    """The reader first, then the instance that writes to it."""
    yield from play_start(job, hands)
    value = {"to": job.instance_id, "count": job.plan["count"]}
    yield from hands.start(f"{job.instance_id}.post", "post", value)


def _make_mail(rng: Random, _: str) -> tuple[Any, dict[str, Any]]:
    count = rng.randint(1, 5)
    return {"name": "mail", "count": count}, {"count": count, "also": ["post"]}


def _play_race(job: Job, hands: Hands) -> Script:
    yield from play_start(job, hands)
    if job.plan["raise_after_s"] is not None:
        yield job.plan["raise_after_s"]
        yield from hands.raise_event(
            job.instance_id, "answer", job.instance_id, f"{job.instance_id}/a"
        )


def _make_race(rng: Random, _: str) -> tuple[Any, dict[str, Any]]:
    value = {"timer_ms": rng.randint(50, 900), "slow_s": rng.uniform(0.05, 0.9)}
    return value, {"raise_after_s": rng.choice((None, 0.0, rng.uniform(0.0, 0.8)))}


def _judge_race(job: Job, ending: Ending) -> Iterator[str]:
    output = ending.output
    if ending.status != "COMPLETED":
        yield f"ended as {ending.status}: {ending.failure}"
        return
    winners = {"timer", "work"} | ({"event"} if job.plan["raise_after_s"] is not None else set())
    if output["won"] not in winners or output["told"] != output["won"]:
        yield f"gave {output!r}"
    if output["won"] == "event" and output["event"] != job.instance_id:
        yield f"got another's event: {output!r}"


# --- the end


def _play_parked(job: Job, hands: Hands) -> Script:
    yield from play_start(job, hands)
    yield job.plan["after_s"]
    yield from hands.terminate(job.instance_id)


def _judge_parked(_: Job, ending: Ending) -> Iterator[str]:
    if ending.status != "TERMINATED":
        yield f"was terminated, and is {ending.status}"


def _judge_doomed(job: Job, ending: Ending) -> Iterator[str]:
    wanted = f"doomed: {job.value}"
    if ending.status != "FAILED" or wanted not in ending.failure:
        yield f"ended as {ending.status} with {ending.failure!r}, not FAILED with {wanted!r}"


def _nodes(job: Job) -> int:
    depth, width = job.value["depth"], job.value["width"]
    return sum(width**level for level in range(depth + 1))


def _make_tree(rng: Random, instance_id: str) -> tuple[Any, dict[str, Any]]:
    depth = rng.randint(1, 3)
    width = rng.randint(1, 2 if depth == 3 else 3)
    return {
        "depth": depth,
        "width": width,
        "prefix": instance_id if rng.random() < 0.6 else None,
    }, {}


SHAPES = (
    Shape("chain", 20, _make_chain, judge_chain),
    Shape("async_chain", 6, lambda rng, _: ({"steps": rng.randint(1, 6)}, {}), judge_chain),
    Shape("inline_chain", 6, lambda rng, _: ({"steps": rng.randint(1, 8)}, {}), judge_chain),
    Shape("suspended", 6, _make_suspended, judge_chain, _play_suspended, "chain"),
    Shape(
        "reused", 5, _make_reused, judge_chain, _play_reused, "chain", repeatable=False
    ),
    Shape(
        "fan", 10, lambda rng, _: (rng.randint(0, 40), {}),
        must_be(lambda job: {
            "sum": sum(n * n for n in range(job.value)), "count": job.value
        }),
    ),
    Shape(
        "big_fan", 1, lambda rng, _: (rng.randint(1001, 2300), {}),
        must_be(lambda job: {
            "sum": sum(n * n for n in range(job.value)), "count": job.value
        }),
        workflow="fan",
    ),
    Shape("tree", 8, _make_tree, must_be(_nodes)),
    Shape(
        "retry", 8, lambda rng, _: (rng.randint(0, 5), {}),
        must_be(lambda job: (
            ["done", job.value + 1] if job.value < 4 else ["gave up", "RuntimeError"]
        )),
    ),
    Shape("doomed", 3, lambda rng, own: (own, {}), _judge_doomed),
    Shape(
        "child_retry", 4,
        lambda rng, own: (f"{own}.kid" if rng.random() < 0.6 else None, {}),
        must_be(lambda job: "doomed: child"),
    ),
    Shape(
        "timers", 8,
        lambda rng, _: ([rng.choice((0, 1, 20, 150, 600, 1500)) for _ in range(4)], {}),
        must_be(lambda job: {"fired": len(job.value), "early": 0}),
    ),
    Shape(
        "collect", 10, _make_collect, judge_numbers, _play_events,
    ),
    Shape(
        "loop", 7, _make_loop, judge_numbers, _play_events
    ),
    Shape(
        "resident", 4, _make_resident, _judge_resident, _play_events, stays=True
    ),
    Shape(
        "mail", 5, _make_mail, must_be(lambda job: list(range(job.plan["count"]))), _play_mail,
        "collect", repeatable=False,
    ),
    Shape(
        "count_up", 5,
        lambda rng, _: ({"round": rng.randint(0, 6), "total": 0, "pause_ms": rng.choice((0, 30))},
                        {}),
        must_be(lambda job: sum(range(job.value["round"] + 1))),
    ),
    Shape(
        "relay", 4,
        lambda rng, _: ({"round": 0, "rounds": rng.choice((1, 3)), "slow_s": rng.uniform(0.2, 0.8),
                         "seen": []}, {}),
        must_be(lambda job: [job.value["slow_s"]] * (job.value["rounds"] + 1)),
    ),
    Shape("race", 8, _make_race, _judge_race, _play_race),
    Shape("aside", 4, lambda rng, _: (rng.randint(1, 5), {}), must_be(lambda job: "awaited")),
    Shape(
        "parked", 4, lambda rng, _: (rng.randint(0, 2), {"after_s": rng.uniform(0.0, 2.0)}),
        _judge_parked, _play_parked,
    ),
    Shape(
        "patient", 2, lambda rng, _: (rng.uniform(0.5, 3.5), {}),
        must_be(lambda job: [job.value, "ActivityTimeout"]),
    ),
)  # fmt: skip


def draw_jobs(
    seed: int, *, lossy: bool = False, favour: Mapping[str, int] | None = None
) -> Iterator[Job]:
    """Yield jobs without end; the same ones for the same seed.

    `lossy` leaves out those whose script cannot be played twice. `favour` gives shapes other
    weights than their own.
    """
    rng = Random(f"jobs {seed}")
    weights = [
        (favour or {}).get(shape.name, shape.weight) * (not lossy or shape.repeatable)
        for shape in SHAPES
    ]
    number = 0
    while True:
        number += 1
        shape = rng.choices(SHAPES, weights)[0]
        job = shape.draw(rng, f"{shape.name.replace('_', '-')}-{seed}-{number}")
        job.lossy = lossy
        yield job
