"""The campaign's program: workflows of every shape, whose results a model can foretell.

Every activity writes to the ledger before it returns, so that each recorded result can be
traced to an execution. `stamp`s differ from execution to execution: a result that was mixed up
between tasks, or made up, is found out.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import wfq as wf
from tests.chaos.ledger import Ledger

Steps = Generator[Any, Any, Any]

wfr = wf.WorkflowRuntime()
ledger = Ledger.of_environment()


def _done(ctx: wf.ActivityContext, result: Any) -> Any:
    key = ctx.idempotency_key
    ledger.executed(key, ctx.workflow_id, ctx.task_id, ctx.attempt, ctx.activity_name, result)
    return result


# --- activities


@wfr.activity
def echo(ctx: wf.ActivityContext, value: Any) -> Any:
    return _done(ctx, value)


@wfr.activity
def add(ctx: wf.ActivityContext, given: list[int]) -> list[Any]:
    """Return the sum and a stamp."""
    return list(_done(ctx, [given[0] + given[1], uuid4().hex]))


@wfr.activity
async def square(ctx: wf.ActivityContext, number: int) -> int:
    return int(_done(ctx, number * number))


@wfr.activity
def split(ctx: wf.ActivityContext, count: int) -> list[int]:
    return list(_done(ctx, list(range(count))))


@wfr.activity
def flaky(ctx: wf.ActivityContext, fails: int) -> int:
    """Fail the first `fails` attempts, then return the number of the attempt."""
    if ctx.attempt <= fails:
        _done(ctx, None)
        raise RuntimeError(f"attempt {ctx.attempt} fails as it should")
    return int(_done(ctx, ctx.attempt))


@wfr.activity(inline=True)
def add_here(ctx: wf.ActivityContext, given: list[int]) -> list[Any]:
    """Add within the orchestrator's turn."""
    return list(_done(ctx, [given[0] + given[1], uuid4().hex]))


@wfr.activity(inline=True)
def flaky_here(ctx: wf.ActivityContext, fails: int) -> int:
    """Fail within the orchestrator's turn; the next attempts are anybody's."""
    if ctx.attempt <= fails:
        _done(ctx, None)
        raise RuntimeError(f"attempt {ctx.attempt} fails as it should")
    return int(_done(ctx, ctx.attempt))


@wfr.activity
def slow(ctx: wf.ActivityContext, seconds: float) -> float:
    """Take long, with heartbeats."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not ctx.is_cancelled:
        ctx.heartbeat({"left": end - time.monotonic()})
        time.sleep(0.05)
    return float(_done(ctx, seconds))


# --- workflows


def _policy(first: timedelta, attempts: int) -> wf.RetryPolicy:
    return wf.RetryPolicy(
        first_retry_interval=first, max_number_of_attempts=attempts, backoff_coefficient=2.0
    )


@wfr.workflow
def chain(ctx: wf.WorkflowContext, given: dict[str, Any]) -> Steps:
    """Steps one after the other; ids and random numbers must survive every replay."""
    ctx.set_custom_status({"secret": given.get("secret")})
    token = str(ctx.new_uuid())
    echoed = yield ctx.call_activity(echo, input=token)
    total, stamps = 0, []
    for step in range(given["steps"]):
        total, stamp = yield ctx.call_activity(add, input=[total, step])
        stamps.append(stamp)
        if given.get("pause_ms"):
            yield ctx.create_timer(timedelta(milliseconds=given["pause_ms"]))
    return {"total": total, "stamps": stamps, "same": echoed == token}


@wfr.workflow
async def async_chain(ctx: wf.WorkflowContext, given: dict[str, Any]) -> dict[str, Any]:
    total, stamps = 0, []
    for step in range(given["steps"]):
        total, stamp = await ctx.call_activity(add, input=[total, step])
        stamps.append(stamp)
    return {"total": total, "stamps": stamps, "same": True}


@wfr.workflow
def inline_chain(ctx: wf.WorkflowContext, given: dict[str, Any]) -> Steps:
    """Steps within the turn and steps elsewhere, with a retry in between."""
    total, stamps, attempt = 0, [], 0
    for step in range(given["steps"]):
        total, stamp = yield ctx.call_activity(add_here if step % 3 else add, input=[total, step])
        stamps.append(stamp)
        if step == 1:
            policy = _policy(timedelta(milliseconds=40), 4)
            attempt = yield ctx.call_activity(flaky_here, input=1, retry_policy=policy)
    beside = yield wf.when_all([ctx.call_activity(add_here, input=[n, n]) for n in range(3)])
    same = attempt in (0, 2) and [total for total, _ in beside] == [0, 2, 4]
    return {"total": total, "stamps": stamps, "same": same}


@wfr.workflow
def fan(ctx: wf.WorkflowContext, count: int) -> Steps:
    """Fan out over what an activity found, and in again."""
    numbers = yield ctx.call_activity(split, input=count)
    squares = yield wf.when_all([ctx.call_activity(square, input=n) for n in numbers])
    return {"sum": sum(squares), "count": len(squares)}


@wfr.workflow
def tree(ctx: wf.WorkflowContext, given: dict[str, Any]) -> Steps:
    """Children of children; with `prefix` their ids lie in other partitions."""
    depth, width, prefix = given["depth"], given["width"], given.get("prefix")
    if depth == 0:
        total, _ = yield ctx.call_activity(add, input=[0, 1])
        return total
    children = []
    for n in range(width):
        own = f"{prefix}.{n}" if prefix else None
        value = {"depth": depth - 1, "width": width, "prefix": own}
        children.append(ctx.call_child_workflow(tree, input=value, instance_id=own))
    nodes = yield wf.when_all(children)
    total, _ = yield ctx.call_activity(add, input=[sum(nodes), 1])
    return total


@wfr.workflow
def retry(ctx: wf.WorkflowContext, fails: int) -> Steps:
    policy = _policy(timedelta(milliseconds=40), 4)
    try:
        attempt = yield ctx.call_activity(flaky, input=fails, retry_policy=policy)
    except wf.TaskFailedError as exc:
        return ["gave up", exc.details.error_type]
    return ["done", attempt]


@wfr.workflow
def doomed(ctx: wf.WorkflowContext, what: str) -> Steps:
    yield ctx.call_activity(echo, input=what)
    raise ValueError(f"doomed: {what}")


@wfr.workflow
def child_retry(ctx: wf.WorkflowContext, own_id: str | None) -> Steps:
    policy = _policy(timedelta(milliseconds=50), 3)
    try:
        yield ctx.call_child_workflow(
            doomed, input="child", instance_id=own_id, retry_policy=policy
        )
    except wf.TaskFailedError as exc:
        return exc.details.message
    return "unexpected"


@wfr.workflow
def timers(ctx: wf.WorkflowContext, waits_ms: list[int]) -> Steps:
    early = 0
    for wait_ms in waits_ms:
        before = ctx.current_utc_datetime
        wait = timedelta(milliseconds=wait_ms)
        yield ctx.create_timer(wait)
        early += ctx.current_utc_datetime - before < wait
    return {"fired": len(waits_ms), "early": early}


@wfr.workflow
def collect(ctx: wf.WorkflowContext, given: dict[str, Any]) -> Steps:
    """Take `count` events of one name, in order; two waiters at a time."""
    name, count = given["name"], given["count"]
    yield ctx.call_activity(echo, input=name)
    waits = [ctx.wait_for_external_event(name.upper()) for _ in range(min(2, count))]
    found = []
    for n in range(count):
        found.append((yield waits[n]))
        if len(waits) < count:
            waits.append(ctx.wait_for_external_event(name, timeout=timedelta(hours=1)))
    return found


@wfr.workflow
def post(ctx: wf.WorkflowContext, given: dict[str, Any]) -> Steps:
    """Send numbered events to another instance."""
    for n in range(given["count"]):
        ctx.send_event(given["to"], "mail", n)
        yield ctx.call_activity(echo, input=n)
    return given["count"]


@wfr.workflow
def race(ctx: wf.WorkflowContext, given: dict[str, Any]) -> Steps:
    """An event, a timer and an activity race; then the winner is told to an activity."""
    event = ctx.wait_for_external_event("answer")
    timer = ctx.create_timer(timedelta(milliseconds=given["timer_ms"]))
    work = ctx.call_activity(slow, input=given["slow_s"])
    won = yield wf.when_any([event, timer, work])
    name = "event" if won == event else "timer" if won == timer else "work"
    told = yield ctx.call_activity(echo, input=name)
    return {"won": name, "told": told, "event": event.get_result() if won == event else None}


@wfr.workflow
def loop(ctx: wf.WorkflowContext, given: dict[str, Any]) -> Steps:
    """Continue as new with a buffer of events that came early."""
    yield ctx.call_activity(echo, input=given["round"])
    tick = yield ctx.wait_for_external_event("tick")
    seen = [*given["seen"], tick]
    if given["round"] + 1 < given["rounds"]:
        again = {**given, "round": given["round"] + 1, "seen": seen}
        ctx.continue_as_new(again, save_events=True)
        return None
    return seen


@wfr.workflow
def count_up(ctx: wf.WorkflowContext, given: dict[str, Any]) -> Steps:
    """Continue as new without events; each generation leaves a task that nobody awaits."""
    ctx.call_activity(echo, input="aside")
    total, _ = yield ctx.call_activity(add, input=[given["total"], given["round"]])
    yield ctx.create_timer(timedelta(milliseconds=given["pause_ms"]))
    if given["round"] > 0:
        ctx.continue_as_new({**given, "round": given["round"] - 1, "total": total})
        return None
    return total


@wfr.workflow
def relay(ctx: wf.WorkflowContext, given: dict[str, Any]) -> Steps:
    """Each other generation leaves a task behind, and the next awaits one of the same number."""
    if given["round"] % 2:
        took = yield ctx.call_activity(slow, input=given["slow_s"])
    else:
        ctx.call_activity(slow, input=given["slow_s"] / 3)
        took = given["slow_s"]
        yield ctx.call_activity(echo, input="quick")
    seen = [*given["seen"], took]
    if given["round"] < given["rounds"]:
        ctx.continue_as_new({**given, "round": given["round"] + 1, "seen": seen})
        return None
    return seen


@wfr.workflow
def aside(ctx: wf.WorkflowContext, count: int) -> Steps:
    """End while tasks that nobody awaits are still to run."""
    for n in range(count):
        ctx.call_activity(echo, input=n)
    done = yield ctx.call_activity(echo, input="awaited")
    for n in range(count):
        ctx.call_activity(echo, input=-n)
    return done


@wfr.workflow
def parked(ctx: wf.WorkflowContext, depth: int) -> Steps:
    """Wait for ever, with everything open that an end must clear away."""
    ctx.create_timer(timedelta(hours=1))
    policy = _policy(timedelta(minutes=30), 5)
    ctx.call_activity(flaky, input=99, retry_policy=policy)
    if depth:
        ctx.call_child_workflow(parked, input=depth - 1)
        own_id = ctx.instance_id.replace("~", ".") + ".kid"
        ctx.call_child_workflow(parked, input=0, instance_id=own_id)
    yield ctx.wait_for_external_event("never", timeout=timedelta(hours=2))
    return "unexpected"


@wfr.workflow
def resident(ctx: wf.WorkflowContext, given: dict[str, Any]) -> Steps:
    """Take some events and never end, with everything open that can wake an instance."""
    ctx.create_timer(timedelta(hours=1))
    ctx.call_activity(flaky, input=99, retry_policy=_policy(timedelta(minutes=30), 5))
    ctx.call_child_workflow(parked, input=0)
    taken = []
    for _ in range(given["takes"]):
        taken.append((yield ctx.wait_for_external_event("go")))
    yield ctx.call_activity(echo, input=taken)
    yield ctx.wait_for_external_event("never", timeout=timedelta(hours=2))
    return "unexpected"


@wfr.workflow
def patient(ctx: wf.WorkflowContext, seconds: float) -> Steps:
    """An activity that outlives its lease several times, and one that overruns its timeout."""
    took = yield ctx.call_activity(slow, input=seconds)
    try:
        yield ctx.call_activity(slow, input=30.0, timeout=timedelta(milliseconds=300))
    except wf.TaskFailedError as exc:
        return [took, exc.details.error_type]
    return [took, "unexpected"]
