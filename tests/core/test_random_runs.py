"""Random workflows under random events: replay always agrees, and batching does not matter."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.world import World, command, raised, registry_of
from wfq.core.context import WorkflowContext
from wfq.core.retry import RetryPolicy
from wfq.core.tasks import Task, when_all, when_any
from wfq.registry import Registry

Flow = Generator[Any, Any, Any]

RETRY = RetryPolicy(
    first_retry_interval=timedelta(seconds=1),
    max_number_of_attempts=3,
    backoff_coefficient=2,
    jitter=0.5,
)
SINGLE = ("activity", "timer", "wait a", "wait b", "wait a timeout", "wait now", "child", "retried")
STEPS = (*SINGLE, "all", "any", "forget", "status", "uuid", "send", "patch", "again")


def begin(ctx: WorkflowContext, step: str) -> Task[Any]:
    match step:
        case "activity":
            return ctx.call_activity("work")
        case "timer":
            return ctx.create_timer(timedelta(seconds=5))
        case "wait a" | "wait b":
            return ctx.wait_for_external_event(step[-1])
        case "wait a timeout":
            return ctx.wait_for_external_event("A", timeout=timedelta(seconds=5))
        case "wait now":
            return ctx.wait_for_external_event("b", timeout=timedelta(0))
        case "child":
            return ctx.call_child_workflow("child")
        case _:
            return ctx.call_child_workflow("child", retry_policy=RETRY)


def run(ctx: WorkflowContext, program: list[list[str]]) -> Flow:
    """Interpret a program: a list of steps, each with what it is made of."""
    trace: list[Any] = []
    for number, (step, *parts) in enumerate(program):
        try:
            match step:
                case "all":
                    trace.append((yield when_all([begin(ctx, part) for part in parts])))
                case "any":
                    tasks = [begin(ctx, part) for part in parts or ["timer"]]
                    winner = yield when_any(tasks)
                    trace.append(tasks.index(winner))
                case "forget":
                    ctx.call_activity("forgotten")
                case "status":
                    ctx.set_custom_status(number)
                case "uuid":
                    trace.append([ctx.new_uuid(), ctx.random.random()])
                case "send":
                    ctx.send_event("other-1", "hello", number)
                case "patch":
                    trace.append(ctx.is_patched(f"p{number % 2}"))
                case "again":
                    ctx.continue_as_new(program[number + 1 :], save_events=number % 2 == 0)
                    return None
                case _:
                    trace.append((yield begin(ctx, step)))
        except Exception as e:
            trace.append(f"{type(e).__name__}: {e}")
    return trace


REGISTRY = registry_of(run)
PROGRAMS = st.lists(
    st.builds(
        lambda step, parts: [step, *(parts if step in ("all", "any") else [])],
        st.sampled_from(STEPS),
        st.lists(st.sampled_from(SINGLE), max_size=3),
    ),
    max_size=8,
)
CHOICES = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50)), min_size=1, max_size=3),
    max_size=25,
)


def choose(world: World, choice: int, number: int) -> Any:
    """Return one possible event."""
    ids = sorted(world.instance.open)
    opened = world.instance.open[ids[number % len(ids)]] if ids else None
    if choice == 0:
        return raised("aAbB"[number % 4], number, f"id{number}" if number % 3 else None)
    if choice == 1:
        return command(("suspend", "resume")[number % 2], f"c{number % 20}")
    if choice == 2:
        return ["C", number % 9, f"n{number % 7}", "stale"]
    if opened is None:
        return world.started() if choice < 9 else ["W", "inc1"]
    task_id = opened.action[1]
    if opened.kind in "TE":
        return world.fired(task_id)
    return world.failed(task_id, f"no {number}") if choice < 5 else world.done(task_id, number)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PROGRAMS, CHOICES)
def test_replay_agrees_at_every_turn(
    program: list[list[str]], choices: list[list[tuple[int, int]]]
) -> None:
    world = World(run, program, registry=REGISTRY)
    world.start()
    for batch in choices:
        if world.status in ("COMPLETED", "FAILED", "TERMINATED"):
            break
        if world.instance.turns == 1:
            world.turn(world.started())
        # Now and then the code goes away, and comes back.
        if batch[0] == (9, 0):
            world.reload(Registry() if world.instance.has_code else REGISTRY)
        world.turn(*[choose(world, *pick) for pick in batch])
    assert world.status != "FAILED"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PROGRAMS.map(lambda p: [s for s in p if s[0] not in ("again", "retried")]), CHOICES)
def test_how_events_are_batched_makes_no_difference(
    program: list[list[str]], choices: list[list[tuple[int, int]]]
) -> None:
    together = World(run, program, registry=REGISTRY)
    apart = World(run, program, registry=REGISTRY)
    together.start()
    apart.turn(apart.started())
    for batch in choices:
        if together.status in ("COMPLETED", "FAILED"):
            break
        events = [choose(together, *pick) for pick in batch]
        events = [event for event in events if event[0] != "C" or event[3] != "stale"]
        together.turn(*events, after_ms=0)
        for event in events:
            opened = apart.instance.open.get(event[1]) if event[0] in "CXF" else None
            again = list(event)
            if opened is not None:
                again[2] = opened.nonce
            apart.turn(again, after_ms=0)

    assert together.status == apart.status
    assert decisions(together) == decisions(apart)


def decisions(world: World) -> list[Any]:
    """Return what was decided, apart from what is recorded once a turn, and from times.

    A turn that fires a timer is no earlier than that timer was due: times depend on the batches.
    """
    found = []
    for record in world.records[1:]:
        for action in record[4]:
            if action[0] in "ET":
                found.append(action[: 3 if action[0] == "E" else 2])
            elif action[0] != "U":
                found.append(action)
    return found
