"""Quotas of benchmarks: a process has its share while the context lasts, and no group is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import quota
from benchmarks.quota import NoQuota


def groups() -> list[str]:
    return [path.name for path in Path("/sys/fs/cgroup").rglob(f"wfq-bench-{os.getpid()}-*")]


def test_a_process_has_a_quota_while_the_context_lasts() -> None:
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            with quota.each([process.pid], 10):
                joined = Path(f"/proc/{process.pid}/cgroup").read_text()
                assert f"wfq-bench-{os.getpid()}-{process.pid}" in joined
        except NoQuota as exc:
            pytest.skip(str(exc))
        finally:
            process.kill()

    assert groups() == []


def test_where_there_is_none_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "_ROOT", tmp_path / "nothing")

    with pytest.raises(NoQuota, match="cannot make the control group"), quota.each([1], 10):
        raise AssertionError
