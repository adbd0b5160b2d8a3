"""``python -m tests.chaos --minutes N --seed S``: the campaign from the command line."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tests.chaos import groups
from tests.chaos.campaign import ROUND_S, Options, run_many
from tests.chaos.nemesis import KINDS, LOSSY


def main() -> int:
    """Run rounds and print the report; exit code 1 if anything was violated."""
    parser = argparse.ArgumentParser(prog="run.py chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="at least one round is run")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; then the next")
    parser.add_argument("--round", type=float, default=ROUND_S, help="seconds of faults a round")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    parser.add_argument("--rate", type=float, default=25.0, help="instances started a second")
    parser.add_argument("--mutation", default="", help="a defect to put into the workers")
    parser.add_argument("--power-cuts", action="store_true", help="lose the last second, too")
    parser.add_argument("--on", choices=("sentinel", "cluster"), default="", help="a group")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a directory for logs and ledgers")
    given = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s", stream=sys.stderr)
    options = Options(
        seed=given.seed, seconds=given.round, server=given.server, per_second=given.rate,
        mutation=given.mutation, cores=given.cores, keep=given.keep,
        on=given.on, lossy=given.power_cuts or bool(given.on),
        kinds=groups.KINDS[given.on] if given.on else LOSSY if given.power_cuts else KINDS,
    )  # fmt: skip
    report = run_many(options, given.minutes * 60)
    sys.stdout.write(f"{report}\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
