"""A worker process for tests: ``activity_worker.py URL OPTIONS-AS-JSON``.

Its activities write a line to the file that their input names.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from typing import Any

from wfq.activity_context import ActivityContext
from wfq.registry import Registry
from wfq.storage.keys import Namespace
from wfq_workers.activities.options import ActivityOptions
from wfq_workers.activities.worker import ActivityLoop
from wfq_workers.process import new_worker_id, run_worker


def write(ctx: ActivityContext, path: str) -> int:
    """Append one line in one write."""
    with open(path, "a") as file:
        file.write(f"{ctx.workflow_id}\n")
    return os.getpid()


def write_and_wait(ctx: ActivityContext, path: str) -> None:
    write(ctx, path)
    while not os.path.exists(path + ".go"):
        time.sleep(0.01)


def hang(ctx: ActivityContext, path: str) -> None:
    write(ctx, path)
    while True:
        time.sleep(1)


def die(ctx: ActivityContext, path: str) -> None:
    write(ctx, path)
    os.kill(os.getpid(), signal.SIGKILL)


def linger(ctx: ActivityContext, path: str) -> None:
    write(ctx, path)
    time.sleep(0.25)


def die_in_company(ctx: ActivityContext, path: str) -> None:
    time.sleep(0.15)
    die(ctx, path)


def main() -> int:
    logging.basicConfig(level=logging.INFO)
    options: dict[str, Any] = json.loads(sys.argv[2])
    grace_s = options.pop("grace_s", 10.0)
    registry = Registry()
    for function in (write, write_and_wait, hang, die, linger, die_in_company):
        registry.register_activity(function)
    worker_id = new_worker_id()
    loop = ActivityLoop(
        sys.argv[1],
        Namespace("shop", 4),
        registry,
        ActivityOptions(**options),
        worker_id=worker_id,
    )
    return run_worker([loop], grace_s=grace_s, on_ready=lambda: logging.info("ready %s", worker_id))


if __name__ == "__main__":
    sys.exit(main())
