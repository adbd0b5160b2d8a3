"""What the core costs: microseconds of Python, without storage or activities.

::

    python benchmarks/core_turns.py
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Generator
from typing import Any

import orjson

from wfq.core.context import WorkflowContext
from wfq.core.instance import Instance
from wfq.core.tasks import when_all
from wfq.registry import Registry

Flow = Generator[Any, Any, Any]
BIRTH_MS = 1_700_000_000_000


def step1(ctx: Any, value: int) -> int:
    return value + 1


def step2(ctx: Any, value: int) -> int:
    return value * 2


def step3(ctx: Any, value: int) -> int:
    return value ^ 2


def chain(ctx: WorkflowContext, value: int) -> Flow:
    one = yield ctx.call_activity(step1, input=value)
    two = yield ctx.call_activity(step2, input=one)
    three = yield ctx.call_activity(step3, input=two)
    return [one, two, three]


async def chain_async(ctx: WorkflowContext, value: int) -> list[int]:
    one = await ctx.call_activity(step1, input=value)
    two = await ctx.call_activity(step2, input=one)
    three = await ctx.call_activity(step3, input=two)
    return [one, two, three]


def fan_out(ctx: WorkflowContext, count: int) -> Flow:
    results = yield when_all([ctx.call_activity(step1, input=n) for n in range(count)])
    return len(results)


def empty(ctx: WorkflowContext, value: int) -> int:
    return value


def long_chain(ctx: WorkflowContext, count: int) -> Flow:
    for n in range(count):
        yield ctx.call_activity(step1, input=n)


REGISTRY = Registry()
for function in (chain, chain_async, fan_out, empty, long_chain):
    REGISTRY.register_workflow(function)
for function in (step1, step2, step3):
    REGISTRY.register_activity(function)


def birth(name: str, value: int) -> list[Any]:
    return ["B", BIRTH_MS, "inc", 0, name, value, None, None]


def begin(name: str, value: int) -> Instance:
    instance = Instance.load("order-7", [birth(name, value)], REGISTRY)
    instance.apply([["S", "inc"]], BIRTH_MS, "n0")
    return instance


def run_chain(name: str) -> None:
    instance = begin(name, 42)
    instance.apply([["C", 0, "n0", 43]], BIRTH_MS, "n1")
    instance.apply([["C", 1, "n1", 86]], BIRTH_MS, "n2")
    instance.apply([["C", 2, "n2", 84]], BIRTH_MS, "n3")


def run_fan_out(count: int) -> None:
    instance = begin("fan_out", count)
    instance.apply([["C", n, "n0", n] for n in range(count)], BIRTH_MS, "n1")


def history_of(steps: int) -> list[Any]:
    instance = begin("long_chain", steps)
    records = [birth("long_chain", steps), ["T", BIRTH_MS, "n0", [["S", "inc"]], [], None]]
    records[1][4] = [["A", 0, "step1", 0, None]]
    for n in range(steps):
        turn = instance.apply([["C", n, f"n{n}", n]], BIRTH_MS, f"n{n + 1}")
        records.append(orjson.loads(orjson.dumps(turn.record())))
    return records


def measure(label: str, act: Callable[[], object], times: int, unit: int = 1) -> None:
    """Print the best and the median of nine rounds, in microseconds of CPU a unit."""
    rounds = []
    for _ in range(9):
        started = time.process_time()
        for _ in range(times):
            act()
        rounds.append((time.process_time() - started) / times / unit * 1e6)
    print(f"{label:<44} {min(rounds):8.2f} us   median {statistics.median(rounds):8.2f} us")


def main() -> None:
    gc.freeze()
    measure("chain of three, generator (4 turns)", lambda: run_chain("chain"), 20_000)
    measure("chain of three, async def (4 turns)", lambda: run_chain("chain_async"), 20_000)
    measure("empty workflow (1 turn)", lambda: begin("empty", 1), 50_000)
    measure("fan-out of 10,000, per task", lambda: run_fan_out(10_000), 5, 10_000)
    records = history_of(300)
    measure(
        "replay of 300 steps, per step",
        lambda: Instance.load("order-7", records, REGISTRY),
        20,
        300,
    )


if __name__ == "__main__":
    main()
