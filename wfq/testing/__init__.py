"""A kit for tests of workflows: in memory, on a virtual clock, over saved histories, fuzzed.

=====================  =============================================================
`Env`                  one process, in memory, virtual clock; pytest: ``wfq_env``
`Cluster`              real server and worker processes to kill; pytest: ``wfq_cluster``
`assert_replays`       saved histories against the code of today
`fuzz`                 thousands of orders of completions, failures, events and crashes
`in_memory`, `run`     the real workers on a store in memory, on the real clock
=====================  =============================================================
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wfq.testing.activities import HANGS, Call
    from wfq.testing.cluster import Cluster
    from wfq.testing.environment import Env
    from wfq.testing.fuzzing import Finding, Outcome, Report, fuzz
    from wfq.testing.handle import Handle
    from wfq.testing.histories import SavedHistory, read_histories, write_history
    from wfq.testing.replaying import Replayed, assert_replays, replay
    from wfq.testing.running import in_memory, run
    from wfq.testing.world import Stuck

__all__ = [
    "Call",
    "Cluster",
    "Env",
    "Finding",
    "HANGS",
    "Handle",
    "Outcome",
    "Replayed",
    "Report",
    "SavedHistory",
    "Stuck",
    "assert_replays",
    "fuzz",
    "in_memory",
    "read_histories",
    "replay",
    "run",
    "write_history",
]

#: The module of each name.
_HOME = {
    "Call": "activities",
    "Cluster": "cluster",
    "Env": "environment",
    "Finding": "fuzzing",
    "HANGS": "activities",
    "Handle": "handle",
    "Outcome": "fuzzing",
    "Replayed": "replaying",
    "Report": "fuzzing",
    "SavedHistory": "histories",
    "Stuck": "world",
    "assert_replays": "replaying",
    "fuzz": "fuzzing",
    "in_memory": "running",
    "read_histories": "histories",
    "replay": "replaying",
    "run": "running",
    "write_history": "histories",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use: the pytest plugin must cost nothing where it is unused."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'wfq.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"wfq.testing.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
