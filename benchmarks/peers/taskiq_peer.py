"""taskiq on Redis Streams: each task queues the next; the last one counts. Four processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import redis
import redis.asyncio
from measure import report, until
from taskiq_redis import RedisStreamBroker

URL = os.environ["PEER_URL"]
broker = RedisStreamBroker(url=URL)
store = redis.asyncio.Redis.from_url(URL)


@broker.task(task_name="step")
async def step(x: int, left: int, answer_to: str) -> None:
    if left > 1:
        await step.kiq(x + 1, left - 1, answer_to)
    elif answer_to:
        await store.lpush(answer_to, x + 1)
    else:
        await store.incr("done")


async def start_all(chains: int) -> None:
    for first in range(0, chains, 100):
        numbers = range(first, min(first + 100, chains))
        await asyncio.gather(*(step.kiq(number, 3, "") for number in numbers))


def main(chains: int) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "taskiq", "worker", "taskiq_peer:broker", "--workers", "4",
         "--log-level", "ERROR"],
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    plain = redis.Redis.from_url(URL)
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(broker.startup())
        # A chain comes back once the workers listen; what came before is lost.
        while not plain.get("done"):
            loop.run_until_complete(start_all(1))
            time.sleep(1)
        plain.set("done", 0)
        begun = time.perf_counter()
        loop.run_until_complete(start_all(chains))
        until(lambda: int(plain.get("done") or 0) >= chains)
        seconds = time.perf_counter() - begun

        def one(number: int) -> None:
            loop.run_until_complete(step.kiq(number, 3, "answer"))
            assert plain.blpop(["answer"], timeout=60) == (b"answer", str(number + 3).encode())

        report(
            chains, seconds, one,
            version=f"taskiq {version('taskiq')}", how="Redis Streams, 4 processes",
        )  # fmt: skip
    finally:
        # Asked politely it waits for reads that never end (taskiq 0.13).
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


if __name__ == "__main__":
    main(int(sys.argv[2]))
