"""W7: payloads of 1 KB and 64 KB; dataclasses against plain JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from benchmarks.app import Line, Order, payload_chain, typed_chain
from benchmarks.fleet import ONE
from benchmarks.result import Target
from benchmarks.stage import Outcome, Stage
from benchmarks.suite import Case, Units

_MANY: Units = {"full": 10_000, "quick": 3_000, "tiny": 30}
_FEW: Units = {"full": 1_000, "quick": 300, "tiny": 4}


def hand_on(
    stage: Stage, units: int, *, workflow: Callable[..., Any], value: Callable[[], Any]
) -> Outcome:
    """Hand one value through three activities, in every instance."""
    values = [value()] * units
    before, begun = stage.completed(), time.perf_counter()
    # Batches are bounded by number, not by bytes.
    for first in range(0, units, 500):
        stage.client.schedule_many(workflow, values[first : first + 500])
    stage.wait_completed(before + units)
    return Outcome(time.perf_counter() - begun)


def text(size: int) -> str:
    """A text of `size` bytes as JSON."""
    return "0123456789abcdef" * (size // 16)


def plain_order() -> dict[str, Any]:
    """An order as plain JSON."""
    lines = [{"sku": f"sku-{n}", "quantity": n, "price": 9.5} for n in range(3)]
    return {
        "number": "order-1", "customer": "customer-1", "placed": "2026-01-02T03:04:05Z",
        "lines": lines, "paid": False,
    }  # fmt: skip


def typed_order() -> Order:
    """The same order as a dataclass."""
    lines = [Line(f"sku-{n}", n, 9.5) for n in range(3)]
    return Order("order-1", "customer-1", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), lines)


def plain_first(stage: Stage, units: int) -> None:
    """Measure the same order as plain JSON, right before the dataclass: machines change."""
    outcome = hand_on(stage, units, workflow=payload_chain, value=plain_order)
    stage.ready = {"plain_s": outcome.seconds}


def hand_on_typed(stage: Stage, units: int) -> Outcome:
    """Hand a dataclass on; tells how it compares with plain JSON."""
    outcome = hand_on(stage, units, workflow=typed_chain, value=typed_order)
    assert outcome.seconds is not None
    slower = (1 - stage.ready["plain_s"] / outcome.seconds) * 100
    return Outcome(outcome.seconds, figures={"slower_percent": slower})


def _case(
    name: str,
    units: Units,
    workflow: Callable[..., Any],
    value: Callable[[], Any],
    most_recorded: int | None = None,
) -> Case:
    work = partial(hand_on, workflow=workflow, value=value)
    return Case("W7", name, ONE, work, units, most_recorded=most_recorded)


CASES = [
    _case("payload of 1 KB", _MANY, payload_chain, partial(text, 1024)),
    # A recording holds each payload ten times.
    _case("payload of 64 KB", _FEW, payload_chain, partial(text, 65_536), most_recorded=100),
    _case("order as plain JSON", _MANY, payload_chain, plain_order),
    Case(
        "W7",
        "order as a dataclass",
        ONE,
        hand_on_typed,
        _MANY,
        prepare=plain_first,
        targets=(Target("slower_percent", goal=25, better="less"),),
    ),
]
