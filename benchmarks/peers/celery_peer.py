"""Celery: a chain of three tasks; the last one counts. Four prefork processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import celery
import redis
from measure import report, until

URL = os.environ["PEER_URL"]
app = celery.Celery("celery_peer", broker=f"redis+socket://{URL.removeprefix('unix://')}")
app.conf.result_backend = app.conf.broker_url
# What is lost with a worker is delivered again, as with wfq.
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 16
app.conf.broker_connection_retry_on_startup = True

store = redis.Redis.from_url(URL)


@app.task(ignore_result=True)
def add_one(x: int) -> int:
    return x + 1


@app.task(ignore_result=True)
def count(x: int) -> int:
    store.incr("done")
    return x + 1


@app.task
def answer(x: int) -> int:
    return x + 1


def main(chains: int) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "-c", "4", "-l", "error"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: bool(app.control.ping(timeout=0.5)))
        begun = time.perf_counter()
        for number in range(chains):
            celery.chain(add_one.s(number), add_one.s(), count.s()).apply_async()
        until(lambda: int(store.get("done") or 0) >= chains)
        seconds = time.perf_counter() - begun

        def one(number: int) -> None:
            chained = celery.chain(add_one.s(number), add_one.s(), answer.s())
            assert chained.apply_async().get(timeout=60) == number + 3

        report(
            chains, seconds, one,
            version=f"Celery {celery.__version__}", how="4 prefork processes, late acknowledgement",
        )  # fmt: skip
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    main(int(sys.argv[2]))
