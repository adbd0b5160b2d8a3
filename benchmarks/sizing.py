"""What an instance takes: bytes of Redis memory, waiting and finished, and bytes of log written.

``python -m benchmarks.sizing`` runs instances of a few shapes on a Redis of its own, with workers
in this process, and divides what Redis then holds by their number. Ids are those that wfq makes
(32 characters); the input is a JSON object of about 100 bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import wfq as wf
from benchmarks import machine
from benchmarks.server import RedisMeter, start_server
from tests.servers import command_client, poll
from wfq.client import WorkflowClient

COUNT = 5_000
INPUT = {"order": "A-2026-000001", "item": "lathe", "total": 9000, "note": "x" * 40}


@dataclass(frozen=True, slots=True)
class Size:
    """One shape: bytes of memory held, and of the append-only file written, per instance."""

    shape: str
    memory_bytes: float
    log_bytes: float


def program(url: str) -> wf.WorkflowRuntime:
    """The shapes."""
    app = wf.WorkflowRuntime(redis_url=url)

    @app.activity
    def step(ctx: wf.ActivityContext, order: dict[str, Any]) -> dict[str, Any]:
        return order

    @app.workflow
    def waits_for_event(ctx: wf.WorkflowContext, order: Any) -> Generator[Any, Any, None]:
        yield ctx.wait_for_external_event("approved", timeout=timedelta(days=30))

    @app.workflow
    def waits_after_three(ctx: wf.WorkflowContext, order: Any) -> Generator[Any, Any, None]:
        for _ in range(3):
            order = yield ctx.call_activity(step, input=order)
        yield ctx.wait_for_external_event("approved", timeout=timedelta(days=30))

    @app.workflow
    def chain_of_three(ctx: wf.WorkflowContext, order: Any) -> Generator[Any, Any, Any]:
        for _ in range(3):
            order = yield ctx.call_activity(step, input=order)
        return order

    @app.workflow
    def fan_out_of_ten(ctx: wf.WorkflowContext, order: Any) -> Generator[Any, Any, int]:
        done = yield wf.when_all([ctx.call_activity(step, input=order) for _ in range(10)])
        return len(done)

    return app


#: Shape, workflow, and the status in which it comes to rest.
SHAPES: Sequence[tuple[str, str, str]] = (
    ("waiting for an event with a timeout, nothing done before", "waits_for_event", "RUNNING"),
    ("waiting for an event, three activities done before", "waits_after_three", "RUNNING"),
    ("finished: three activities in a row", "chain_of_three", "COMPLETED"),
    ("finished: ten activities at once", "fan_out_of_ten", "COMPLETED"),
)


def measure(count: int = COUNT) -> list[Size]:
    """The sizes, each shape on a Redis of its own."""
    return [_measure(shape, name, status, count) for shape, name, status in SHAPES]


def _measure(shape: str, name: str, status: str, count: int) -> Size:
    server = start_server()
    try:
        meter = RedisMeter(server.url)
        with program(server.url), WorkflowClient(redis_url=server.url) as client:
            # Streams, leases and buffers are there before it is measured.
            client.schedule_many(name, [INPUT] * 200)
            _settle(meter, status, 200)
            before = _held(server.url)
            client.schedule_many(name, [INPUT] * count)
            _settle(meter, status, 200 + count)
            after = _held(server.url)
        meter.close()
        return Size(shape, (after[0] - before[0]) / count, (after[1] - before[1]) / count)
    finally:
        server.close()


def _settle(meter: RedisMeter, status: str, count: int) -> None:
    """Return once all have come to rest: nothing waits in a stream any more."""

    def at_rest() -> bool:
        return meter.count(status) == count and not meter.backlog()

    poll(at_rest, 120, every_s=0.05)
    # Between two streams an instance is in neither: looked at again after a while.
    time.sleep(0.5)
    poll(at_rest, 120, every_s=0.05)


def _held(url: str) -> tuple[int, int]:
    with command_client(url) as client:
        client.execute_command("MEMORY", "PURGE")
        memory, log = client.info("memory"), client.info("persistence")
        return int(memory["used_memory_dataset"]), int(log["aof_current_size"])


def markdown(sizes: Sequence[Size]) -> str:
    """The table of the documentation."""
    rows = ["| instance | memory | log written |", "|---|---:|---:|"]
    rows += [
        f"| {one.shape} | {one.memory_bytes:,.0f} bytes | {one.log_bytes:,.0f} bytes |"
        for one in sizes
    ]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=COUNT, help="instances of each shape")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args(arguments)
    print(machine.line(machine.describe()), file=sys.stderr)
    sizes = measure(given.count)
    print(json.dumps([asdict(one) for one in sizes]) if given.json else markdown(sizes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
