"""Events, lifecycle commands and purge."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

import wfq as wf
from tests.client.kit import NAMESPACE, Hand
from wfq.errors import (
    InboxFull,
    InstanceFinished,
    InstanceNotFound,
    InstanceRunning,
    InvalidIdentifier,
    PayloadError,
)
from wfq.settings import load_settings

Verb = Callable[[wf.WorkflowClient, str], object]

COMMANDS: dict[str, Verb] = {
    "raise": lambda client, one: client.raise_workflow_event(one, "go"),
    "terminate": lambda client, one: client.terminate_workflow(one),
    "pause": lambda client, one: client.pause_workflow(one),
    "resume": lambda client, one: client.resume_workflow(one),
}
VERBS: dict[str, Verb] = {
    **COMMANDS,
    "purge": lambda client, one: client.purge_workflow(one),
    "history": lambda client, one: client.get_workflow_history(one),
    "wait": lambda client, one: client.wait_for_workflow_completion(one),
    "wait for start": lambda client, one: client.wait_for_workflow_start(one),
    "rerun": lambda client, one: client.rerun_workflow(one),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_an_unknown_instance_is_not_found(client: wf.WorkflowClient, verb: Verb) -> None:
    with pytest.raises(InstanceNotFound, match="no workflow instance 'nobody'") as caught:
        verb(client, "nobody")

    assert caught.value.instance_id == "nobody"


@pytest.mark.parametrize("verb", COMMANDS.values(), ids=COMMANDS)
def test_an_instance_that_has_ended_takes_no_commands(
    client: wf.WorkflowClient, hand: Hand, verb: Verb
) -> None:
    client.schedule_new_workflow("w", instance_id="a")
    hand.complete("a")

    with pytest.raises(InstanceFinished, match="'a' has ended and is COMPLETED"):
        verb(client, "a")


def test_an_event_is_queued_with_an_id_of_its_own(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", instance_id="a")

    client.raise_workflow_event("a", "Approval", data={"ok": True})
    client.raise_workflow_event("a", "Approval", event_id="e-7")

    inc = hand.fields("a")["inc"]
    first, second = hand.events("a")[1:]
    assert (first[0], first[1], first[3], first[4]) == ("E", inc, "Approval", {"ok": True})
    assert len(first[2]) == 32
    assert second[2:] == ["e-7", "Approval", None]


@pytest.mark.parametrize("name", ["", "x" * 501, "\ud800"])
def test_an_event_name_must_be_text_that_can_be_stored(
    client: wf.WorkflowClient, name: str
) -> None:
    client.schedule_new_workflow("w", instance_id="a")

    with pytest.raises(InvalidIdentifier, match="event name"):
        client.raise_workflow_event("a", name)


def test_event_data_must_be_json(client: wf.WorkflowClient) -> None:
    client.schedule_new_workflow("w", instance_id="a")

    with pytest.raises(PayloadError, match="data of event 'go'"):
        client.raise_workflow_event("a", "go", data={1, object()})


def test_a_full_inbox_refuses_events_but_no_commands(
    redis_url: str, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WFQ_LIMITS__INBOX_EVENTS", "2")
    settings = load_settings(redis_url=redis_url, namespace=NAMESPACE)
    with wf.WorkflowClient(settings=settings) as client:
        client.schedule_new_workflow("w", instance_id="a")
        client.raise_workflow_event("a", "go")
        client.raise_workflow_event("a", "go")

        with pytest.raises(InboxFull, match="holds 2 events"):
            client.raise_workflow_event("a", "go")
        client.pause_workflow("a")

    assert [event[0] for event in hand.events("a")] == ["S", "E", "E", "L"]


def test_commands_say_what_they_ask_for(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", instance_id="a")

    client.pause_workflow("a", reason="tea")
    client.resume_workflow("a")
    client.terminate_workflow("a", output={"x": 1}, recursive=False)
    client.terminate_workflow("a")

    assert [event[3:] for event in hand.events("a")[1:]] == [
        ["suspend", {"reason": "tea"}],
        ["resume", {}],
        ["terminate", {"recursive": False, "output": {"x": 1}}],
        ["terminate", {"recursive": True}],
    ]


# --- purge


def test_a_purged_instance_leaves_nothing(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", instance_id="a")
    hand.complete("a")

    client.purge_workflow("a")

    assert client.get_workflow_state("a") is None
    assert client.list_workflows().items == []


def test_a_live_instance_is_not_purged(client: wf.WorkflowClient) -> None:
    client.schedule_new_workflow("w", instance_id="a")

    with pytest.raises(InstanceRunning, match="'a' has not ended"):
        client.purge_workflow("a")
    with pytest.raises(InstanceRunning, match="'a' has not ended"):
        client.purge_workflow("a", recursive=False)


def _start_child(client: wf.WorkflowClient, hand: Hand, child: str, parent: str) -> None:
    """Make `child` look like what a turn of `parent` started."""
    client.schedule_new_workflow("w", instance_id=child)
    record = hand.history(child)[0]
    record[6] = [parent, hand.fields(parent)["inc"], 0, "n"]
    hand.link.command("LSET", hand.ns.history(child), 0, orjson.dumps(record))
    hand.turn(parent, actions=[["W", 0, "w", child, None, None]])


def test_children_of_children_go_too(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", instance_id="a")
    _start_child(client, hand, "b", "a")
    _start_child(client, hand, "c", "b")
    for one in "abc":
        hand.complete(one)

    client.purge_workflow("a")

    assert [client.get_workflow_state(one) for one in "abc"] == [None] * 3


def test_without_recursion_children_stay(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", instance_id="a")
    _start_child(client, hand, "b", "a")
    hand.complete("a")

    client.purge_workflow("a", False)

    assert client.get_workflow_state("a") is None
    assert client.get_workflow_state("b") is not None


def test_a_live_child_stops_the_purge_before_it_begins(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    client.schedule_new_workflow("w", instance_id="a")
    _start_child(client, hand, "b", "a")
    _start_child(client, hand, "c", "a")
    hand.complete("a")
    hand.complete("b")

    with pytest.raises(InstanceRunning, match="'c', a child of 'a', has not ended"):
        client.purge_workflow("a")

    assert client.get_workflow_state("b") is not None


def test_a_childs_id_that_belongs_to_another_by_now_stays(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    client.schedule_new_workflow("w", instance_id="a")
    client.schedule_new_workflow("w", instance_id="b")
    hand.turn("a", actions=[["W", 0, "w", "b", None, None]])
    hand.complete("a")

    client.purge_workflow("a")

    assert client.get_workflow_state("b") is not None
