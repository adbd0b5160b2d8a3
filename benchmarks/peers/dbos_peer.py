"""DBOS on SQLite: a durable workflow of three steps, in one process."""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from pathlib import Path

from dbos import DBOS
from measure import report

DBOS(
    config={
        "name": "peer",
        "system_database_url": f"sqlite:///{Path.cwd() / 'peer.sqlite'}",
        "log_level": "ERROR",
    }
)


@DBOS.step()
def add_one(x: int) -> int:
    return x + 1


@DBOS.workflow()
def chain(x: int) -> int:
    for _ in range(3):
        x = add_one(x)
    return x


def main(chains: int) -> None:
    DBOS.launch()
    try:
        chain(0)
        begun = time.perf_counter()
        handles = [DBOS.start_workflow(chain, number) for number in range(chains)]
        for number, handle in enumerate(handles):
            assert handle.get_result() == number + 3
        seconds = time.perf_counter() - begun
        report(
            chains, seconds, lambda number: DBOS.start_workflow(chain, number).get_result(),
            version=f"DBOS {version('dbos')}", how="SQLite, one process",
        )  # fmt: skip
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main(int(sys.argv[2]))
