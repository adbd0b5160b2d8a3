"""Turns that go on with results of their own tasks: one record, several steps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.core.world import START_MS, as_stored
from wfq.checker.ledger import read_records
from wfq.core.context import WorkflowContext
from wfq.core.events import T_ACTIONS, Action, Event, Record
from wfq.core.history import expand_history
from wfq.core.instance import Instance
from wfq.core.steps import unfold
from wfq.core.tasks import when_all, when_any
from wfq.core.turn import Turn
from wfq.errors import WorkflowMisuse
from wfq.management.history import place_of
from wfq.registry import Registry

Flow = Generator[Any, Any, Any]


def chain(ctx: WorkflowContext, value: int) -> Flow:
    for _ in range(3):
        value = yield ctx.call_activity("inline", input=value)
    both = yield when_all([ctx.call_activity("inline", input=n) for n in (value, 10)])
    last = yield ctx.call_activity("elsewhere", input=sum(both))
    return last


def begin(function: Callable[..., Any], value: Any = 1) -> tuple[Registry, list[Record], Instance]:
    registry = Registry()
    registry.register_workflow(function)
    records: list[Record] = [["B", START_MS, "i", 0, function.__name__, value, None, None]]
    return registry, records, Instance.load("order-7", as_stored(records), registry)


class Inline:
    """As an orchestrator with an inline activity that adds one."""

    names = frozenset(("inline",))

    def bring(self, turn: Turn, actions: list[Action], asked: int) -> list[Event] | None:
        return [
            ["C", action[1], turn.nonce, action[3] + 1]
            for action in actions[asked:]
            if action[0] == "A" and action[2] in self.names
        ]


def run(
    instance: Instance, records: list[Record], *events: Event, more: Inline | None = None
) -> Turn:
    number = len(records)
    turn = instance.apply(list(events), START_MS + number, f"n{number}", more or Inline())
    records.append(as_stored(turn.record()))
    return turn


def test_results_are_consumed_in_the_turn_that_asked_for_them() -> None:
    _, records, instance = begin(chain)

    turn = run(instance, records, ["S", "i"])

    assert [event[:2] for event in turn.events[1:]] == [["C", n] for n in range(5)]
    assert records[1][5] == {"steps": [1, 1, 2, 2, 3, 3, 4, 5]}
    assert list(instance.open) == [5]
    assert run(instance, records, ["C", 5, "n1", 16]).status == "COMPLETED"


@pytest.mark.parametrize("read", [list, unfold], ids=["folded", "unfolded"])
def test_a_record_with_steps_replays(read: Callable[[list[Record]], list[Record]]) -> None:
    registry, records, instance = begin(chain)
    run(instance, records, ["S", "i"])

    loaded = Instance.load("order-7", read(as_stored(records)), registry)

    nonce = loaded.open[5].nonce
    turn = loaded.apply([["C", 5, nonce, 16]], START_MS + 9, "n9")
    assert (turn.status, turn.actions) == ("COMPLETED", [["K", 16]])


def test_without_code_only_what_has_not_ended_is_open() -> None:
    _, records, instance = begin(chain)
    run(instance, records, ["S", "i"])

    loaded = Instance.load("order-7", records, Registry())

    assert {task_id: task.nonce for task_id, task in loaded.open.items()} == {5: "n1"}


def test_unfolded_every_step_is_a_turn() -> None:
    _, records, instance = begin(chain)
    run(instance, records, ["S", "i"])
    run(instance, records, ["C", 5, "n1", 16])

    found = unfold(records)

    assert [record[2] for record in found[1:]] == ["n1", "n1.1", "n1.2", "n1.3", "n1.4", "n2"]
    assert [len(record[4]) for record in found[1:]] == [1, 1, 1, 2, 1, 1]
    assert found[2][3] == [["C", 0, "n1", 2]]
    assert found[3][3] == [["C", 1, "n1.1", 3]]
    assert found[6][3] == [["C", 5, "n1.4", 16]], "of a task that a step has scheduled"
    assert unfold(found) == found
    assert not read_records(found).wrong


def test_users_read_what_was_scheduled_before_what_came_of_it() -> None:
    _, records, instance = begin(chain)
    run(instance, records, ["S", "i"])

    events = expand_history(records)

    order = [(event.type, event.fields.get("task_id")) for event in events[1:]]
    each = [(kind, n) for n in range(3) for kind in ("TaskScheduled", "TaskCompleted")]
    both = [(kind, n) for kind in ("TaskScheduled", "TaskCompleted") for n in (3, 4)]
    assert order == [*each, *both, ("TaskScheduled", 5)]
    assert events[2].fields["result"] == 2
    assert events[2].fields["name"] == "inline"
    place = place_of(records, 3)
    assert place is not None
    assert unfold(records)[place.record][4][place.position][1] == 1


def test_the_checker_finds_such_a_history_in_order() -> None:
    _, records, instance = begin(chain)
    run(instance, records, ["S", "i"])

    ledger = read_records(records)

    assert not ledger.wrong
    assert {task_id: task.nonce for task_id, task in ledger.open.items()} == {5: "n1"}


def test_no_code_decides_anything_between_two_steps() -> None:
    held: list[WorkflowContext] = []

    def keeps(ctx: WorkflowContext, value: int) -> Flow:
        held.append(ctx)
        yield ctx.call_activity("inline", input=value)

    class Meddling(Inline):
        def bring(self, turn: Turn, actions: list[Action], asked: int) -> list[Event] | None:
            with pytest.raises(WorkflowMisuse):
                held[0].call_activity("other")
            return super().bring(turn, actions, asked)

    _, records, instance = begin(keeps)

    assert run(instance, records, ["S", "i"], more=Meddling()).status == "COMPLETED"


def test_each_step_may_decide_as_much_as_a_turn() -> None:
    def wide(ctx: WorkflowContext, value: int) -> Flow:
        for _ in range(3):
            yield when_all([ctx.call_activity("inline", input=n) for n in range(4)])
        for n in range(7):
            ctx.call_activity("elsewhere", input=n)
        yield ctx.create_timer(timedelta(seconds=1))

    registry = Registry()
    registry.register_workflow(wide)
    registry.limits = replace(registry.limits, actions_per_turn=5)
    records: list[Record] = [["B", START_MS, "i", 0, "wide", 1, None, None]]
    instance = Instance.load("order-7", as_stored(records), registry)

    turn = run(instance, records, ["S", "i"])

    assert turn.status == "FAILED"
    assert "more than 5 actions" in turn.actions[-1][1]["message"]
    assert len(turn.actions) == 12 + 5 + 1
    again = Instance.load("order-7", as_stored(records), registry)
    assert again.status == "FAILED"


def test_what_is_not_awaited_any_more_is_not_delivered() -> None:
    def first(ctx: WorkflowContext, value: int) -> Flow:
        tasks = [ctx.call_activity("inline", input=n) for n in range(3)]
        winner = yield when_any(tasks)
        return winner.get_result()

    registry, records, instance = begin(first)

    turn = run(instance, records, ["S", "i"])

    assert turn.status == "COMPLETED"
    assert turn.actions[-1] == ["K", 1]
    assert Instance.load("order-7", as_stored(records), registry).status == "COMPLETED"
    assert not read_records(records).wrong


def test_a_suspended_instance_goes_no_further() -> None:
    _, _, instance = begin(chain)
    instance.apply([["S", "i"]], START_MS, "n0")

    turn = instance.apply(
        [["C", 0, "n0", 2], ["L", "i", "c1", "suspend", {}]], START_MS, "n1", Inline()
    )

    assert turn.status == "SUSPENDED"
    assert turn.steps is None
    assert [action[1] for action in turn.actions] == [1]


def test_what_only_looks_like_an_ordinary_turn_is_none() -> None:
    """A completion after which something else is set, wanted or waited for takes the long way."""

    def changes(ctx: WorkflowContext, value: int) -> Flow:
        ctx.set_custom_status("one")
        yield ctx.call_activity("elsewhere")
        ctx.set_custom_status("two")
        yield ctx.call_activity("elsewhere")
        yield ctx.call_activity("elsewhere")
        yield ctx.wait_for_external_event("go")
        yield ctx.call_activity("elsewhere")

    registry, records, instance = begin(changes)
    turns = [run(instance, records, ["S", "i"])]
    turns += [run(instance, records, ["C", n, f"n{n + 1}", None]) for n in range(2)]
    turns.append(run(instance, records, ["E", "i", "e1", "go", 1]))
    turns.append(run(instance, records, ["C", 2, "n3", None]))
    turns.append(run(instance, records, ["C", 4, "n5", None]))

    assert [turn.plain for turn in turns] == [turn.is_plain for turn in turns]
    assert [turn.plain for turn in turns] == [False, False, True, True, False, False]
    assert [turn.custom for turn in turns[:2]] == ["one", "two"]
    assert turns[4].delivered == 1
    assert turns[5].status == "COMPLETED"
    assert Instance.load("order-7", as_stored(records), registry).status == "COMPLETED"


def test_each_step_keeps_the_custom_status_that_it_has_set() -> None:
    def shows(ctx: WorkflowContext, value: int) -> Flow:
        ctx.set_custom_status("none")
        ctx.set_custom_status("one")
        value = yield ctx.call_activity("inline", input=value)
        ctx.set_custom_status("two")
        yield ctx.call_activity("elsewhere", input=value)

    registry, records, instance = begin(shows)

    turn = run(instance, records, ["S", "i"])

    assert turn.custom == "two"
    shown = [[a[1] for a in r[T_ACTIONS] if a[0] == "U"] for r in unfold(records)[1:]]
    assert shown == [["one"], ["two"]]
    again = Instance.load("order-7", as_stored(records), registry)
    assert list(again.open) == list(instance.open)


def test_code_that_was_refused_more_in_one_step_is_refused_it_again() -> None:
    def greedy(ctx: WorkflowContext, value: int) -> Flow:
        task, left = ctx.call_activity("inline", input=value), 0
        while True:
            try:
                ctx.call_activity("elsewhere", input=value)
            except WorkflowMisuse:
                break
            left += 1
        yield task
        yield ctx.call_activity("elsewhere", input=left)

    registry, records, _ = begin(greedy)
    registry.limits = replace(registry.limits, actions_per_turn=5)
    instance = Instance.load("order-7", as_stored(records), registry)

    run(instance, records, ["S", "i"])

    again = Instance.load("order-7", as_stored(records), registry)
    assert list(again.open) == list(instance.open) == [1, 2, 3, 4, 5]
    Instance.load("order-7", as_stored(unfold(records)), registry)
