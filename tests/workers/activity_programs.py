"""Activities for tests of processes, at the top of a module that a child can import."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from wfq.activity_context import ActivityContext
from wfq.depends import Depends


@dataclass
class Order:
    sku: str
    count: int


def which_process(ctx: ActivityContext, _: Any) -> int:
    return os.getpid()


def describe(ctx: ActivityContext, order: Order) -> list[Any]:
    assert isinstance(order, Order)
    return [ctx.workflow_id, ctx.attempt, ctx.idempotency_key, ctx.heartbeat_details, order]


async def sleep_a_little(ctx: ActivityContext, _: Any) -> int:
    await asyncio.sleep(0.01)
    return os.getpid()


def spin(ctx: ActivityContext, _: Any) -> None:
    """Never ends, and never looks at anything."""
    while True:
        pass


def crash(ctx: ActivityContext, _: Any) -> None:
    os._exit(7)


def fail(ctx: ActivityContext, _: Any) -> None:
    raise LookupError("no such thing")


def leave(ctx: ActivityContext, _: Any) -> None:
    raise SystemExit(3)


def beat_then_fail(ctx: ActivityContext, _: Any) -> Any:
    if ctx.attempt == 1:
        ctx.heartbeat({"row": 3})
        raise ValueError("again")
    return ctx.heartbeat_details


def until_cancelled(ctx: ActivityContext, path: str) -> None:
    with open(path, "a") as log:
        log.write("started\n")
    while not ctx.is_cancelled:
        time.sleep(0.01)
    with open(path, "a") as log:
        log.write("cancelled\n")


def open_log() -> Iterator[list[str]]:
    path = os.environ["DEPENDS_LOG"]
    with open(path, "a") as log:
        log.write("opened\n")
    yield [path]
    with open(path, "a") as log:
        log.write("closed\n")


async def open_async() -> AsyncIterator[str]:
    yield "async"


def with_dependency(
    ctx: ActivityContext,
    _: Any,
    log: list[str] = Depends(open_log),  # noqa: B008  # a marker
    name: str = Depends(open_async),
) -> list[Any]:
    return [log, name]
