"""Dapr's names: what its programs import, and how its client answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pytest

import wfq as wf
from tests.client.kit import NAMESPACE, Hand
from wfq.compat import DaprClient, DaprInternalError, Settings


@pytest.fixture
def dapr(redis_url: str) -> Iterator[DaprClient]:
    with DaprClient(redis_url=redis_url, namespace=NAMESPACE) as client:
        yield client


def test_the_verbs_of_daprs_client_work(dapr: DaprClient, hand: Hand) -> None:
    started = dapr.start_workflow(
        workflow_component="dapr",
        workflow_name="hello_world_wf",
        input="Hi Counter!",
        instance_id="a",
        workflow_options={"task_queue": "testQueue"},
    )
    assert started.instance_id == "a"
    assert dapr.get_workflow("a", "dapr").runtime_status == "Pending"
    hand.turn("a", custom="half")
    found = dapr.get_workflow(instance_id="a", workflow_component="dapr")
    assert (found.runtime_status, found.workflow_name) == ("Running", "hello_world_wf")
    assert found.properties == {
        "dapr.workflow.custom_status": '"half"', "dapr.workflow.input": '"Hi Counter!"',
    }  # fmt: skip
    dapr.pause_workflow("a", "dapr")
    dapr.resume_workflow("a", "dapr")
    dapr.terminate_workflow("a", "dapr")
    assert [event[3] for event in hand.events("a")] == ["suspend", "resume", "terminate"]
    hand.turn("a", actions=[["Q", None]], status="TERMINATED")
    assert dapr.purge_workflow("a", "dapr").get_headers() == {}
    with pytest.raises(DaprInternalError) as caught:
        dapr.get_workflow("a", "dapr")
    assert "no such instance exists" in (caught.value._message or "")
    assert caught.value.as_dict()["errorCode"] == "ERR_DOES_NOT_EXIST"
    dapr.wait(1)


def test_the_seeds_client_block_raises_the_event(dapr: DaprClient, hand: Hand) -> None:
    @dataclass
    class Approval:
        approver: str

    instance_id = dapr.start_workflow("dapr", "purchase_order_workflow").instance_id

    dapr.raise_workflow_event(
        instance_id=instance_id,
        workflow_component="dapr",
        event_name="approval_received",
        event_data=asdict(Approval("Jane Doe")),
    )

    assert hand.events(instance_id)[1][3:] == ["approval_received", {"approver": "Jane Doe"}]


def test_a_failure_is_among_the_properties(dapr: DaprClient, hand: Hand) -> None:
    dapr.start_workflow("dapr", "w", instance_id="a")
    hand.fail("a", "ValueError", "no stock")

    found = dapr.get_workflow("a", "dapr")

    assert found.runtime_status == "Failed"
    assert found.properties["dapr.workflow.failure.error_message"] == "no stock"


@pytest.mark.parametrize(("given", "stored"), [(b'{"a": [1]}', {"a": [1]}), (b"", None), (b"7", 7)])
def test_raw_bytes_are_json_text(dapr: DaprClient, hand: Hand, given: bytes, stored: Any) -> None:
    dapr.start_workflow("dapr", "w", instance_id="a", input=given, send_raw_bytes=True)

    assert hand.history("a")[0][5] == stored


def test_raw_bytes_that_are_no_json_are_refused(dapr: DaprClient) -> None:
    with pytest.raises(DaprInternalError, match="not JSON"):
        dapr.start_workflow("dapr", "w", input=b"{", send_raw_bytes=True)


def test_what_is_no_json_is_daprs_error(dapr: DaprClient) -> None:
    with pytest.raises(DaprInternalError, match="input of workflow 'w'"):
        dapr.start_workflow("dapr", "w", input=object())


@pytest.mark.parametrize("blank", ["", "  ", None])
def test_blank_arguments_are_refused(dapr: DaprClient, blank: Any) -> None:
    with pytest.raises(ValueError, match="instance_id name cannot be empty or blank"):
        dapr.get_workflow(blank, "dapr")
    with pytest.raises(ValueError, match="workflow_component name cannot be empty or blank"):
        dapr.get_workflow("a", blank)


def test_settings_answer_with_daprs_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAPR_GRPC_PORT", "4001")
    monkeypatch.delenv("DAPR_HTTP_PORT", raising=False)

    settings = Settings()

    assert (settings.DAPR_RUNTIME_HOST, settings.DAPR_GRPC_PORT) == ("127.0.0.1", "4001")
    assert settings.DAPR_HTTP_PORT == 3500
    assert settings.DAPR_API_TOKEN is None


def test_every_public_name_is_there() -> None:
    missing = [name for name in wf.__all__ if not hasattr(wf, name)]

    assert missing == []
    assert wf.DaprWorkflowClient is wf.WorkflowClient
    assert wf.DaprWorkflowContext is wf.WorkflowContext
    assert wf.WorkflowActivityContext is wf.ActivityContext
    assert set(wf.__all__) <= set(dir(wf))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        wf.nonsense  # noqa: B018 - the look-up is the point


def test_importing_wfq_alone_loads_neither_redis_nor_pydantic() -> None:
    heavy = ("redis", "pydantic", "fakeredis", "asyncio", "orjson")
    code = f"import sys, wfq, wfq.errors; print([m for m in {heavy!r} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
