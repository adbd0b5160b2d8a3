"""What the programs of peers share; runs in their environments, so it imports nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

#: Chains one after the other, for the latency.
IDLE = 100
#: Seconds for all chains of a peer.
PATIENCE_S = 300.0


def until(reached: Callable[[], bool]) -> None:
    """Wait until a condition holds. Raises: TimeoutError."""
    end = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError("the chains did not end")
        time.sleep(0.01)


def report(
    chains: int,
    seconds: float,
    one: Callable[[int], object],
    *,
    version: str,
    how: str,
) -> None:
    """Take the latency of chains one by one, and print everything as JSON."""
    taken = []
    for number in range(IDLE):
        begun = time.perf_counter()
        one(number)
        taken.append((time.perf_counter() - begun) * 1000)
    taken.sort()
    found = {
        "rate": chains / seconds,
        "p50_ms": taken[len(taken) // 2],
        "p99_ms": taken[int(len(taken) * 0.99)],
        "version": version,
        "how": how,
    }
    print(json.dumps(found), flush=True)
