"""W4: empty workflows, started in batches and one by one."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

from benchmarks.app import empty
from benchmarks.fleet import ONE, TWO_AND_TWO
from benchmarks.result import Target
from benchmarks.stage import Outcome, Stage
from benchmarks.suite import Case, Units
from tests.servers import ROOT

#: Client processes that start workflows one by one; how many threads of each do so at once, and
#: how many coroutines.
CLIENTS, THREADS, COROUTINES = 3, 4, 50

_UNITS: Units = {"full": 20_000, "quick": 6_000, "tiny": 60}

_CLIENT = """
import sys, threading
import wfq as wf
from benchmarks.app import empty

client = wf.WorkflowClient(redis_url=sys.argv[1])
client.ping()
print("ready", flush=True)
sys.stdin.readline()
count, threads = int(sys.argv[2]), %d

def one_by_one(first):
    for number in range(first, count, threads):
        client.schedule_new_workflow(empty, input=number)

others = [threading.Thread(target=one_by_one, args=(n,)) for n in range(1, threads)]
for other in others:
    other.start()
one_by_one(0)
for other in others:
    other.join()
"""

#: The same on one event loop.
_ASYNC_CLIENT = """
import asyncio, sys
import wfq.aio
from benchmarks.app import empty

async def main():
    async with wfq.aio.WorkflowClient(redis_url=sys.argv[1]) as client:
        await client.ping()
        print("ready", flush=True)
        sys.stdin.readline()
        left = iter(range(int(sys.argv[2])))

        async def one_by_one():
            for number in left:
                await client.schedule_new_workflow(empty, input=number)

        await asyncio.gather(*(one_by_one() for _ in range(%d)))

asyncio.run(main())
"""


def start_batched(stage: Stage, units: int) -> Outcome:
    before, begun = stage.completed(), time.perf_counter()
    stage.client.schedule_many(empty, range(units))
    stage.wait_completed(before + units)
    return Outcome(time.perf_counter() - begun)


def start_single(stage: Stage, units: int, *, program: str) -> Outcome:
    """One call an instance, from several client processes at once."""
    share = units // CLIENTS
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", program, stage.url, str(share)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(CLIENTS)
    ]  # fmt: skip
    try:
        for client in clients:
            assert client.stdout is not None
            client.stdout.readline()
        before, begun = stage.completed(), time.perf_counter()
        for client in clients:
            assert client.stdin is not None
            client.stdin.write("\n")
            client.stdin.flush()
        stage.wait_completed(before + share * CLIENTS)
        return Outcome(time.perf_counter() - begun)
    finally:
        for client in clients:
            client.kill()
            client.communicate()


CASES = [
    Case(
        "W4", "empty, batched starts", TWO_AND_TWO, start_batched, _UNITS,
        targets=(Target("rate", goal=40_000, floor=25_000),),
    ),
    *(
        Case(
            "W4", f"empty, single starts by {CLIENTS} {who}", ONE,
            partial(start_single, program=program), _UNITS,
            targets=(Target("rate", goal=20_000, floor=12_000),), warm_up=0,
        )
        for who, program in (
            ("clients", _CLIENT % 1),
            (f"clients of {THREADS} threads", _CLIENT % THREADS),
            ("asyncio clients", _ASYNC_CLIENT % COROUTINES),
        )
    ),
]  # fmt: skip
