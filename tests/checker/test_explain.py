"""Every way to be stuck that docs/troubleshooting.md names, told with what is to be done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.checker.scene import Scene, drop_entries, field
from tests.servers import ROOT
from tests.storage import tiny
from tests.storage.kit import QUEUE, Store
from wfq.checker.evidence import at_text
from wfq.checker.explain import _STALLED, explain_instance
from wfq.checker.explanation import Explanation
from wfq.core import events as ev
from wfq.core.context import WorkflowContext
from wfq.storage.membership import WorkerInfo, register_worker
from wfq.storage.timers import task_field

ALL = ("orchestrator", "activity", "scheduler")


@pytest.fixture
def scene(valkey_url: str) -> Iterator[Scene]:
    """One kind of server is enough: the look itself is tested on each."""
    store = Store(valkey_url)
    yield Scene(store)
    store.close()


def explain(scene: Scene, instance_id: str = "a") -> Explanation:
    told = explain_instance(scene.store.link, scene.store.ns, instance_id)
    assert told is not None
    return told


def hire(scene: Scene, name: str = "w", roles: tuple[str, ...] = ALL, **more: Any) -> None:
    """Register a live worker that has all of the scene's code, unless told otherwise."""
    details: dict[str, Any] = {"roles": list(roles), "app_id": QUEUE, "queues": [QUEUE]}
    if "orchestrator" in roles:
        details["workflows"] = list(tiny.PROGRAMS)
    if "activity" in roles:
        details |= {"activities": ["work"], "concurrency": 8}
    info = WorkerInfo(name, 0, details | more)
    register_worker(scene.store.link, scene.store.ns, info)


# --- PENDING


def test_an_unknown_instance_has_no_explanation(scene: Scene) -> None:
    assert explain_instance(scene.store.link, scene.store.ns, "nobody") is None


def test_a_delayed_start_tells_when(scene: Scene) -> None:
    hire(scene)
    scene.store.start("a", name="chain", payload=None, due_ms=4102444800000)

    told = explain(scene)

    assert told.waits == ["its start is delayed, due 2100-01-01T00:00:00.000Z"]
    (following,) = told.next
    assert re.fullmatch(r"it starts in \d+ d( \d+ h)?, at 2100-01-01T00:00:00.000Z", following)
    assert told.start_due_ms == 4102444800000
    assert told.todo == []


def test_a_first_turn_waits_for_a_worker_that_is_not_there(scene: Scene) -> None:
    scene.store.start("a", name="chain", payload=None)

    told = explain(scene)

    assert "its first turn is to come" in told.waits
    assert told.todo == [
        "no worker of 'default' is running; 'chain' waits for one ('wfq worker APP')"
    ]


def test_a_first_turn_is_taken_by_the_owner(scene: Scene) -> None:
    hire(scene)
    scene.store.start("a", name="chain", payload=None)

    told = explain(scene)

    assert told.next == ["worker owner takes it now"]
    assert told.todo == []


@pytest.mark.parametrize("stalled", [False, True])
def test_a_misspelt_workflow_is_told_with_what_is_near(scene: Scene, stalled: bool) -> None:
    hire(scene, workflows=["chains"])
    scene.store.start("a", name="chain", payload=None)
    if stalled:
        scene.turn()
        field("status", "STALLED")(scene)
        field("stalled", "no worker has the workflow 'chain'")(scene)

    todo = "no live worker of 'default' has registered workflow 'chain'; they have 'chains'"
    assert todo in explain(scene).todo


# --- RUNNING: timers, events, children


def test_an_event_that_is_awaited_is_named_with_those_that_came(scene: Scene) -> None:
    hire(scene)
    scene.begin("approval")
    scene.store.raise_event("a", "e1", "approve")
    scene.turn()

    told = explain(scene)

    assert re.match(r"event 'go' since \d[\w. ]+ \(20", told.waits[0])
    assert "raised so far: approve" in told.waits[0]
    assert re.match(r"the wait times out in 59 min \d+ s, at 20", told.next[0])
    (task,) = told.tasks
    assert (task.kind, task.name, task.raised) == ("event", "go", ("approve",))
    assert "'wfq raise a go' answers it" in told.todo


def test_a_timer_without_a_scheduler_is_told(scene: Scene) -> None:
    hire(scene, roles=("orchestrator", "activity"))
    scene.begin("approval")
    tiny.make_due(scene.store)

    told = explain(scene)

    assert any("overdue since" in wait or ", due " in wait for wait in told.waits)
    assert any("no worker with the role scheduler is alive" in todo for todo in told.todo)


def test_a_child_is_where_to_look_on(scene: Scene) -> None:
    hire(scene)
    scene.begin("parent")
    scene.turn()

    told = explain(scene)

    assert "child far-a, RUNNING" in told.waits
    assert "'wfq explain far-a' tells on" in told.todo


def test_what_waits_for_code_says_so_to_its_parent_too(scene: Scene) -> None:
    hire(scene)
    scene.begin("parent")
    scene.turn()
    child = scene.store.ns.instance("far-a")
    scene.store.link.command("HSET", child, "stalled", "no worker has the workflow 'kid'")

    told = explain(scene)
    kid = explain(scene, "far-a")
    scene.store.link.command("HDEL", child, "stalled")

    assert "child far-a, RUNNING: no worker has the workflow 'kid'" in told.waits
    assert "waits for code: no worker has the workflow 'kid'" in kid.waits


def test_code_that_is_missing_tells_when_the_instance_stalls(scene: Scene) -> None:
    hire(scene, workflows=["chains"], unknown_grace_s=30.0)
    scene.lose_code(30_000)
    scene.begin("chain")
    began_ms = scene.store.history("a")[-1][ev.T_NOW]
    scene.store.raise_event("a", "e1", "approve")
    scene.turn()
    last_ms = scene.store.history("a")[-1][ev.T_NOW]
    waits_ms = min(max(1_000, last_ms - began_ms), 5_000)

    told = explain(scene)

    assert told.status == "RUNNING"
    assert "waits for code: no worker has the workflow 'chain'" in told.waits
    looks, stalls = told.next
    assert looks == f"a worker looks for its code again at {at_text(last_ms + waits_ms)}"
    assert (
        stalls == f"STALLED at {at_text(began_ms + 30_000)}, unless a worker has its code by then"
    )
    assert "start workers with that code: 'wfq worker APP'" in told.todo
    assert any("they have 'chains'" in todo for todo in told.todo)


def test_an_event_that_came_without_code_is_not_asked_for_again(scene: Scene) -> None:
    hire(scene)
    scene.begin("approval")
    scene.lose_code(0)
    scene.store.raise_event("a", "e1", "GO")
    scene.turn()

    told = explain(scene)

    assert told.status == "STALLED"
    assert any("event 'go'" in wait and "; it has come" in wait for wait in told.waits)
    assert told.next == ["the event is taken once there is code for it"]
    assert not any("wfq raise" in todo for todo in told.todo)


# --- RUNNING: activities


@pytest.mark.parametrize(
    ("hired", "todo"),
    [
        (
            {"roles": ("orchestrator", "scheduler"), "queues": []},
            "no worker of queue 'default' is alive: 'wfq worker APP --queue default'",
        ),
        (
            {"activities": ["works"]},
            "no live worker of queue 'default' has registered activity 'work'; they have 'works'",
        ),
    ],
)
def test_nobody_takes_an_activity(scene: Scene, hired: dict[str, Any], todo: str) -> None:
    hire(scene, **hired)
    scene.begin("chain")

    told = explain(scene)

    assert told.waits == ["activity 'work' (task 0) waits in queue 'default'"]
    assert told.todo == [todo]


def test_everybody_is_busy(scene: Scene) -> None:
    hire(scene, concurrency=1)
    scene.begin("chain", "b")
    tiny.take(scene.store, 0, "w", 1)
    scene.begin("chain")

    told = explain(scene)

    assert told.waits == ["activity 'work' (task 0) waits in queue 'default'; its one slot is busy"]
    assert told.tasks[0].busy == 1
    assert "more workers, or a higher concurrency" in told.todo[0]


def test_an_activity_that_a_worker_takes_needs_nobody(scene: Scene) -> None:
    hire(scene)
    scene.begin("chain")

    told = explain(scene)

    assert told.next == ["a worker takes it now"]
    assert told.todo == []


@pytest.mark.parametrize(
    ("worker", "how", "following"),
    [
        ("w", "", "its result; it has no timeout, so it may run for ever"),
        ("x", ", which is not alive", "another worker takes it over when its lease runs out"),
    ],
)
def test_an_activity_that_runs_names_its_worker(
    scene: Scene, worker: str, how: str, following: str
) -> None:
    hire(scene)
    scene.begin("chain")
    tiny.take(scene.store, 0, worker, 1)

    told = explain(scene)

    assert told.waits == [f"activity 'work' (task 0), attempt 1, runs on {worker}{how}"]
    assert told.next == [following]
    assert told.todo == []


def fail_the_second(scene: Scene, extra: bytes) -> None:
    """Let the second activity of a chain fail once, with that extra in its message."""
    scene.begin("chain")
    (first,) = tiny.take(scene.store, 0, "w", 1)
    scene.store.complete(first.outcome("done"))
    scene.turn()
    (second,) = tiny.take(scene.store, 0, "w", 1)
    scene.store.complete(second.outcome("failed"))
    name = task_field("a", second.task_id, second.nonce)
    message = scene.store.command("HGET", scene.store.ns.tasks(0), name)
    changed = message[: message.rindex(b",")] + b"," + extra + b"]"
    scene.store.command("HSET", scene.store.ns.tasks(0), name, changed)


def test_an_activity_that_fails_tells_why_and_when_it_is_tried_again(scene: Scene) -> None:
    hire(scene)
    fail_the_second(scene, b'{"past":[[5,9]],"error":["ValueError","no such card"]}')

    told = explain(scene)

    said = r"activity .work. \(task 1\) has failed once \(ValueError: no such card\), attempt 2"
    assert re.match(said, told.waits[0])
    assert re.match(r"attempt 2 of 3 (in \d[\w. ]+, )?at 20", told.next[0])
    (task,) = told.tasks
    assert (task.state, task.attempt, task.of) == ("retrying", 2, 3)
    assert task.attempt_times == ((5, 9),)
    assert task.document()["last_error"] == {"type": "ValueError", "message": "no such card"}
    assert task.due_ms is not None


def test_a_further_attempt_that_runs_tells_what_the_last_failed_with(scene: Scene) -> None:
    hire(scene)
    fail_the_second(scene, b'{"past":[[5,9]],"error":["ValueError","no such card"]}')
    tiny.make_due(scene.store)
    scene.store.fire()

    queued = explain(scene)
    tiny.take(scene.store, 0, "w", 1)
    running = explain(scene)

    assert queued.tasks[0].state == "queued"
    assert queued.tasks[0].attempt_times == ((5, 9),)
    assert running.waits == [
        "activity 'work' (task 1), attempt 2 of 3, runs on w; last error: ValueError: no such card"
    ]
    assert running.tasks[0].worker == "w"


@pytest.mark.parametrize(
    ("registered", "todo"),
    [
        (
            "works",
            ["no live worker of queue 'default' has registered activity 'work'; they have 'works'"],
        ),
        ("work", []),  # one that has it was started since: it is offered to that one
    ],
)
def test_an_activity_that_nobody_knows_is_told_before_it_stalls(
    scene: Scene, registered: str, todo: list[str]
) -> None:
    hire(scene, activities=[registered], unknown_grace_s=30.0)
    fail_the_second(scene, b'{"unknown":1}')

    told = explain(scene)

    assert "is known to no worker of queue 'default' that has seen it" in told.waits[0]
    assert told.todo == todo
    offered, stalls = told.next
    assert offered.startswith("it is offered again at ")
    # It has waited for longer than anybody should: the next worker that is offered it says so.
    assert stalls == f"STALLED at {offered[-24:]}, unless a worker has it by then"


def test_results_wait_for_an_orchestrator(scene: Scene) -> None:
    hire(scene, roles=("activity", "scheduler"))
    scene.begin("chain")
    (first,) = tiny.take(scene.store, 0, "w", 1)
    scene.store.complete(first.outcome("done"))

    told = explain(scene)

    assert told.waits == ["1 event waits for a turn"]
    assert "no worker of 'default' is running" in told.todo[0]


# --- SUSPENDED, STALLED, ended, broken


def test_a_suspended_one_tells_how_it_goes_on(scene: Scene) -> None:
    hire(scene)
    scene.begin("approval")
    scene.command("suspend")
    scene.turn()

    told = explain(scene)

    assert told.waits[0] == "suspended"
    assert told.todo[0] == "'wfq resume a' lets it go on"


def reasons() -> list[str]:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    table = page.partition("| reason |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `([^`]+)`", table, re.M)


@pytest.mark.parametrize("reason", reasons())
def test_every_reason_to_stall_has_a_remedy(scene: Scene, reason: str) -> None:
    hire(scene)
    scene.begin("approval")
    field("status", "STALLED")(scene)
    field("stalled", reason)(scene)

    told = explain(scene)

    assert told.waits[0] == f"stalled: {reason}"
    assert "see its reason" not in told.sentence
    assert any(what.format(id="a") == told.todo[0] for part, what in _STALLED if part in reason), (
        reason
    )


def test_one_that_has_failed_tells_why(scene: Scene) -> None:
    def broken(ctx: WorkflowContext) -> Any:
        yield ctx.create_timer(timedelta(0))
        raise ValueError("no such order")

    hire(scene)
    scene.owner._registry.register_workflow(broken)
    scene.begin("broken")
    scene.store.fire()
    scene.turn()

    told = explain(scene)

    assert told.waits == ["it has ended: FAILED with ValueError: no such order"]
    assert told.todo == ["'wfq rerun a' runs it again, if it should"]


def test_what_is_missing_is_told_with_its_repair(scene: Scene) -> None:
    hire(scene)
    scene.begin("chain")
    drop_entries(scene)

    told = explain(scene)

    assert told.wrong
    assert told.wrong[0].startswith("W3 ")
    assert any("wfq doctor --repair" in todo for todo in told.todo)


def test_many_tasks_are_told_in_part(scene: Scene) -> None:
    def wide(ctx: WorkflowContext) -> Any:
        for n in range(50):
            ctx.wait_for_external_event(f"e{n}")
        yield ctx.wait_for_external_event("last")

    hire(scene)
    scene.owner._registry.register_workflow(wide)
    scene.begin("wide")

    told = explain(scene)

    assert told.waits[-1] == "and 31 further tasks"


def test_it_can_be_told_as_one_line_and_as_json(scene: Scene) -> None:
    scene.begin("chain")

    told = explain(scene)
    document = told.document()

    assert document["explanation"] == told.sentence
    assert set(document) == {
        "instance_id", "runtime_status", "explanation", "waits", "next", "todo", "violations",
        "tasks",
    }  # fmt: skip
    assert " - to do: " in told.sentence
