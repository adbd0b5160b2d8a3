"""Idle on a cluster: what workers that have nothing to do ask of its masters.

``python -m benchmarks.idle_cluster [WORKERS]``. Counts the commands that clients send to all
masters together (what scripts call is not counted), and the processor time of the workers.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import wfq as wf
from benchmarks import machine
from benchmarks.fleet import ALL, Fleet, Layout
from benchmarks.idle import SETTLE_S, WORKERS
from benchmarks.server import OPTIONS, RedisMeter, choose_kind
from benchmarks.trace import Executed, Recorder
from tests.groups import ClusterGroup
from wfq.storage import scripts

SECONDS = 20
MASTERS = 3
#: Sent by the measurement itself.
_OURS = (b"ECHO", b"INFO", b"MONITOR")
#: The nodes' own.
_NODES = (b"REPLCONF",)


def main() -> None:
    """Measure and print."""
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else WORKERS
    print(machine.line(machine.describe()), flush=True)
    group = ClusterGroup(choose_kind(), OPTIONS, masters=MASTERS)
    with tempfile.TemporaryDirectory() as directory:
        with wf.WorkflowClient(redis_url=group.url) as client:
            client.ping()
        fleet = Fleet(group.url, Layout("idle", (ALL,) * workers), Path(directory))
        try:
            fleet.start()
            time.sleep(SETTLE_S)
            _watch(group, fleet, Path(directory))
        finally:
            fleet.kill()
            group.close()


def _watch(group: ClusterGroup, fleet: Fleet, directory: Path) -> None:
    recorders = [Recorder(m.url, directory / f"idle-{m.port}") for m in group.masters]
    meters = [RedisMeter(master.url) for master in group.masters]
    before, spent = fleet.cpu_s(), [meter.read() for meter in meters]
    time.sleep(SECONDS)
    used = sum(fleet.cpu_s().values()) - sum(before.values())
    redis_s = sum(m.read().since(b).main_s for m, b in zip(meters, spent, strict=True))
    sent = [_sent(recorder.finish()) for recorder in recorders]
    for meter in meters:
        meter.close()
    total = sum(sum(one.values()) for one in sent)
    each = ", ".join(f"{sum(one.values()) / SECONDS:.0f}" for one in sent)
    print(
        f"{len(fleet.workers)} idle workers on {MASTERS} masters: {total / SECONDS:.0f} commands/s "
        f"in total ({each}), {used / SECONDS / len(fleet.workers):.2%} of a processor for each "
        f"worker, {redis_s / SECONDS:.2%} for all masters together"
    )
    for name, count in sum(sent, Counter[str]()).most_common(12):
        print(f"  {count / SECONDS:7.1f}/s  {name}")


def _sent(executed: list[Executed]) -> Counter[str]:
    names = {script.sha.encode(): script.name for script in scripts.ALL}
    found: Counter[str] = Counter()
    for one in executed:
        name = one.words[0].upper()
        if one.inner or name in _OURS or name in _NODES:
            continue
        label = name.decode()
        if name == b"EVALSHA":
            label += f" {names.get(one.words[1], '?')}"
        elif len(one.words) > 1:
            label += f" {_kind(one.words[1])}"
        found[label] += 1
    return found


def _kind(key: bytes) -> str:
    """The kind of a key: what stands behind its hash tag."""
    return key.decode(errors="replace").partition("}:")[2].partition(":")[0]


if __name__ == "__main__":
    main()
