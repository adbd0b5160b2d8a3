"""The command: ``python3 run.py bench [--quick] [WORKLOAD...]``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import idle, machine, shards, w1, w2, w3, w4, w5, w6, w7
from benchmarks.peers.runner import PEERS, run_peers
from benchmarks.quota import NoQuota
from benchmarks.result import describe
from benchmarks.suite import Case, Options, run_case
from wfq.errors import WfqError

CASES: list[Case] = [case for module in (w1, w2, w3, w4, w5, w6, w7, idle) for case in module.CASES]


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if given.shards:
        print(machine.line(machine.describe()), flush=True)
        size = "tiny" if given.tiny else "quick" if given.quick else "full"
        try:
            print(shards.compare(size, given.quota))
        except NoQuota as exc:
            print(f"{exc}; run without --quota", file=sys.stderr)
            return 2
        return 0
    if given.peers is not None:
        return compare(given.peers, quick=given.quick)
    chosen = choose(given.workloads)
    if not chosen:
        names = ", ".join(dict.fromkeys(case.workload for case in CASES))
        print(f"no workload {' '.join(given.workloads)!r}; there are {names}", file=sys.stderr)
        return 2
    options = Options(
        size="tiny" if given.tiny else "quick" if given.quick else "full",
        with_limit=not given.no_limit,
        profiles=given.profile,
        repeat=given.repeat,
    )
    found: dict[str, Any] = {"machine": machine.describe(), "size": options.size, "results": []}
    print(machine.line(found["machine"]), flush=True)
    for case in chosen:
        try:
            result = run_case(case, options)
        except (WfqError, TimeoutError) as exc:
            # A machine that cannot keep up with one case may do so with the next.
            print(f"{case.workload}   {case.name}: {exc}", flush=True)
            failed = {"workload": case.workload, "case": case.name, "failed": str(exc)}
            found["results"].append(failed)
            continue
        print(describe(result), flush=True)
        found["results"].append(result.document())
        _save(given.json, found)
    return 0


def compare(names: Sequence[str], *, quick: bool) -> int:
    """Run what users may know instead, in environments of its own."""
    known = [peer.name for peer in PEERS]
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no peer {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    print(machine.line(machine.describe()), flush=True)
    run_peers(names, quick=quick)
    return 0


def choose(words: Sequence[str]) -> list[Case]:
    """The cases that the words name: ``w1``, or part of a case's name."""
    if not words:
        return list(CASES)
    wanted = [word.lower() for word in words]
    return [c for c in CASES if any(_fits(c, word) for word in wanted)]


def _fits(case: Case, word: str) -> bool:
    workload, _, part = word.partition(":")
    return workload == case.workload.lower() and part in case.name.lower()


def _save(path: Path | None, found: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py bench", description=__doc__)
    parser.add_argument(
        "--shards", action="store_true", help="W1 on three masters against one server"
    )
    parser.add_argument(
        "--quota",
        type=int,
        metavar="PERCENT",
        help="with --shards: of one processor, for each server (Linux, root)",
    )
    parser.add_argument(
        "workloads",
        nargs="*",
        metavar="WORKLOAD",
        help="w1 ... w7, idle; w1:one chooses the cases of W1 with 'one' in their names",
    )
    parser.add_argument("--quick", action="store_true", help="smaller, one sample of each")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--peers",
        nargs="*",
        metavar="NAME",
        help="run a chain of three on other engines instead, which are installed first",
    )
    parser.add_argument("--repeat", type=int, metavar="N", help="samples of each case")
    parser.add_argument("--no-limit", action="store_true", help="leave the replays out")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there too")
    parser.add_argument("--profile", type=Path, metavar="DIR", help="flame graphs, by py-spy")
    return parser  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
