"""A fleet of worker processes on one server, as a user would start them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.servers import Processes, Spawned
from wfq.client import WorkflowClient
from wfq.management.history import HistoryEvent, HistoryEventType

#: Short leases, so that what a dead process held moves within a test's patience.
LEASES = {"WFQ_LEASE_S": "1.5", "WFQ_TASK_LEASE_S": "1.5"}


class Fleet:
    """Starts `wfq worker` processes for one app and gives a client of the same server."""

    def __init__(self, url: str, app: Path, processes: Processes) -> None:
        self.url = url
        self.app = app
        self._processes = processes
        self.client = WorkflowClient(redis_url=url)

    def worker(self, *only: str, env: Mapping[str, str] | None = None) -> Spawned:
        """Start a worker process with these roles (all but the listener unless given), ready."""
        process = self.start(*only, env=env)
        process.wait_for_log("ready as")
        return process

    def start(self, *only: str, env: Mapping[str, str] | None = None) -> Spawned:
        """Start a worker process and do not wait: it may die before it is ready."""
        roles = [argument for role in only for argument in ("--only", role)]
        return self._processes.wfq(
            "worker", self.app, *roles, env={"WFQ_REDIS_URL": self.url, **LEASES, **(env or {})}
        )

    def output(self, instance_id: str, timeout_s: float = 30.0) -> object:
        """Wait for the instance to end well and return its output."""
        state = self.client.wait_for_workflow_completion(instance_id, timeout_in_seconds=timeout_s)
        assert state is not None
        assert state.runtime_status.name == "COMPLETED", state
        return state.output()

    def history(self, instance_id: str) -> list[HistoryEvent]:
        """The events of the instance."""
        return list(self.client.get_workflow_history(instance_id))

    def close(self) -> None:
        """Close the client; the processes end with their fixture."""
        self.client.close()


def task_results(history: list[HistoryEvent]) -> list[int]:
    """Ids of the activities that a history completes; each should stand there once."""
    completed = HistoryEventType.TASK_COMPLETED
    return [e.task_id for e in history if e.event_type is completed and e.task_id is not None]
