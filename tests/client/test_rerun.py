"""Running instances again: from the beginning, and from any event with earlier results kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from datetime import timedelta
from typing import Any

import orjson
import pytest

import wfq as wf
from tests.client.kit import NAMESPACE, Hand
from wfq.errors import ConfigurationError, InstanceAlreadyExists, InstanceRunning
from wfq.storage import reruns

Made = Generator[Any, Any, Any]


class Shop:
    """A program whose activities count how often they ran."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.broken = True
        self.runtime = wfr = wf.WorkflowRuntime()

        @wfr.activity
        def validate(ctx: wf.ActivityContext, amount: int) -> str:
            self.ran["validate"] += 1
            return "valid"

        @wfr.activity
        def charge(ctx: wf.ActivityContext, amount: int) -> str:
            self.ran["charge"] += 1
            if amount <= 0:
                raise ValueError(f"amount must be positive, got {amount}")
            return f"charged {amount}"

        @wfr.activity
        def ship(ctx: wf.ActivityContext) -> str:
            self.ran["ship"] += 1
            if self.broken:
                raise OSError("no truck")
            return "shipped"

        @wfr.activity
        def double(ctx: wf.ActivityContext, number: int) -> int:
            self.ran[f"double {number}"] += 1
            return number * 2

        @wfr.workflow
        def order(ctx: wf.WorkflowContext, amount: int) -> Made:
            yield ctx.call_activity(validate, input=amount)
            receipt = yield ctx.call_activity(charge, input=amount)
            shipped = yield ctx.call_activity(ship)
            return [receipt, shipped]

        @wfr.workflow
        def child(ctx: wf.WorkflowContext, number: int) -> Made:
            self.ran[f"child {number}"] += 1
            result = yield ctx.call_activity(double, input=number)
            return result

        @wfr.workflow
        def everything(ctx: wf.WorkflowContext, number: int) -> Made:
            told = [ctx.new_uuid(), ctx.random.random()]
            ctx.set_custom_status("began")
            parts = [ctx.call_activity(double, input=n) for n in range(3)]
            event = ctx.wait_for_external_event("go", timeout=timedelta(minutes=5))
            first = yield wf.when_any(parts)
            ctx.send_event("nobody", "ping", 1)
            doubled = yield wf.when_all(parts)
            answer = yield event
            yield ctx.create_timer(timedelta(milliseconds=20))
            below = yield ctx.call_child_workflow(child, input=number)
            other = yield ctx.call_child_workflow(child, input=9)
            patched = ctx.is_patched("p")
            told += [ctx.new_uuid(), ctx.random.random()]
            late = ctx.wait_for_external_event("never", timeout=timedelta(milliseconds=10))
            try:
                yield late
            except TimeoutError:
                told.append("late")
            return [first in parts, doubled, answer, below, other, patched, told]

        @wfr.workflow
        def patient(ctx: wf.WorkflowContext) -> Made:
            approval = ctx.wait_for_external_event("approval")
            deadline = ctx.create_timer(timedelta(hours=24))
            winner = yield wf.when_any([approval, deadline])
            return "cancelled" if winner is deadline else approval.get_result()


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def running(redis_url: str, shop: Shop) -> Iterator[wf.WorkflowClient]:
    """A client, with the shop's workers in this process."""
    workers = wf.WorkflowRuntime(redis_url=redis_url, namespace=NAMESPACE)
    workers.registry = shop.runtime.registry
    with wf.WorkflowClient(redis_url=redis_url, namespace=NAMESPACE) as client, workers:
        yield client


@pytest.fixture
def in_memory(shop: Shop) -> Iterator[wf.WorkflowClient]:
    with wf.testing.in_memory(shop.runtime) as client:
        yield client


def end(client: wf.WorkflowClient, instance_id: str) -> wf.WorkflowState[Any]:
    return client.wait_for_workflow_completion(instance_id, timeout_in_seconds=30)


def index_of(client: wf.WorkflowClient, instance_id: str, kind: str, name: str = "") -> int:
    """The number of the first event of that kind (and name)."""
    return next(
        event.index
        for event in client.get_workflow_history(instance_id)
        if event.event_type.value == kind and name in ("", event.name)
    )


# --- from the beginning


def test_a_rerun_is_a_new_instance_with_the_same_input(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    client.schedule_new_workflow("w", input=[1], instance_id="a", tags={"k": "v"}, app_id="shop")
    hand.fail("a")

    again = client.rerun_workflow("a")

    state = client.get_workflow_state(again)
    assert state is not None
    assert (state.input(), state.name, state.tags, state.app_id) == ([1], "w", {"k": "v"}, "shop")
    assert state.runtime_status.name == "PENDING"
    old = client.get_workflow_state("a")
    assert old is not None
    assert old.runtime_status.name == "FAILED"
    assert [event[0] for event in hand.events(again)] == ["S"]


@pytest.mark.parametrize(("given", "stored"), [(7, 7), (None, None), ("", "")])
def test_a_rerun_takes_another_input(
    client: wf.WorkflowClient, hand: Hand, given: Any, stored: Any
) -> None:
    client.schedule_new_workflow("w", input=[1], instance_id="a")

    again = client.rerun_workflow("a", input=given, from_event=0)

    birth = hand.history(again)[0]
    assert birth[5] == stored
    assert bool((birth[7] or {}).get("noinput")) is (given is None)


def test_an_id_is_used_again_once_the_instance_has_ended(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    client.schedule_new_workflow("w", input=1, instance_id="a")
    with pytest.raises(InstanceRunning, match="'a' has not ended"):
        client.rerun_workflow("a", new_instance_id="a")
    hand.complete("a")

    assert client.rerun_workflow("a", new_instance_id="a") == "a"

    state = client.get_workflow_state("a")
    assert state is not None
    assert state.runtime_status.name == "PENDING"
    assert [s.instance_id for s in client.list_workflows()] == ["a"]


def test_another_instances_id_is_refused_even_if_it_has_ended(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    client.schedule_new_workflow("w", instance_id="a")
    client.schedule_new_workflow("w", instance_id="b")
    hand.complete("b")

    with pytest.raises(InstanceAlreadyExists, match="'b' exists already"):
        client.rerun_workflow("a", new_instance_id="b")


def test_an_event_that_is_not_there_is_refused(client: wf.WorkflowClient) -> None:
    client.schedule_new_workflow("w", instance_id="a")

    for index in (1, -1, 99):
        with pytest.raises(ConfigurationError, match=f"no event {index}; its history has 0 to 0"):
            client.rerun_workflow("a", from_event=index)


# --- from an event


def test_a_failed_step_is_done_again_and_earlier_results_stay(
    running: wf.WorkflowClient, shop: Shop
) -> None:
    one = running.schedule_new_workflow("order", input=5)
    assert end(running, one).runtime_status.name == "FAILED"
    shop.broken = False

    again = running.rerun_workflow(one, from_event=index_of(running, one, "TaskScheduled", "ship"))

    assert end(running, again).output() == ["charged 5", "shipped"]
    assert shop.ran == {"validate": 1, "charge": 1, "ship": 2}
    history = running.get_workflow_history(again)
    assert [event.value for event in history if event.event_type.value == "TaskCompleted"] == [
        "valid", "charged 5", "shipped",
    ]  # fmt: skip


def test_daprs_rerun_gives_the_activity_another_input(
    running: wf.WorkflowClient, shop: Shop
) -> None:
    shop.broken = False
    one = running.schedule_new_workflow("order", input=0)
    assert end(running, one).runtime_status.name == "FAILED"
    [charge] = [
        e for e in running.get_workflow_history(one) if e.name == "charge" and e.is_rerunnable
    ]

    again = running.rerun_workflow_from_event(one, charge.event_id, input=25)

    assert end(running, again).output() == ["charged 25", "shipped"]
    assert shop.ran["validate"] == 1


def test_the_same_id_is_rerun_in_place(running: wf.WorkflowClient, shop: Shop) -> None:
    one = running.schedule_new_workflow("order", input=5, instance_id="a")
    end(running, one)
    shop.broken = False

    running.rerun_workflow(
        "a", from_event=index_of(running, "a", "TaskScheduled", "ship"), new_instance_id="a"
    )

    assert end(running, "a").output() == ["charged 5", "shipped"]
    assert [state.instance_id for state in running.list_workflows()] == ["a"]


def test_a_terminated_instance_goes_on_where_it_was(running: wf.WorkflowClient) -> None:
    one = running.schedule_new_workflow("patient")
    running.wait_for_workflow_start(one)
    running.terminate_workflow(one)
    end(running, one)

    again = running.rerun_workflow(one, from_event=index_of(running, one, "ExecutionTerminated"))
    running.raise_workflow_event(again, "approval", data="yes")

    assert end(running, again).output() == "yes"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_rerun_from_any_event_comes_to_the_same_end(
    in_memory: wf.WorkflowClient, shop: Shop
) -> None:
    one = in_memory.schedule_new_workflow("everything", input=4)
    in_memory.wait_for_workflow_start(one)
    in_memory.raise_workflow_event(one, "GO", data={"x": 1})
    output = end(in_memory, one).output()
    assert output[:6] == [True, [0, 2, 4], {"x": 1}, 8, 18, True]
    history = in_memory.get_workflow_history(one)
    raised = index_of(in_memory, one, "EventRaised")

    for index in range(1, len(history)):
        again = in_memory.rerun_workflow(one, from_event=index)
        if index <= raised:
            in_memory.raise_workflow_event(again, "go", data={"x": 1})
        state = end(in_memory, again)
        assert state.output() == output, f"from event {index}: {history[index]}"
        # A rerun of a rerun, too.
        later = in_memory.get_workflow_history(again)
        third = in_memory.rerun_workflow(again, from_event=len(later) - 1)
        assert end(in_memory, third).output() == output


def test_what_was_done_is_not_done_twice(in_memory: wf.WorkflowClient, shop: Shop) -> None:
    one = in_memory.schedule_new_workflow("everything", input=4)
    in_memory.raise_workflow_event(one, "go")
    end(in_memory, one)
    before = shop.ran.copy()

    again = in_memory.rerun_workflow(
        one, from_event=index_of(in_memory, one, "ChildWorkflowScheduled")
    )
    end(in_memory, again)

    assert shop.ran - before == {"child 4": 1, "double 4": 1, "child 9": 1, "double 9": 1}


# --- by hand: what is written


def _order(client: wf.WorkflowClient, hand: Hand) -> str:
    """An instance with two turns, a timer, a timeout, a child, and open activities."""
    client.schedule_new_workflow("w", input=1, instance_id="a")
    inc = hand.fields("a")["inc"]
    actions: list[Any] = [
        ["A", 0, "one", 1, None],
        ["A", 1, "two", 2, {"q": "gpu", "s": 5000}],
        ["T", 2, 1_800_000_060_000],
        ["E", 3, "go", 1_800_000_030_000],
        ["W", 4, "child", "a~abcdef4", None, {"n": True}],
        ["W", 5, "child", "mine", 5, None],
    ]
    hand.turn("a", events=[["S", inc]], actions=actions, at_ms=1_800_000_000_000)
    nonce = hand.history("a")[1][2]
    events: list[Any] = [
        ["E", inc, "e1", "other", 1],
        ["C", 0, nonce, "done", 1],
        ["L", inc, "c1", "suspend", {}],
        ["C", 1, nonce, "done", 1],
    ]
    hand.turn("a", events=events, actions=[["U", "x"], ["K", 1]], status="COMPLETED")
    return inc


def test_open_tasks_are_scheduled_again_under_new_nonces(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    inc = _order(client, hand)

    # Everything before the completion of task 1 stays: task 0 has its result.
    again = client.rerun_workflow("a", from_event=index_of(client, "a", "TaskCompleted") + 2)

    birth, turn = hand.history(again)
    new = hand.fields(again)["inc"]
    assert new != inc
    assert birth[2] == new
    assert birth[6] is None
    assert birth[7] == {"seed": f"a:{inc}:0", "rerun_of": "a"}
    nonce = turn[2]
    assert nonce.startswith(f"r{new}")
    assert turn[3] == [["S", new]]
    queued = hand.events(again)
    assert queued[:3] == [
        ["E", new, "e1", "other", 1],
        ["C", 0, nonce, "done", 1],
        ["L", new, "c1", "suspend", {}],
    ]
    # It was suspended at the cut: it goes on all the same.
    assert queued[3][3] == "resume"
    partition = hand.ns.partition_of(again)
    script = "return redis.call('XRANGE', KEYS[1], '-', '+')"
    [[_, [_, message]]] = hand.link.command("EVAL", script, 1, hand.ns.activities(partition, "gpu"))
    assert orjson.loads(message)[:2] == [nonce, 1]
    assert orjson.loads(message)[3:] == ["default", f"{new}.0", turn[4][1], None]
    found = hand.link.command("ZRANGE", hand.ns.timers(partition), 0, -1)
    timers = [member.decode() for member in found]
    now = hand.link.command("TIME")
    assert any(f'["F",3,"{nonce}"]' in member for member in timers)
    assert f"Q gpu {again} 1 {nonce} default" in timers
    assert hand.link.redis.hexists(hand.ns.tasks(partition), f"s {again} 1 {nonce}")
    # Timers run their full time again, and the record says so, too.
    assert abs(turn[4][2][2] / 1000 - now[0] - 60) < 30
    assert abs(turn[4][3][3] / 1000 - now[0] - 30) < 30
    # Children by the outbox: a new id where the engine makes it, the same where the user did.
    messages = hand.link.command("EVAL", script, 1, hand.ns.outbox(partition))
    ids = [orjson.loads(fields[1])[1] for _, fields in messages]
    assert ids[0].startswith(f"{again}~")
    assert ids[0] == turn[4][4][3]
    assert ids[1] == "mine"


def test_a_late_outcome_of_the_old_run_fits_no_task(client: wf.WorkflowClient, hand: Hand) -> None:
    _order(client, hand)
    old = hand.history("a")[1][2]

    client.rerun_workflow("a", from_event=8, new_instance_id="a")

    assert old not in {record[2] for record in hand.history("a")[1:]}


def test_an_input_can_be_given_to_what_is_scheduled_only(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    _order(client, hand)

    with pytest.raises(ConfigurationError, match="only an event that schedules"):
        client.rerun_workflow("a", from_event=3, input=1)
    again = client.rerun_workflow("a", from_event=2, input=None)

    assert hand.history(again)[1][4][1] == ["A", 1, "two", None, {"q": "gpu", "s": 5000, "n": True}]
    assert hand.events(again)[-1][0] == "W"


def test_what_the_last_turn_scheduled_gets_no_other_input(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    client.schedule_new_workflow("w", instance_id="a")
    hand.turn("a", actions=[["A", 0, "x", 1, None], ["K", 1]], status="COMPLETED")

    with pytest.raises(ConfigurationError, match="in the turn that ended the instance"):
        client.rerun_workflow("a", from_event=1, input=2)


def test_a_rerun_that_is_sent_again_is_the_same(client: wf.WorkflowClient, hand: Hand) -> None:
    revival = reruns.Revival("b", "inc-1", "default", b',"inc-1",0,"w",1,null,null]', begin=True)
    call = reruns.rerun(hand.ns, revival)

    assert hand.link.run(call) == hand.link.run(call)
    assert len(hand.events("b")) == 1
    assert len(hand.history("b")) == 1
