"""Activities with ``process=True``: in another process, killed when they must end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import poll, runs
from tests.workers import activity_programs as programs
from tests.workers.activity_kit import Shop, retry
from wfq.codec import Codec
from wfq.errors import ConfigurationError
from wfq.registry import Registry
from wfq_workers.activities.children import locate


@pytest.fixture
def shop(valkey_url: str) -> Iterator[Shop]:
    shop = Shop(valkey_url)
    yield shop
    shop.close()


def test_it_runs_in_another_process_which_is_used_again(shop: Shop) -> None:
    shop.activity(programs.which_process, process=True)
    shop.worker(processes=1)

    pids = {shop.wait_event(shop.schedule("which_process"))[3] for _ in range(3)}

    assert len(pids) == 1
    assert pids != {os.getpid()}


def test_its_processes_end_with_the_worker(shop: Shop) -> None:
    shop.activity(programs.which_process, process=True)
    loop = shop.worker(processes=1)
    pid = shop.wait_event(shop.schedule("which_process"))[3]

    loop.stop(5)

    assert not runs(pid)


def test_context_and_types_are_the_same_there(shop: Shop) -> None:
    shop.activity(programs.describe, process=True)
    shop.worker()

    order = shop.schedule("describe", {"sku": "tea", "count": 2}, instance_id="order-8")

    assert shop.wait_event(order)[3] == [
        "order-8", 1, "order-8:inc1.0:0", None, {"sku": "tea", "count": 2},
    ]  # fmt: skip


def test_an_async_function_runs_there_too(shop: Shop) -> None:
    shop.activity(programs.sleep_a_little, process=True)
    shop.worker()

    assert shop.wait_event(shop.schedule("sleep_a_little"))[3] != os.getpid()


def test_a_busy_loop_is_killed_by_its_timeout_and_others_go_on(shop: Shop) -> None:
    shop.activity(programs.spin, process=True)
    shop.activity(programs.which_process, process=True)
    shop.worker(processes=1)
    pid = shop.wait_event(shop.schedule("which_process"))[3]

    failure = shop.wait_event(shop.schedule("spin", timeout_ms=100))[3]
    next_pid = shop.wait_event(shop.schedule("which_process"))[3]

    assert failure["type"] == "ActivityTimeout"
    assert next_pid != pid
    assert not runs(pid)


def test_a_process_that_dies_fails_its_attempt_alone(shop: Shop) -> None:
    shop.activity(programs.crash, process=True)
    shop.activity(programs.which_process, process=True)
    shop.worker(processes=1)

    event = shop.wait_event(shop.schedule("crash", retry=retry(2)))
    after = shop.wait_event(shop.schedule("which_process"))

    assert event[3]["type"] == "WorkerLost"
    assert "status 7" in event[3]["message"]
    assert event[4] == 2
    assert after[0] == "C"


def test_failures_keep_their_type_and_their_policy(shop: Shop) -> None:
    shop.activity(programs.fail, process=True)
    shop.activity(programs.leave, process=True)
    shop.worker(processes=1)

    refused = shop.wait_event(shop.schedule("fail", retry=retry(5, non_retryable=["Exception"])))
    left = shop.wait_event(shop.schedule("leave"))

    assert (refused[3]["type"], refused[3]["message"]) == ("LookupError", "no such thing")
    assert len(refused) == 4
    assert left[3]["type"] == "SystemExit"


def test_heartbeats_come_out_of_the_process(shop: Shop) -> None:
    shop.activity(programs.beat_then_fail, process=True)
    shop.worker()

    event = shop.wait_event(shop.schedule("beat_then_fail", retry=retry(2)))

    assert event[3:5] == [{"row": 3}, 2]


def test_cancellation_goes_into_the_process(shop: Shop, tmp_path: Path) -> None:
    shop.activity(programs.until_cancelled, process=True)
    shop.worker(lease_s=1.0)
    log = tmp_path / "log"
    order = shop.schedule("until_cancelled", str(log))
    poll(lambda: log.exists() and log.read_text() == "started\n")

    shop.set_status(order, "TERMINATED")

    poll(lambda: log.read_text() == "started\ncancelled\n")
    poll(lambda: shop.entries() == 0)
    assert shop.events_of(order) == []


def test_dependencies_are_opened_once_a_process_and_closed_at_its_end(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("DEPENDS_LOG", str(log))
    shop.activity(programs.with_dependency, process=True)
    loop = shop.worker(processes=1)

    answers = [shop.wait_event(shop.schedule("with_dependency"))[3] for _ in range(2)]
    loop.stop(5)

    assert answers == [[[str(log)], "async"]] * 2
    assert log.read_text() == "opened\nclosed\n"


class _Reversing:
    def encode(self, data: bytes) -> bytes:
        return data[::-1]

    def decode(self, data: bytes) -> bytes:
        return data[::-1]


def test_the_worker_alone_knows_the_payload_codec(
    valkey_url: str, open_shop: Callable[[str], Shop]
) -> None:
    shop = open_shop(valkey_url)
    codec = Codec(transform=_Reversing())
    shop.registry = Registry(codec)
    entry = shop.registry.register_activity(programs.describe, process=True)
    shop.worker()

    order = shop.schedule("describe", codec.encode({"sku": "tea", "count": 1}, "test", "describe"))
    result = shop.wait_event(order)[3]

    assert result.startswith("wfq+codec:")
    assert entry.decode_result(result)[-1] == {"sku": "tea", "count": 1}


def test_a_function_that_no_module_holds_is_refused() -> None:
    def inner() -> None: ...

    for function in (inner, lambda: None):
        with pytest.raises(ConfigurationError, match="top of a module"):
            locate(function)
