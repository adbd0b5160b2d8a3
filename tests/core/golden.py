"""Workflows whose recorded histories must replay for ever, and how they were recorded.

The functions below never change: a change of theirs would be a change of what is tested. A new
behaviour gets a new function and a new history. ``python -m tests.core.golden`` writes the
histories that do not exist yet and leaves the others alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.core.world import World, as_stored, command, raised
from wfq.core.context import WorkflowContext
from wfq.core.events import Action, Event
from wfq.core.retry import RetryPolicy
from wfq.core.tasks import when_all, when_any
from wfq.core.turn import Turn
from wfq.registry import Registry

Flow = Generator[Any, Any, Any]
FOLDER = Path(__file__).parent / "histories"


@dataclass
class JobStatus:
    job_id: str
    is_healthy: bool


@dataclass
class Order:
    cost: float
    product: str
    quantity: int


def task_chain(ctx: WorkflowContext, value: int) -> Flow:
    try:
        one = yield ctx.call_activity("step1", input=value)
        two = yield ctx.call_activity("step2", input=one)
        three = yield ctx.call_activity("step3", input=two)
    except Exception as e:
        yield ctx.call_activity("error_handler", input=str(e))
        raise
    return [one, two, three]


async def task_chain_async(ctx: WorkflowContext, value: int) -> list[int]:
    one = await ctx.call_activity("step1", input=value)
    two = await ctx.call_activity("step2", input=one)
    return [one, two, await ctx.call_activity("step3", input=two)]


def batch_processing(ctx: WorkflowContext, size: int) -> Flow:
    batch = yield ctx.call_activity("get_work_batch", input=size)
    outputs = yield when_all([ctx.call_activity("process", input=item) for item in batch])
    yield ctx.call_activity("process_results", input=sum(outputs))


def status_monitor(ctx: WorkflowContext, job: JobStatus) -> Flow:
    status = yield ctx.call_activity("check_status", input=job)
    if status == "healthy":
        job.is_healthy = True
        interval = 60
    else:
        if job.is_healthy:
            job.is_healthy = False
            ctx.call_activity("send_alert", input=f"Job '{job.job_id}' is unhealthy!")
        interval = 5
    yield ctx.create_timer(fire_at=ctx.current_utc_datetime + timedelta(seconds=interval))
    ctx.continue_as_new(job)


def purchase_order(ctx: WorkflowContext, order: Order) -> Flow:
    if order.cost < 1000:
        return "Auto-approved"
    yield ctx.call_activity("send_approval_request", input=order)
    approval_event = ctx.wait_for_external_event("approval_received")
    timeout_event = ctx.create_timer(timedelta(hours=24))
    winner = yield when_any([approval_event, timeout_event])
    if winner == timeout_event:
        return "Cancelled"
    yield ctx.call_activity("place_order", input=order)
    return f"Approved by '{approval_event.get_result()['approver']}'"


def order_processing(ctx: WorkflowContext, order: dict[str, Any]) -> dict[str, bool]:
    return {"Processed": True}


def family(ctx: WorkflowContext) -> Flow:
    policy = RetryPolicy(
        first_retry_interval=timedelta(seconds=1),
        max_number_of_attempts=3,
        backoff_coefficient=2.0,
        jitter=0.5,
    )
    own = ctx.call_child_workflow("child", instance_id="my-child")
    retried = ctx.call_child_workflow("child", input=1, retry_policy=policy, app_id="other")
    results = yield when_all([own, retried])
    return results


def conversation(ctx: WorkflowContext) -> Flow:
    said = [(yield ctx.wait_for_external_event("Hello", timeout=timedelta(seconds=9)))]
    try:
        yield ctx.wait_for_external_event("never", timeout=timedelta(seconds=9))
    except TimeoutError as e:
        said.append(str(e))
    try:
        yield ctx.wait_for_external_event("now", timeout=timedelta(0))
    except TimeoutError as e:
        said.append(str(e))
    ctx.send_event("other-1", "bye", said)
    said.append((yield ctx.wait_for_external_event("hello")))
    ctx.set_custom_status(said)
    return said


def drawn(ctx: WorkflowContext) -> Flow:
    first = [ctx.new_uuid(), ctx.random.random(), str(ctx.current_utc_datetime)]
    patched = ctx.is_patched("a-change")
    yield ctx.call_activity("a")
    return [*first, ctx.new_uuid(), ctx.random.randint(1, 100), patched, ctx.version]


def registry() -> Registry:
    """Return a registry of the golden workflows."""
    found = Registry()
    for function in (
        task_chain,
        task_chain_async,
        batch_processing,
        status_monitor,
        purchase_order,
        order_processing,
        family,
        conversation,
    ):
        found.register_workflow(function)
    found.register_workflow(drawn, version="1.5", is_latest=True)
    return found


def _chain(world: World) -> None:
    world.start()
    world.turn(world.done(0, 43))
    world.turn(world.done(1, 86))
    world.turn(world.done(2, 84))


def _chain_fails(world: World) -> None:
    world.start()
    world.turn(world.done(0, 43))
    world.turn(world.failed(1, "no luck"))
    world.turn(world.done(2))


def _fan_out(world: World) -> None:
    world.start()
    world.turn(world.done(0, [1, 2, 3]))
    world.turn(world.done(3, 6), world.done(1, 2))
    world.turn(world.done(2, 4))
    world.turn(world.done(4))


def _fan_out_halfway(world: World) -> None:
    world.start()
    world.turn(world.done(0, [1, 2, 3]))
    world.turn(world.done(2, 4))


def _monitor(world: World) -> None:
    world.start()
    world.turn(world.done(0, "healthy"))
    world.turn(world.fired(1))
    world.start()
    world.turn(world.done(0, "unhealthy"))


def _approved(world: World) -> None:
    world.start()
    world.turn(world.done(0))
    world.turn(raised("Approval_Received", {"approver": "Jane Doe"}, "message-1"))
    world.turn(world.done(3))


def _cancelled(world: World) -> None:
    world.start()
    world.turn(world.done(0))
    world.turn(world.fired(2))


def _family(world: World) -> None:
    world.start()
    world.turn(world.done(0, "mine"), world.failed(1))
    world.turn(world.fired(2))
    world.turn(world.failed(3))
    world.turn(world.fired(4))
    world.turn(world.done(5, "at last"))


def _conversation(world: World) -> None:
    world.turn(raised("hello", "early"))
    world.start()
    world.turn(command("suspend", "c1", reason="lunch"))
    world.turn(world.fired(1), raised("HELLO", "held"))
    world.turn(command("resume", "c2"))


def _terminated(world: World) -> None:
    world.start()
    world.turn(world.done(0))
    world.turn(command("terminate", "c1", output="enough", recursive=True))


def _without_code(world: World) -> None:
    world.start()
    completion = world.done(0, 43)
    world.reload(Registry())
    world.turn(completion)
    world.reload(registry())
    world.turn(["W", "inc1"])


def _drawn(world: World) -> None:
    world.start()
    world.turn(["U", 0, "n0", "no worker knows activity 'a'"])
    world.turn(world.done(0))


def _run(world: World) -> None:
    world.start()


class _Inline:
    """Has the results of the first two steps at once."""

    names = frozenset(("step1", "step2"))

    def bring(self, turn: Turn, actions: list[Action], asked: int) -> list[Event] | None:
        return [["C", a[1], turn.nonce, 2 * a[3]] for a in actions[asked:] if a[2] in self.names]


def _inline(world: World) -> None:
    turn = world.instance.apply([world.started()], world.now_ms, "n0", _Inline())
    world.records.append(as_stored(turn.record()))
    world.turns = 1
    world.turn(world.done(2, 84))


#: File name: workflow, input, what happens.
RECORDINGS: dict[str, tuple[str, Any, Callable[[World], None]]] = {
    "chain": ("task_chain", 42, _chain),
    "chain-async": ("task_chain_async", 42, _chain),
    "chain-compensated": ("task_chain", 42, _chain_fails),
    "chain-without-code": ("task_chain", 42, _without_code),
    "fan-out": ("batch_processing", 3, _fan_out),
    "fan-out-halfway": ("batch_processing", 3, _fan_out_halfway),
    "monitor": ("status_monitor", JobStatus("job-1", True), _monitor),
    "order-auto-approved": ("purchase_order", Order(9.5, "pen", 1), _run),
    "order-approved": ("purchase_order", Order(5000, "car", 1), _approved),
    "order-cancelled": ("purchase_order", Order(5000, "car", 1), _cancelled),
    "order-terminated": ("purchase_order", Order(5000, "car", 1), _terminated),
    "async-http": ("order_processing", {"Name": "Paperclips"}, _run),
    "children": ("family", None, _family),
    "events": ("conversation", None, _conversation),
    "drawn": ("drawn", None, _drawn),
    "inline-steps": ("task_chain", 42, _inline),
}


def record(name: str) -> dict[str, Any]:
    """Return a history as it is stored, made by the code of today."""
    workflow, value, play = RECORDINGS[name]
    world = World(workflow, value, registry=registry())
    play(world)
    _forget_stacks(world.records)
    return {
        "instance_id": world.id,
        "workflow": workflow,
        "status": world.status,
        "open": [[i, o.kind, o.nonce] for i, o in sorted(world.instance.open.items())],
        "records": world.records,
    }


def _forget_stacks(part: Any) -> None:
    """Blank stack traces, which name the files of whoever recorded."""
    if isinstance(part, dict):
        if "stack" in part:
            part["stack"] = ""
        for value in part.values():
            _forget_stacks(value)
    elif isinstance(part, list):
        for value in part:
            _forget_stacks(value)


def write(path: Path, recording: dict[str, Any]) -> None:
    """Write a history with one record a line."""
    records = recording.pop("records")
    head = json.dumps(recording, ensure_ascii=False)[:-1]
    lines = ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in records)
    path.write_text(f'{head},\n "records": [\n  {lines}\n]}}\n')


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in RECORDINGS:
        path = FOLDER / f"{name}.json"
        if not path.exists():
            write(path, record(name))
