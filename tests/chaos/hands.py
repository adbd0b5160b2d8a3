"""What clients do to instances: each request is repeated until its outcome is known.

Scripts are generators that yield the seconds to wait before they go on, so that one thread
plays many of them. Everything a server has acknowledged goes into the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

from tests.chaos.ledger import Ledger
from wfq.client import WorkflowClient
from wfq.errors import (
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    InstanceRunning,
    StorageError,
)

#: Yields seconds to wait.
Script = Generator[float, None, None]
Asking = Generator[float, None, str]

#: Seconds between attempts of a request that the server could not be asked.
AGAIN_S = 0.2


class Hands:
    """A client and a ledger. `give_up` makes scripts end at their next step."""

    def __init__(self, client: WorkflowClient, ledger: Ledger) -> None:
        self.client = client
        self.ledger = ledger
        self.give_up = False

    def start(
        self, instance_id: str, workflow: str, value: Any, number: int = 1, **options: Any
    ) -> Asking:
        """Start an instance whose id no other start uses at the same time."""

        def ask() -> str:
            try:
                self.client.schedule_new_workflow(
                    workflow, input=value, instance_id=instance_id,
                    reuse_id_policy="error", **options,
                )  # fmt: skip
            except InstanceAlreadyExists:
                # Nobody else uses the id: an attempt whose answer was lost has started it.
                pass
            return "acked"

        return self._until_known(instance_id, f"start {number}", ask)

    def raise_event(self, instance_id: str, name: str, data: Any, event_id: str) -> Asking:
        """Raise an event with an id, so that it may be repeated."""

        def ask() -> str:
            self.client.raise_workflow_event(instance_id, name, data=data, event_id=event_id)
            return "acked"

        return self._until_known(instance_id, f"event {event_id}", ask)

    def suspend(self, instance_id: str) -> Asking:
        return self._verb(instance_id, "suspend", self.client.pause_workflow)

    def resume(self, instance_id: str) -> Asking:
        return self._verb(instance_id, "resume", self.client.resume_workflow)

    def terminate(self, instance_id: str) -> Asking:
        return self._verb(instance_id, "terminate", self.client.terminate_workflow)

    def purge(self, instance_id: str, number: int = 1) -> Asking:
        return self._verb(instance_id, f"purge {number}", self.client.purge_workflow)

    def until_ended(self, instance_id: str) -> Script:
        """Look now and then until the instance has ended."""
        while not self.give_up:
            try:
                state = self.client.get_workflow_state(instance_id, fetch_payloads=False)
            except StorageError:
                state = None
            if state is not None and state.runtime_status.is_final:
                return
            yield 0.25

    def _verb(self, instance_id: str, what: str, verb: Callable[[str], None]) -> Asking:
        def ask() -> str:
            verb(instance_id)
            return "acked"

        return self._until_known(instance_id, what, ask)

    def _until_known(self, instance_id: str, what: str, ask: Callable[[], str]) -> Asking:
        """Repeat a request that may be repeated until there is an answer, and write it down.

        Before it is sent the ledger says "unknown": it may happen even if no answer comes.
        """
        self.ledger.answered(instance_id, what, "unknown", time.time())
        outcome = "unknown"
        while outcome == "unknown" and not self.give_up:
            try:
                outcome = ask()
            except InstanceFinished:
                outcome = "finished"
            except InstanceNotFound:
                outcome = "not found"
            except InstanceRunning:
                outcome = "running"
            except StorageError:
                yield AGAIN_S
        if outcome != "unknown":
            self.ledger.answered(instance_id, what, outcome, time.time())
        return outcome
