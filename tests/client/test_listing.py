"""Lists and counts: filters, and pages that stay stable while things happen."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import wfq as wf
from tests.client.kit import Hand
from wfq.errors import ConfigurationError, InvalidIdentifier
from wfq.management.listing import FilterKeywords


def ids_of(client: wf.WorkflowClient, limit: int = 100, **filters: Any) -> list[str]:
    """All pages, as ids."""
    found: list[str] = []
    cursor = None
    while True:
        page = client.list_workflows(limit=limit, cursor=cursor, **filters)
        assert len(page) <= limit
        found += [state.instance_id for state in page]
        cursor = page.cursor
        if cursor is None:
            return found


def age(hand: Hand, instance_id: str, created_ms: int) -> None:
    """Make an instance look as if it was created then."""
    hand.link.command("HSET", hand.ns.instance(instance_id), "created", created_ms)
    index = hand.ns.index(hand.ns.partition_of(instance_id), "RUNNING")
    hand.link.command("ZADD", index, created_ms, instance_id)


def test_an_empty_namespace_has_an_empty_page(client: wf.WorkflowClient) -> None:
    page = client.list_workflows()

    assert (page.items, page.cursor, len(page)) == ([], None, 0)
    assert set(client.count_workflows().values()) == {0}


def test_a_list_sees_what_was_just_started(client: wf.WorkflowClient) -> None:
    client.schedule_new_workflow("greet", input=1, instance_id="a", tags={"k": "v"})

    [state] = client.list_workflows()

    assert (state.instance_id, state.name, state.tags) == ("a", "greet", {"k": "v"})
    assert state.serialized_input is None


def test_the_newest_comes_first_over_all_partitions_and_statuses(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    ids = [f"i{n:03}" for n in range(200)]
    client.schedule_many("w", ids, instance_ids=ids)
    order = ids[:]
    random.Random(3).shuffle(order)
    for at, one in enumerate(order):
        # Five of each millisecond: within it, ids fall.
        age(hand, one, 1_700_000_000_000 + at // 5)
    for one in ids[::7]:
        hand.complete(one)
    for one in ids[3::11]:
        if one not in ids[::7]:
            hand.turn(one, status="SUSPENDED")
    expected = sorted(ids, key=lambda one: (order.index(one) // 5, one), reverse=True)

    for limit in (1000, 7, 64, 200):
        assert ids_of(client, limit) == expected
    assert list(client.iter_workflow_instances()) == expected


def test_a_status_that_changes_between_pages_moves_no_row(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    ids = [f"i{n:02}" for n in range(40)]
    client.schedule_many("w", ids, instance_ids=ids)
    for at, one in enumerate(ids):
        age(hand, one, 1_700_000_000_000 + at)

    first = client.list_workflows(limit=10)
    for one in ids[::3]:
        hand.complete(one)
    client.schedule_new_workflow("w", instance_id="new")
    rest: list[str] = []
    cursor = first.cursor
    while cursor is not None:
        page = client.list_workflows(limit=10, cursor=cursor)
        rest += [state.instance_id for state in page]
        cursor = page.cursor

    assert [state.instance_id for state in first] + rest == ids[::-1]


def test_a_page_that_is_exactly_full_has_no_next(client: wf.WorkflowClient) -> None:
    client.schedule_many("w", range(10))

    page = client.list_workflows(limit=10)

    assert (len(page), page.cursor) == (10, None)


@pytest.fixture
def mixed(client: wf.WorkflowClient, hand: Hand) -> None:
    """Instances that differ in everything that can be filtered by."""
    client.schedule_new_workflow("order", instance_id="order-1", tags={"team": "a", "tier": "1"})
    client.schedule_new_workflow("order", instance_id="order-2", tags={"team": "b", "tier": "1"})
    client.schedule_new_workflow("greet", instance_id="greet-1", app_id="other")
    client.schedule_new_workflow("greet", instance_id="later", start_at=timedelta(hours=1))
    hand.turn("order-1")
    hand.complete("order-2")
    hand.turn("greet-1", status="SUSPENDED")


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "greet-1 later order-1 order-2"),
        ({"status": "completed"}, "order-2"),
        ({"status": wf.WorkflowStatus.RUNNING}, "order-1"),
        ({"status": ["RUNNING", "SUSPENDED"]}, "greet-1 order-1"),
        ({"status": "PENDING"}, "later"),
        ({"status": "FAILED"}, ""),
        ({"name": "order"}, "order-1 order-2"),
        ({"name": "Order"}, ""),
        ({"app_id": "other"}, "greet-1"),
        ({"id_contains": "rder-"}, "order-1 order-2"),
        ({"id_contains": "*"}, ""),
        ({"tags": {"tier": "1"}}, "order-1 order-2"),
        ({"tags": {"tier": "1", "team": "b"}}, "order-2"),
        ({"tags": {"tier": "11"}}, ""),
        ({"created_after": datetime(2020, 1, 1)}, "greet-1 later order-1 order-2"),
        ({"created_after": datetime(2100, 1, 1, tzinfo=UTC)}, ""),
        ({"created_before": datetime(2020, 1, 1)}, ""),
        ({"name": "order", "status": "RUNNING", "tags": {"team": "a"}}, "order-1"),
    ],
    ids=repr,
)
def test_filters_hold_together(
    client: wf.WorkflowClient, filters: FilterKeywords, expected: str
) -> None:
    assert sorted(ids_of(client, 2, **filters)) == expected.split()
    counts = client.count_workflows(**filters)
    assert sum(counts.values()) == len(expected.split())


def test_a_first_turn_to_come_is_pending_in_lists(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_many("w", range(3), instance_ids=["a", "b", "c"])
    hand.turn("b")

    assert sorted(ids_of(client, status="PENDING")) == ["a", "c"]
    assert ids_of(client, status="RUNNING") == ["b"]


def test_a_filter_that_fits_few_still_finds_them(client: wf.WorkflowClient) -> None:
    client.schedule_many("w", range(2000))
    client.schedule_new_workflow("rare", instance_id="needle")
    client.schedule_many("w", range(2000))

    assert ids_of(client, name="rare") == ["needle"]
    assert client.count_workflows(name="rare")[wf.WorkflowStatus.PENDING] == 1
    assert client.count_workflows(name="w")[wf.WorkflowStatus.PENDING] == 4000


def test_counts_lists_and_states_agree_on_what_is_pending(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    for number in range(5):
        client.schedule_new_workflow("w", instance_id=f"w-{number}")
    client.schedule_new_workflow("w", instance_id="later", start_at=timedelta(hours=1))
    for number in range(2):
        hand.turn(f"w-{number}", events=[["S", "inc"]])

    counts = client.count_workflows()

    for status in (wf.WorkflowStatus.PENDING, wf.WorkflowStatus.RUNNING):
        listed = ids_of(client, status=status)
        assert counts[status] == len(listed) == client.count_workflows(status=status)[status]
        for instance_id in listed:
            state = client.get_workflow_state(instance_id)
            assert state is not None
            assert state.runtime_status is status
    assert counts[wf.WorkflowStatus.PENDING] == 4
    assert list(client.count_workflows(status="RUNNING")) == [wf.WorkflowStatus.RUNNING]


@pytest.mark.parametrize("limit", [0, -1, 1001, "5", None])
def test_a_limit_that_makes_no_sense_is_refused(client: wf.WorkflowClient, limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="a page has 1 to 1000 rows"):
        client.list_workflows(limit=limit)


@pytest.mark.parametrize("cursor", ["", "x", "1", "12:", "12:a b", "-5:a", "9" * 30 + ":a"])
def test_a_cursor_that_no_page_gave_is_refused(client: wf.WorkflowClient, cursor: str) -> None:
    with pytest.raises((ConfigurationError, InvalidIdentifier)):
        client.list_workflows(cursor=cursor)


def test_filters_of_another_kind_are_refused(client: wf.WorkflowClient) -> None:
    with pytest.raises(ConfigurationError, match="no workflow status 'DONE'"):
        client.list_workflows(status="DONE")
    with pytest.raises(ConfigurationError, match="created_after must be a datetime"):
        client.list_workflows(created_after="yesterday")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match="no filter 'nome'"):
        client.list_workflows(nome="x")  # type: ignore[call-arg]  # on purpose
