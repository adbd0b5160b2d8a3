"""The fixtures of the pytest plugin, also where wfq was installed before it had one."""

from __future__ import annotations

from wfq.pytest_plugin import assert_replays, wfq_app, wfq_cluster, wfq_env

__all__ = ["assert_replays", "wfq_app", "wfq_cluster", "wfq_env"]
