"""Starting instances: ids, inputs, names, delays, tags, ids that are used again."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import wfq as wf
from tests.client.kit import NAMESPACE, Hand
from tests.servers import poll
from wfq.errors import (
    ConfigurationError,
    InstanceAlreadyExists,
    InvalidIdentifier,
    PayloadError,
    PayloadTooLarge,
    StorageUnavailable,
    WorkflowMisuse,
)
from wfq.management.ids import (
    MOMENT_S,
    MOST_CHOSEN,
    new_instance_id,
    new_instance_ids,
    partition_of_moment,
)
from wfq.storage import instances
from wfq.storage.keys import Namespace


@dataclass
class Order:
    cost: float


def order_workflow(ctx: wf.WorkflowContext, order: Order) -> Generator[Any, Any, str]:
    yield ctx.create_timer(timedelta(seconds=1))
    return f"{order.cost}"


@wf.alternate_name("other name")
def renamed(ctx: wf.WorkflowContext) -> None: ...


def test_a_start_is_pending_until_its_first_turn(client: wf.WorkflowClient, hand: Hand) -> None:
    instance_id = client.schedule_new_workflow("greet", input={"who": "Ada"})

    state = client.get_workflow_state(instance_id)
    assert state is not None
    assert state.runtime_status is wf.WorkflowStatus.PENDING
    assert (state.name, state.app_id, state.serialized_input) == (
        "greet", "default", '{"who":"Ada"}',
    )  # fmt: skip
    assert state.created_at.tzinfo is None
    assert abs(state.created_at - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=1)
    assert [event[0] for event in hand.events(instance_id)] == ["S"]


def test_an_id_is_made_up_and_differs(client: wf.WorkflowClient) -> None:
    first, second = client.schedule_new_workflow("w"), client.schedule_new_workflow("w")

    assert first != second
    assert re.fullmatch("[A-Za-z0-9]{18}", first)


@pytest.mark.parametrize("bad", ["", "a b", "x~y", "é", "a" * 201, "a\n", "{a}", 7])
def test_an_id_outside_the_alphabet_is_refused(client: wf.WorkflowClient, bad: Any) -> None:
    with pytest.raises(InvalidIdentifier, match="instance id"):
        client.schedule_new_workflow("w", instance_id=bad)


def test_no_input_and_none_are_no_input(client: wf.WorkflowClient, hand: Hand) -> None:
    absent = client.schedule_new_workflow("w")
    none = client.schedule_new_workflow("w", input=None)
    empty = client.schedule_new_workflow("w", input="")

    assert hand.history(absent)[0][7] == {"noinput": True}
    assert hand.history(none)[0][7] == {"noinput": True}
    assert hand.history(empty)[0][5:] == ["", None, None]
    state = client.get_workflow_state(empty)
    assert state is not None
    assert state.serialized_input == '""'


def test_a_function_is_known_by_its_name_alternate_name_or_registration(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    wfr = wf.WorkflowRuntime()

    @wfr.workflow(name="registered")
    def local(ctx: wf.WorkflowContext) -> int:
        return 1

    ids = [client.schedule_new_workflow(fn) for fn in (order_workflow, renamed, local)]

    names = [hand.fields(instance_id)["name"] for instance_id in ids]
    assert names == ["order_workflow", "other name", "registered"]


@pytest.mark.parametrize("what", ["", " ", 7, None, lambda ctx: None])
def test_what_has_no_name_cannot_be_started(client: wf.WorkflowClient, what: Any) -> None:
    with pytest.raises(ConfigurationError):
        client.schedule_new_workflow(what)


def test_an_input_that_is_no_json_names_its_place(client: wf.WorkflowClient) -> None:
    with pytest.raises(PayloadError, match=r"\$\.items\[1\]"):
        client.schedule_new_workflow("w", input={"items": [1, object()]})


def test_an_input_that_is_too_large_never_leaves(client: wf.WorkflowClient) -> None:
    with pytest.raises(PayloadTooLarge, match="limit of 1048576"):
        client.schedule_new_workflow("w", input="x" * 1_100_000)


def test_a_dataclass_comes_back_as_what_is_asked_for(client: wf.WorkflowClient) -> None:
    instance_id = client.schedule_new_workflow(order_workflow, input=Order(12.5))

    state = client.get_workflow_state(instance_id)

    assert state is not None
    assert state.input() == {"cost": 12.5}
    assert state.input(Order) == Order(12.5)


def test_an_output_has_the_annotated_type_of_the_function(
    client: wf.WorkflowClient, hand: Hand
) -> None:
    def order_of(ctx: wf.WorkflowContext, cost: float) -> Order:
        return Order(cost)

    instance_id = client.schedule_new_workflow(order_of, input=1.0)
    hand.complete(instance_id, {"cost": 1.0})

    assert client.wait_for_workflow_completion(instance_id).output() == Order(1.0)
    assert client.wait_for_workflow_completion(str(instance_id)).output() == {"cost": 1.0}


# --- ids that exist


def test_a_live_id_is_refused(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", input=1, instance_id="a")
    hand.turn("a")

    with pytest.raises(InstanceAlreadyExists, match="'a' exists already and is RUNNING") as caught:
        client.schedule_new_workflow("w", input=2, instance_id="a")

    assert caught.value.instance_id == "a"
    assert hand.history("a")[0][5] == 1


def test_a_finished_id_is_used_again(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", input=1, instance_id="a")
    hand.complete("a")

    client.schedule_new_workflow("w", input=2, instance_id="a")

    state = client.get_workflow_state("a")
    assert state is not None
    assert (state.runtime_status.name, state.input()) == ("PENDING", 2)


@pytest.mark.parametrize("policy", ["error", wf.ReuseIdPolicy.ERROR])
def test_error_refuses_a_finished_id_too(
    client: wf.WorkflowClient, hand: Hand, policy: Any
) -> None:
    client.schedule_new_workflow("w", instance_id="a")
    hand.complete("a")

    with pytest.raises(InstanceAlreadyExists, match="COMPLETED"):
        client.schedule_new_workflow("w", instance_id="a", reuse_id_policy=policy)


@pytest.mark.parametrize("ended", [False, True])
def test_return_existing_takes_what_is_there(
    client: wf.WorkflowClient, hand: Hand, ended: bool
) -> None:
    client.schedule_new_workflow("w", input=1, instance_id="a")
    if ended:
        hand.complete("a")

    again = client.schedule_new_workflow(
        "w", input=2, instance_id="a", reuse_id_policy="return existing"
    )

    assert again == "a"
    assert hand.history("a")[0][5] == 1


def test_terminate_and_replace_waits_for_the_end(client: wf.WorkflowClient, hand: Hand) -> None:
    client.schedule_new_workflow("w", input=1, instance_id="a")

    def end() -> None:
        poll(lambda: any(event[0] == "L" for event in hand.events("a")))
        hand.turn("a", actions=[["Q", None]], status="TERMINATED")

    ending = threading.Thread(target=end)
    ending.start()
    client.schedule_new_workflow(
        "w", input=2, instance_id="a", reuse_id_policy="terminate_and_replace"
    )
    ending.join()

    state = client.get_workflow_state("a")
    assert state is not None
    assert (state.runtime_status.name, state.input()) == ("PENDING", 2)


def test_an_unknown_policy_is_refused(client: wf.WorkflowClient) -> None:
    with pytest.raises(ConfigurationError, match="no reuse policy 'sometimes'"):
        client.schedule_new_workflow("w", reuse_id_policy="sometimes")


def test_a_start_that_is_sent_again_is_the_same(hand: Hand) -> None:
    item = instances.NewInstance("a", "inc-1", "default", "w", b"1", policy="replace")
    call = instances.start(hand.ns, hand.ns.partition_of("a"), [item])

    first, second = hand.link.run(call), hand.link.run(call)

    assert first == second
    assert len(hand.events("a")) == 1


# --- delays and tags


def test_a_delayed_start_waits_in_the_timers(client: wf.WorkflowClient, hand: Hand) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    by_time = client.schedule_new_workflow("w", start_at=at)
    naive = client.schedule_new_workflow("w", start_at=at.replace(tzinfo=None))
    by_delay = client.schedule_new_workflow("w", start_at=timedelta(hours=1))

    for instance_id in (by_time, naive, by_delay):
        state = client.get_workflow_state(instance_id)
        assert state is not None
        assert state.runtime_status.name == "PENDING"
        assert hand.events(instance_id) == []
        timers = hand.ns.timers(hand.ns.partition_of(instance_id))
        due = float(hand.link.command("ZRANGE", timers, 0, 0, "WITHSCORES")[1])
        assert abs(due / 1000 - at.timestamp()) < 60
    with pytest.raises(wf.WaitTimeout, match="not started within"):
        client.wait_for_workflow_start(by_time, timeout_in_seconds=0.05)


@pytest.mark.parametrize(
    "start_at", [datetime(2020, 1, 1), timedelta(0), timedelta(seconds=-5)], ids=repr
)
def test_a_start_in_the_past_is_at_once(
    client: wf.WorkflowClient, hand: Hand, start_at: Any
) -> None:
    instance_id = client.schedule_new_workflow("w", start_at=start_at)

    assert [event[0] for event in hand.events(instance_id)] == ["S"]


def test_a_start_time_of_another_kind_is_refused(client: wf.WorkflowClient) -> None:
    with pytest.raises(WorkflowMisuse, match="start_at must be"):
        client.schedule_new_workflow("w", start_at=5)  # type: ignore[call-overload]  # on purpose


def test_tags_are_kept(client: wf.WorkflowClient) -> None:
    instance_id = client.schedule_new_workflow("w", tags={"team": "a b", "tier": "1"})

    state = client.get_workflow_state(instance_id)

    assert state is not None
    assert state.tags == {"team": "a b", "tier": "1"}


@pytest.mark.parametrize("tags", [{"a b": "x"}, {"a": 1}, {"": "x"}, {"a": "x" * 501}])
def test_tags_of_another_kind_are_refused(client: wf.WorkflowClient, tags: Any) -> None:
    with pytest.raises(ConfigurationError, match="tag"):
        client.schedule_new_workflow("w", tags=tags)


def test_the_application_is_the_clients_unless_given(redis_url: str, hand: Hand) -> None:
    with wf.WorkflowClient(redis_url=redis_url, namespace=NAMESPACE, app_id="shop") as client:
        own = client.schedule_new_workflow("w")
        other = client.schedule_new_workflow("w", app_id="bank")

    assert (hand.fields(own)["queue"], hand.fields(other)["queue"]) == ("shop", "bank")


# --- many


def test_many_starts_keep_their_order(client: wf.WorkflowClient, hand: Hand) -> None:
    ids = client.schedule_many("w", range(1200))

    assert len(set(ids)) == 1200
    assert [hand.history(ids[n])[0][5] for n in (0, 7, 600, 1199)] == [0, 7, 600, 1199]
    assert client.count_workflows()[wf.WorkflowStatus.PENDING] == 1200


def test_of_many_only_the_refused_is_missing(client: wf.WorkflowClient) -> None:
    client.schedule_new_workflow("w", instance_id="b")

    with pytest.raises(InstanceAlreadyExists, match="'b'"):
        client.schedule_many("w", [1, 2, 3], instance_ids=["a", "b", "c"])

    assert client.get_workflow_state("a") is not None
    assert client.get_workflow_state("c") is not None


def test_many_need_as_many_ids(client: wf.WorkflowClient) -> None:
    with pytest.raises(ConfigurationError, match="2 inputs and 1 instance ids"):
        client.schedule_many("w", [1, 2], instance_ids=["a"])


# --- where to


def test_a_server_that_is_away_is_told_at_first_use() -> None:
    client = wf.WorkflowClient(redis_url="redis://127.0.0.1:1/0")

    with pytest.raises(StorageUnavailable, match="cannot reach"):
        client.schedule_new_workflow("w")


def test_a_url_in_daprs_first_argument_is_meant(redis_url: str) -> None:
    with wf.WorkflowClient(redis_url, namespace=NAMESPACE) as client:
        client.schedule_new_workflow("w", instance_id="a")
    with wf.DaprWorkflowClient("localhost", "50001", None, url=redis_url, namespace=NAMESPACE) as c:
        assert c.get_workflow_state("a") is not None


def test_a_closed_client_says_so(redis_url: str) -> None:
    client = wf.WorkflowClient(redis_url=redis_url)
    client.ping()
    client.close()
    client.close()

    with pytest.raises(wf.WfqError, match="closed"):
        client.ping()


@pytest.mark.parametrize(
    ("count", "used"), [(0, 0), (1, 1), (15, 1), (40, 2), (100, 6), (255, 15), (2000, 16)]
)
def test_ids_of_a_batch_are_of_few_partitions_and_all_differ(count: int, used: int) -> None:
    space = Namespace("made-up", 16)

    ids = new_instance_ids(space, count)

    assert len(set(ids)) == count
    assert all(re.fullmatch("[A-Za-z0-9]{18}", made) for made in ids)
    assert len(set(map(space.partition_of, ids))) == used


def test_what_any_client_starts_in_one_moment_goes_into_one_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spaces = [Namespace("one", 16), Namespace("another", 16)]
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)

    ids = [new_instance_id(space) for space in spaces for _ in range(200)]

    assert len(set(ids)) == 400
    assert all(re.fullmatch("[A-Za-z0-9]{18}", made) for made in ids)
    assert len({spaces[0].partition_of(made) for made in ids}) == 1


@pytest.mark.parametrize("partitions", [1, 2, 3, 16, 50, MOST_CHOSEN])
def test_the_moments_of_any_second_are_shared_out_evenly(partitions: int) -> None:
    first, many = int(1_800_000_000.0 / MOMENT_S), 40 * partitions

    shares = Counter(partition_of_moment(first + n, partitions) for n in range(many))

    assert sorted(shares) == list(range(partitions))
    assert max(shares.values()) - min(shares.values()) <= 4


def test_with_more_partitions_than_an_id_can_be_made_for_it_is_random() -> None:
    space = Namespace("made-up", MOST_CHOSEN + 1)

    ids = [new_instance_id(space) for _ in range(300)]

    assert len({space.partition_of(made) for made in ids}) > 30


def test_ids_of_a_batch_are_shared_out_evenly_among_any_number_of_partitions() -> None:
    space = Namespace("made-up", 200)

    shares = Counter(map(space.partition_of, new_instance_ids(space, 160)))

    assert sorted(shares.values()) == [16] * 10
