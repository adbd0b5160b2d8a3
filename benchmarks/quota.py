"""Giving each server the same share of a processor, by the kernel's control groups.

A machine with few processors cannot show what more servers give: workers and clients use them up.
With a quota each server has a fixed share, however busy the rest is, as if it had a slower
processor to itself. Linux only, and only for who may make control groups (root).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

#: Microseconds over which the share is kept: short beside what a command may wait.
PERIOD_US = 10_000
_ROOT = Path("/sys/fs/cgroup")


class NoQuota(RuntimeError):
    """This machine gives no quota to this user."""


@contextmanager
def each(pids: Sequence[int], percent: int) -> Iterator[None]:
    """Give every process `percent` of one processor while the context lasts. Raises: NoQuota."""
    with ExitStack() as stack:
        for pid in pids:
            stack.enter_context(_one(pid, percent))
        yield


@contextmanager
def _one(pid: int, percent: int) -> Iterator[None]:
    old = (_ROOT / "cpu").is_dir()  # version 1 has a tree for each controller
    parent = _ROOT / "cpu" if old else _ROOT
    group = parent / f"wfq-bench-{os.getpid()}-{pid}"
    quota_us = PERIOD_US * percent // 100
    try:
        group.mkdir()
    except OSError as exc:
        raise NoQuota(f"cannot make the control group {group}: {exc.strerror}") from None
    try:
        try:
            if old:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(quota_us))
            else:
                (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
            (group / "cgroup.procs").write_text(str(pid))
        except OSError as exc:
            raise NoQuota(f"cannot limit process {pid}: {exc.strerror}") from None
        yield
    finally:
        with _quiet():
            (parent / "cgroup.procs").write_text(str(pid))
        with _quiet():
            group.rmdir()


@contextmanager
def _quiet() -> Iterator[None]:
    """The process may have ended, and the group with it."""
    try:
        yield
    except OSError:
        return
