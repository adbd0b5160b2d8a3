"""What a worker counts, read from its port, while it runs real work on a real server."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

import wfq as wf
from tests.metrics.scrape import scrape
from tests.servers import poll
from wfq.registry import Registry
from wfq.settings import load_settings
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace
from wfq_workers.loops import DEFAULT_ROLES, Job, Place, make_loops
from wfq_workers.metrics.counts import Durations
from wfq_workers.metrics.exporter import MetricsLoop

Serve = Callable[[Registry], str]


@pytest.fixture
def serve(valkey_url: str) -> Iterator[Serve]:
    """Run all roles of a worker with a port for its metrics; returns their URL."""
    running: list[Any] = []

    def start(registry: Registry) -> str:
        settings = load_settings(redis_url=valkey_url, metrics_port=0)
        link = SyncLink(valkey_url)
        namespace = open_namespace(link, settings.namespace)
        link.close()
        job = Job(DEFAULT_ROLES, registry)
        loops = make_loops(Place(settings, valkey_url, namespace), job, own_process=False)
        for loop in loops:
            running.append(loop)
            loop.start()
        (exporter,) = (loop for loop in loops if isinstance(loop, MetricsLoop))
        assert exporter.wait_bound(10)
        return f"http://127.0.0.1:{exporter.port}/metrics"

    yield start
    for loop in running:
        loop.stop(5.0)


def test_everything_that_a_worker_does_is_counted(serve: Serve, valkey_url: str) -> None:
    registry = Registry()

    def flaky(ctx: wf.ActivityContext, n: int) -> int:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return n

    def broken(ctx: wf.ActivityContext, n: int) -> int:
        raise ValueError("never")

    def good(ctx: wf.WorkflowContext, n: int) -> Any:
        yield ctx.create_timer(timedelta(milliseconds=20))
        policy = wf.RetryPolicy(
            first_retry_interval=timedelta(milliseconds=10), max_number_of_attempts=3
        )
        return (yield ctx.call_activity(flaky, input=n, retry_policy=policy))

    def bad(ctx: wf.WorkflowContext, n: int) -> Any:
        return (yield ctx.call_activity(broken, input=n))

    for activity in (flaky, broken):
        registry.register_activity(activity)
    for workflow in (good, bad):
        registry.register_workflow(workflow)
    url = serve(registry)
    with wf.WorkflowClient(redis_url=valkey_url) as client:
        ids = [client.schedule_new_workflow("good", input=n) for n in range(3)]
        ids.append(client.schedule_new_workflow("bad", input=1))
        for instance_id in ids:
            client.wait_for_workflow_completion(instance_id, timeout_in_seconds=30)

    # The worker counts a commit when it hears that it is taken: after the client, at times.
    poll(lambda: scrape(url).get("wfq_events_total") == 11)
    found = scrape(url)

    assert found['wfq_workflow_starts_total{workflow="good"}'] == 3
    assert found['wfq_workflow_completions_total{status="COMPLETED",workflow="good"}'] == 3
    assert found['wfq_workflow_completions_total{status="FAILED",workflow="bad"}'] == 1
    assert found['wfq_workflow_seconds_count{status="COMPLETED",workflow="good"}'] == 3
    assert found['wfq_workflow_seconds_sum{status="COMPLETED",workflow="good"}'] >= 0.06
    assert found['wfq_activities_total{activity="flaky",result="completed"}'] == 3
    assert found['wfq_activities_total{activity="broken",result="failed"}'] == 1
    assert found['wfq_activity_retries_total{activity="flaky"}'] == 3
    assert found['wfq_activity_seconds_count{activity="flaky"}'] == 6
    assert found["wfq_activity_schedule_to_start_seconds_count"] == 4
    # Three timers and three retries; turns: a start, a timer, a result, and two of `bad`.
    assert found["wfq_timers_fired_total"] == 6
    assert found["wfq_timer_lateness_seconds_count"] >= 1
    assert found["wfq_turn_seconds_count"] == 11
    assert found["wfq_events_total"] == 11
    assert 1 <= found["wfq_commits_total"] <= 11
    # All but the starts; those too where a partition was taken after them.
    assert 7 <= found["wfq_cache_hits_total"] + found["wfq_cache_misses_total"] <= 11
    assert found["wfq_partitions_owned"] == 16
    assert found["wfq_activity_slots"] == 64
    assert 'wfq_redis_errors_total{role="activity"}' in found
    # The process comes from the library.
    assert found["process_cpu_seconds_total"] > 0


def test_nothing_but_the_metrics_is_there(serve: Serve) -> None:
    url = serve(Registry())

    with pytest.raises(HTTPError, match="404"):
        urlopen(url.replace("/metrics", "/"), timeout=10)


def test_a_port_that_is_taken_is_said_once_and_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wfq_workers.metrics.exporter.AGAIN_S", 0.02)
    caplog.set_level(logging.WARNING, "wfq.metrics")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        loop = MetricsLoop("127.0.0.1", port, [])
        loop.start()
        poll(lambda: caplog.messages)
        assert loop.wait_ready(0)
        assert not loop.wait_bound(0.1)

    assert loop.wait_bound(10)
    scrape(f"http://127.0.0.1:{port}/metrics")
    loop.stop(5)

    assert len(caplog.messages) == 1
    assert f"127.0.0.1:{port}" in caplog.messages[0]


def test_durations_fall_into_the_bucket_that_holds_them() -> None:
    durations = Durations()
    for seconds in (0.0001, 0.003, 0.003, 5.0, -1.0, 90_000.0):
        durations.add(seconds)

    shown = dict(durations.shown())

    assert shown["0.000256"] == 2
    assert shown["0.004096"] == 4
    assert shown["16.777216"] == 5
    assert shown["+Inf"] == 6
    assert durations.total_s == pytest.approx(90_005.0061)
