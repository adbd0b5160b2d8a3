"""An instance without code is given time to find some: a rolling deploy is no alarm."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.core.world import World, command, raised, registry_of, state_of
from wfq.core.context import WorkflowContext
from wfq.core.instance import Instance
from wfq.core.ports import Limits
from wfq.registry import Registry

Flow = Generator[Any, Any, Any]

GRACE_MS = 30_000


def steps(ctx: WorkflowContext) -> Flow:
    one = yield ctx.wait_for_external_event("one")
    two = yield ctx.wait_for_external_event("two")
    return [one, two]


CODE = registry_of(steps)


def without_code(grace_ms: int = GRACE_MS) -> Registry:
    return Registry(limits=Limits(unknown_grace_ms=grace_ms))


def waiting() -> World:
    return World("steps", registry=without_code())


def wake() -> list[Any]:
    return ["W", "inc1"]


def test_it_stays_running_and_says_what_it_lacks() -> None:
    world = waiting()
    turn = world.start()

    assert (turn.status_before, turn.status) == ("RUNNING", "RUNNING")
    assert turn.lacks_code == "no worker has the workflow 'steps'"
    assert turn.stalled is None
    assert turn.extra == {"deferred": True, "grace": True}


def test_it_is_woken_at_growing_intervals_and_at_the_end_of_its_time() -> None:
    world = waiting()
    looks = [world.start().look_again_ms]
    begin = world.now_ms
    while world.status == "RUNNING":
        turn = world.turn(wake(), after_ms=looks[-1] - world.now_ms)
        looks.append(turn.look_again_ms)

    waits = [look - begin for look in looks]
    assert waits[:5] == [1_000, 2_000, 4_000, 8_000, 13_000]
    assert waits[-2] == GRACE_MS
    assert world.status == "STALLED"
    assert world.instance.why == "no worker has the workflow 'steps'"


def test_looking_again_writes_nothing_until_its_time_is_over() -> None:
    world = waiting()
    world.start()

    assert world.turn(wake(), after_ms=1_000).empty
    turn = world.turn(wake(), after_ms=GRACE_MS)
    assert (turn.status_before, turn.status) == ("RUNNING", "STALLED")
    assert turn.stalled == "no worker has the workflow 'steps'"


def test_the_time_runs_on_when_another_without_the_code_takes_over() -> None:
    world = waiting()
    world.start()
    world.reload(without_code())
    world.turn(raised("one", 1), after_ms=GRACE_MS // 2)
    world.reload(without_code())

    assert world.status == "RUNNING"
    assert world.turn(wake(), after_ms=GRACE_MS // 2).status == "STALLED"


def test_code_that_comes_in_time_goes_on_as_if_nothing_had_been() -> None:
    world = waiting()
    world.start()
    world.turn(raised("one", 1))
    world.reload(CODE)
    assert world.status == "RUNNING"

    turn = world.turn(wake(), after_ms=1_000)

    assert (turn.status_before, turn.status) == ("RUNNING", "RUNNING")
    assert turn.has_code_again
    assert [action[:3] for action in turn.actions] == [["E", 0, "one"], ["E", 1, "two"]]
    assert not world.turn(raised("two", 2)).has_code_again
    assert world.output == [1, 2]


def test_an_instance_that_lost_its_code_gets_its_time_anew() -> None:
    world = waiting()
    world.start()
    world.reload(CODE)
    world.turn(wake(), after_ms=GRACE_MS - 20)
    world.reload(without_code())

    assert world.turn(raised("one", 1), after_ms=1_000).status == "RUNNING"


def test_commands_are_obeyed_meanwhile() -> None:
    world = waiting()
    world.start()

    assert world.turn(command("suspend")).status == "SUSPENDED"
    assert world.turn(command("resume")).status == "RUNNING"
    assert world.turn(command("terminate", output="enough")).status == "TERMINATED"


@pytest.mark.parametrize("grace_ms", [0, 100, 10**9])
def test_what_is_recorded_counts_whatever_the_setting_is_later(grace_ms: int) -> None:
    world = waiting()
    world.start()
    running = Instance.load(world.id, world.records, without_code(grace_ms))
    world.turn(wake(), after_ms=GRACE_MS)
    stalled = Instance.load(world.id, world.records, without_code(grace_ms))

    assert (running.status, stalled.status) == ("RUNNING", "STALLED")
    assert state_of(stalled)
