"""What the migration page says of behaviours, shown on the engine in memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

import wfq as wf
from tests.docs.executed import Shown
from wfq.core.instance import Instance
from wfq.errors import NonDeterministicWorkflow

#: Seconds that anything here may take.
SOON_S = 20


@dataclass
class Order:
    cost: float


class Program:
    """A runtime, run in memory from the first `output` on."""

    def __init__(self) -> None:
        self.app = wf.WorkflowRuntime(redis_url="memory://claims")
        self._running = wf.testing.in_memory(self.app)
        self._client: wf.WorkflowClient | None = None

    @property
    def client(self) -> wf.WorkflowClient:
        if self._client is None:
            self._client = self._running.__enter__()
        return self._client

    def ended(self, workflow: Any, value: Any = None, instance_id: str | None = None) -> Any:
        """The state in which an instance ends."""
        started = self.client.schedule_new_workflow(workflow, input=value, instance_id=instance_id)
        return self.client.wait_for_workflow_completion(started, timeout_in_seconds=SOON_S)

    def close(self) -> None:
        if self._client is not None:
            self._running.__exit__(None, None, None)


@pytest.fixture
def program() -> Iterator[Program]:
    made = Program()
    yield made
    made.close()


def test_the_annotation_decides_what_a_dataclass_arrives_as(program: Program) -> None:
    @program.app.workflow
    def annotated(ctx: wf.WorkflowContext, order: Order) -> str:
        return type(order).__name__

    @program.app.workflow
    def plain(ctx, order):  # type: ignore[no-untyped-def]  # as in programs without annotations
        return type(order).__name__

    assert program.ended(annotated, Order(1)).output() == "Order"
    assert program.ended(plain, Order(1)).output() == "dict"


def test_a_custom_status_is_json_like_every_payload(program: Program) -> None:
    @program.app.workflow
    def flow(ctx: wf.WorkflowContext) -> None:
        ctx.set_custom_status("half")

    state = program.ended(flow)

    assert (state.serialized_custom_status, state.custom_status()) == ('"half"', "half")


def test_when_all_waits_for_all_and_raises_the_first_in_task_order(program: Program) -> None:
    done: list[int] = []

    @program.app.workflow
    def flow(ctx: wf.WorkflowContext) -> Iterator[Any]:
        yield wf.when_all([ctx.call_activity(work, input=n) for n in (3, 1, 2)])

    @program.app.activity
    def work(n: int) -> None:
        done.append(n)
        if n > 1:
            raise ValueError(f"number {n}")

    failure = program.ended(flow).failure_details

    assert sorted(done) == [1, 2, 3]
    assert "number 3" in failure.message


def test_when_any_of_nothing_is_an_error(program: Program) -> None:
    @program.app.workflow
    def flow(ctx: wf.WorkflowContext) -> Iterator[Any]:
        yield wf.when_any([])

    assert program.ended(flow).runtime_status.name == "FAILED"


def test_an_error_after_continue_as_new_fails_the_instance(program: Program) -> None:
    @program.app.workflow
    def flow(ctx: wf.WorkflowContext, rounds: int = 0) -> None:
        ctx.continue_as_new(rounds + 1)
        raise ValueError("nobody sees this")

    assert program.ended(flow).failure_details.message == "nobody sees this"


def test_what_nobody_awaits_runs_all_the_same(program: Program) -> None:
    told: list[str] = []

    @program.app.workflow
    def flow(ctx: wf.WorkflowContext) -> str:
        ctx.call_activity(tell, input="once")
        return "over"

    @program.app.activity
    def tell(text: str) -> None:
        told.append(text)

    @program.app.workflow
    def after(ctx: wf.WorkflowContext) -> Iterator[Any]:
        yield ctx.create_timer(timedelta(milliseconds=200))

    assert program.ended(flow).output() == "over"
    program.ended(after)
    assert told == ["once"]


def test_a_sender_and_a_waiter_learn_that_nobody_is_there(program: Program) -> None:
    @program.app.workflow
    def flow(ctx: wf.WorkflowContext) -> None: ...

    program.ended(flow, instance_id="over")

    with pytest.raises(wf.InstanceNotFound):
        program.client.raise_workflow_event("nobody", "x")
    with pytest.raises(wf.InstanceFinished):
        program.client.raise_workflow_event("over", "x")
    with pytest.raises(wf.InstanceNotFound):
        program.client.wait_for_workflow_completion("nobody", timeout_in_seconds=1)
    assert program.client.get_workflow_state("nobody") is None


def test_an_id_may_be_used_again_once_its_instance_has_ended(program: Program) -> None:
    @program.app.workflow
    def flow(ctx: wf.WorkflowContext, value: int) -> Iterator[Any]:
        if value > 1:
            yield ctx.wait_for_external_event("never")

    program.ended(flow, 1, "order-7")
    with pytest.raises(wf.InstanceAlreadyExists):
        program.client.schedule_new_workflow(
            flow, input=1, instance_id="order-7", reuse_id_policy="error"
        )
    program.client.schedule_new_workflow(flow, input=2, instance_id="order-7")
    with pytest.raises(wf.InstanceAlreadyExists):
        program.client.schedule_new_workflow(flow, input=3, instance_id="order-7")


def test_no_input_and_none_call_the_function_with_its_default(program: Program) -> None:
    @program.app.workflow
    def flow(ctx: wf.WorkflowContext, value: int = 5) -> Generator[Any, Any, list[int]]:
        given = yield ctx.call_activity(echo, input=None)
        absent = yield ctx.call_activity(echo)
        return [value, given, absent]

    @program.app.activity
    def echo(value: int = 7) -> int:
        return value

    assert program.ended(flow).output() == [5, 7, 7]


def test_retries_leave_two_events_and_the_number_of_attempts(program: Program) -> None:
    policy = wf.RetryPolicy(first_retry_interval=timedelta(0), max_number_of_attempts=3)

    @program.app.workflow
    def flow(ctx: wf.WorkflowContext) -> Iterator[Any]:
        yield ctx.call_activity(fragile, retry_policy=policy)

    @program.app.activity
    def fragile(ctx: wf.ActivityContext) -> None:
        if ctx.attempt < 3:
            raise ConnectionError("not yet")

    program.ended(flow, instance_id="r")

    events = [e for e in program.client.get_workflow_history("r") if e.name == "fragile"]
    assert [e.event_type.value for e in events] == ["TaskScheduled", "TaskCompleted"]
    assert events[-1].attempts == 3


def test_code_that_does_not_fit_stalls_with_the_words_of_the_page(shown: Shown) -> None:
    (block,) = shown.of()
    old, new = Program(), Program()

    @old.app.workflow
    def ship(ctx: wf.WorkflowContext) -> Iterator[Any]:
        yield ctx.call_activity("send")

    source = 'def ship(ctx):\n    yield ctx.call_activity("insure")\n'
    own: dict[str, Any] = {}
    exec(compile("\n" * 12 + source, "/app/flows.py", "exec"), own)
    new.app.register_workflow(own["ship"])

    birth = ["B", 0, "i", 0, "ship", None, None, {"noinput": True}]
    turn = ["T", 0, "n", [["S", "i"]], [["A", 0, "send", None, {"n": True}]], None]
    Instance.load("order-7", [birth, turn], old.app.registry)

    with pytest.raises(NonDeterministicWorkflow) as caught:
        Instance.load("order-7", [birth, turn], new.app.registry)

    told = str(caught.value).replace("/app/", ".../")
    assert told == " ".join(shown.use(block).text.split())


DAPR_PROGRAM = """
import dapr.ext.workflow as wf

from dapr.clients import DaprClient

wfr = wf.WorkflowRuntime()


@wfr.workflow
def order(ctx: wf.DaprWorkflowContext, wf_input: int):
    return (yield ctx.call_activity(double, input=wf_input))


@wfr.activity
def double(ctx: wf.WorkflowActivityContext, act_input: int) -> int:
    return act_input * 2


def main() -> str:
    wfr.start()
    with DaprClient() as dapr:
        started = dapr.start_workflow(workflow_component="dapr", workflow_name="order", input=21)
        wf_client = wf.DaprWorkflowClient()
        state = wf_client.wait_for_workflow_completion(started.instance_id, timeout_in_seconds=20)
    wfr.shutdown()
    return state.serialized_output
"""


def test_a_dapr_program_runs_after_the_change(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = shown.of()
    lines = shown.use(block).text.splitlines()
    before = [line[1:] for line in lines if line.startswith("-")]
    after = [line[1:] for line in lines if line.startswith("+")]
    program = DAPR_PROGRAM
    for old, new in zip(before, after, strict=True):
        assert f"\n{old}\n" in program
        program = program.replace(old, new)
    monkeypatch.setenv("WFQ_REDIS_URL", "memory://dapr-program")

    own: dict[str, Any] = {}
    exec(compile(program, "program.py", "exec", dont_inherit=True), own)

    assert own["main"]() == "42"
