"""Status documents, as the seed prints them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.server.kit import BASE, Api, FakeEvent, with_state
from wfq.errors import FailureDetails
from wfq.management.state import WorkflowStatus
from wfq_server.documents import rfc3339

INPUT = '{"Name":"Paperclips","Quantity":1,"TotalCost":9.95}'


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2023, 5, 3, 23, 22, 11, 143069), "2023-05-03T23:22:11.143069000Z"),
        (datetime(2023, 5, 3, 23, 22, 11), "2023-05-03T23:22:11.000000000Z"),
        (datetime(2023, 5, 3, tzinfo=UTC), "2023-05-03T00:00:00.000000000Z"),
        (
            datetime(2023, 5, 3, 1, tzinfo=timezone(timedelta(hours=2))),
            "2023-05-02T23:00:00.000000000Z",
        ),
    ],
)
def test_times_are_utc_with_nanoseconds(moment: datetime, text: str) -> None:
    assert rfc3339(moment) == text


def test_a_running_instance_reads_as_in_the_seed() -> None:
    response = Api(with_state(serialized_input=INPUT)).run("GET", f"{BASE}/12345678")

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "instanceID": "12345678",
        "workflowName": "OrderProcessingWorkflow",
        "createdAt": "2023-05-03T23:22:11.143069000Z",
        "lastUpdatedAt": "2023-05-03T23:22:22.460025000Z",
        "runtimeStatus": "RUNNING",
        "properties": {"dapr.workflow.custom_status": "", "dapr.workflow.input": INPUT},
    }


def test_a_completed_instance_has_its_output_as_json_text() -> None:
    client = with_state(
        runtime_status=WorkflowStatus.COMPLETED,
        serialized_input=INPUT,
        serialized_output='{"Processed":true}',
        serialized_custom_status='"packing"',
    )

    document = Api(client).run("GET", f"{BASE}/12345678").json()

    assert document["runtimeStatus"] == "COMPLETED"
    assert document["properties"] == {
        "dapr.workflow.custom_status": '"packing"',
        "dapr.workflow.input": INPUT,
        "dapr.workflow.output": '{"Processed":true}',
    }


def test_a_failed_instance_tells_its_failure_and_no_output() -> None:
    client = with_state(
        runtime_status=WorkflowStatus.FAILED,
        failure_details=FailureDetails("ValueError", "no stock", "line 1"),
    )

    properties = Api(client).run("GET", f"{BASE}/12345678").json()["properties"]

    assert properties == {
        "dapr.workflow.custom_status": "",
        "dapr.workflow.failure.error_type": "ValueError",
        "dapr.workflow.failure.error_message": "no stock",
        "dapr.workflow.failure.stack_trace": "line 1",
    }


def test_a_stalled_instance_says_what_it_needs() -> None:
    client = with_state(runtime_status=WorkflowStatus.STALLED, stalled_reason="code is missing")

    document = Api(client).run("GET", f"{BASE}/12345678").json()

    assert document["runtimeStatus"] == "STALLED"
    assert document["properties"]["wfq.stalled_reason"] == "code is missing"


def test_the_fields_are_those_of_the_documents_in_the_seed(seed_text: str) -> None:
    blocks = seed_text.split("```json\n")[1:]
    documents = [json.loads(block.partition("```")[0]) for block in blocks]
    client = with_state(serialized_input=INPUT, serialized_output="1")
    ours = Api(client).run("GET", f"{BASE}/12345678").json()

    for document in documents[1:]:
        assert list(ours) == list(document)
        assert set(document["properties"]) <= set(ours["properties"])
        for name in ("createdAt", "lastUpdatedAt"):
            assert len(ours[name]) == len(document[name])


def test_a_history_is_a_list_of_numbered_events() -> None:
    document = Api(with_state()).run("GET", f"{BASE}/12345678/history").json()

    assert document == {"instanceID": "12345678", "events": [FakeEvent().to_json()]}


def test_a_list_has_no_payloads_and_a_token_while_there_is_more() -> None:
    api = Api(with_state(serialized_input=INPUT))

    last, first = (api.run("GET", f"{BASE}?limit={limit}").json() for limit in (2, 1))

    assert list(last) == ["workflows"]
    assert "properties" not in last["workflows"][0]
    assert first["continuationToken"] == "next"


@pytest.fixture
def seed_text() -> str:
    seed = Path(__file__).parents[3] / "shared" / "seed" / "workflow-patterns.md"
    if not seed.exists():
        pytest.skip("the seed's page is not beside this checkout")
    return seed.read_text(encoding="utf-8")


def test_an_explanation_has_the_names_of_the_api() -> None:
    document = Api(with_state()).run("GET", f"{BASE}/12345678/explain").json()

    assert document["instanceID"] == "12345678"
    assert document["runtimeStatus"] == "RUNNING"
    assert document["explanation"] == "it rests"
    assert document["todo"] == []
