"""Where `wfq demo` plays: two workers, the HTTP API and a listener, each a process of its own."""

from __future__ import annotations

import json
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from wfq.errors import StorageError, WfqError
from wfq.management.state import WorkflowState
from wfq.storage import membership
from wfq_cli.children import Child
from wfq_cli.demo.screen import WrongAnswer
from wfq_cli.demo.workflows import NOTES_VARIABLE
from wfq_cli.session import Session

#: Activities that one worker runs at a time: few, so that the killed one has work in hand.
SLOTS = 4
EVENT = "owner-answered"
APP = "wfq_cli.demo.workflows:bakery"

#: Seconds until the processes must be up.
_STARTUP_S = 20.0
#: Short leases: the demo does not want to wait long for what a killed worker had in hand.
_LEASES = {"WFQ_LEASE_S": "1.5", "WFQ_TASK_LEASE_S": "1.5"}


class Stage:
    """The processes of a demo and a client; everything ends with the `with` block."""

    def __init__(self, session: Session, mark: str) -> None:
        self._session = session
        self._client = session.client
        self._stack = ExitStack()
        self._mark = mark
        self.channel = f"bakery.{mark}"
        self._log: deque[str] = deque(maxlen=200)
        self._notes = Path()
        self._env: dict[str, str] = {}
        self.workers: list[Child] = []
        self.api = ""

    def __enter__(self) -> Self:
        scratch = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="wfq-demo-"))
        self._notes = Path(scratch, "notes")
        self._notes.touch()
        self._env = {**_LEASES, **self._session.environment(), NOTES_VARIABLE: str(self._notes)}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def set_up(self, say: Callable[[str], None]) -> None:
        """Start the processes and return when all of them are at work."""
        port = _free_port()
        self.api = f"http://127.0.0.1:{port}"
        say("starting two workers, the HTTP API and a pub/sub listener")
        self.workers = [self._worker("worker-1"), self._worker("worker-2")]
        self._start("api", "server", "--port", str(port))
        rule = ("--channel", self.channel, "--event", EVENT, "--instance-id-from", "$.order_id")
        self._start("listener", "listen", *rule)
        self.until(self._ready, _STARTUP_S, "the processes do not come up")

    def _worker(self, name: str) -> Child:
        return self._start(name, "worker", APP, "--concurrency", str(SLOTS))

    def _start(self, name: str, *arguments: str) -> Child:
        child = Child(name, arguments, sink=self._keep, env=self._env)
        self._stack.callback(child.stop, 5)
        self._stack.callback(child.ask_to_stop)
        return child

    def _keep(self, name: str, line: str) -> None:
        self._log.append(f"{name}: {line}")

    def _ready(self) -> bool:
        for child in self.workers:
            if child.exit_code is not None:
                raise WrongAnswer(f"{child.name} ended with exit code {child.exit_code}")
        return (
            len(self._live_pids() & {child.pid for child in self.workers}) == len(self.workers)
            and self._subscribers() > 0
            and _answers(f"{self.api}/livez")
        )

    def _live_pids(self) -> set[int]:
        live = membership.live_workers(self._session.link, self._session.namespace)
        return {int(info.details.get("pid", 0)) for info in live}

    def _subscribers(self) -> int:
        reply = self._session.link.command("PUBSUB", "NUMSUB", self.channel)
        return int(reply[1])

    def replace(self, dead: Child) -> None:
        """Start a worker in the place of one that was killed."""
        self.workers[self.workers.index(dead)] = self._worker(dead.name)

    @property
    def namespace(self) -> str:
        """Where the demo's instances are."""
        return self._session.settings.namespace

    # --- What the scenes ask for ---

    def new_id(self, name: str) -> str:
        """Return an instance id for this demo."""
        return f"{name}-{self._mark}"

    def start(self, workflow: Callable[..., Any], name: str, payload: Any) -> str:
        """Start a workflow and return the id of its instance."""
        return self._client.schedule_new_workflow(
            workflow, input=payload, instance_id=self.new_id(name)
        )

    def state(self, instance_id: str) -> WorkflowState[Any]:
        """Return the state of an instance."""
        state = self._client.get_workflow_state(instance_id)
        if state is None:
            raise WrongAnswer(f"the instance {instance_id} is gone")
        return state

    def ended(self, instance_id: str, timeout_s: float) -> WorkflowState[Any]:
        """Return the final state of an instance."""
        return self._client.wait_for_workflow_completion(instance_id, timeout_in_seconds=timeout_s)

    def output(self, instance_id: str, timeout_s: float) -> Any:
        """Return the output of an instance that must complete."""
        state = self.ended(instance_id, timeout_s)
        if state.runtime_status.name != "COMPLETED":
            why = state.failure_details.message if state.failure_details else "no reason given"
            raise WrongAnswer(f"{instance_id} is {state.runtime_status.name}: {why}")
        return json.loads(state.serialized_output or "null")

    def completions(self, instance_id: str) -> int:
        """Return how many task results the history of an instance holds."""
        history = self._client.get_workflow_history(instance_id)
        return sum(event.event_type.value == "TaskCompleted" for event in history)

    def notes(self) -> list[tuple[str, int]]:
        """Return what the activities noted: the tray they began with and their process."""
        rows = [line.split() for line in self._notes.read_text().splitlines()]
        return [(row[0], int(row[1])) for row in rows if len(row) == 2]

    def publish(self, message: Mapping[str, Any], timeout_s: float) -> None:
        """Publish a message on the demo's channel, for the listener."""
        self.until(lambda: self._subscribers() > 0, timeout_s, "nobody listens to the channel")
        self._session.link.command("PUBLISH", self.channel, json.dumps(message))

    def until(self, ask: Callable[[], bool], timeout_s: float, complaint: str) -> None:
        """Return when `ask` says yes. Raises: WrongAnswer."""
        end = time.monotonic() + timeout_s
        while not ask():
            if time.monotonic() > end:
                raise WrongAnswer(f"{complaint} (waited {timeout_s:g} s)")
            time.sleep(0.05)

    def last_words(self, count: int) -> list[str]:
        """Return the last lines that the processes wrote."""
        return list(self._log)[-count:]


def explain(error: BaseException) -> str:
    """Return why a scene failed, in one line."""
    if isinstance(error, (WrongAnswer, WfqError, StorageError)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
