"""A server, worker processes and a client, and measurements of what they do together."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import wfq as wf
from benchmarks.fleet import Fleet, Layout
from benchmarks.server import RedisMeter, RedisUse, start_server
from benchmarks.trace import BEGIN, END, Recorder, fix_entry_ids

#: Seconds between looks at how many instances have ended: finer would load Redis.
POLL_S = 0.02
#: Seconds for one measurement.
PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. `units`: what costs are divided by."""

    units: int
    seconds: float
    redis: RedisUse
    #: CPU seconds of worker processes, by role.
    workers: dict[str, float]
    #: Whatever else the workload has measured.
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.units / self.seconds


class Stage:
    """What a workload runs on. Its server is its own; so are the workers."""

    def __init__(
        self, layout: Layout, *, record: bool = False, profile: Path | None = None
    ) -> None:
        self.layout = layout
        self._record = record
        self._profile = profile
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _open(self) -> None:
        server = start_server()
        self._stack.callback(server.close)
        self.url = server.url
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.recorder: Recorder | None = None
        if self._record:
            fix_entry_ids(self.url)
            self.recorder = Recorder(self.url, self.directory / "trace")
            self._stack.callback(self.recorder.close)
        self.meter = RedisMeter(self.url)
        self._stack.callback(self.meter.close)
        self.client = self._stack.enter_context(wf.WorkflowClient(redis_url=self.url))
        # Makes the namespace, before workers race to do it.
        self.client.ping()
        #: What a workload makes ready for its own measured part.
        self.ready: dict[str, Any] = {}
        self.fleet = self.new_fleet(self.layout)

    def new_fleet(self, layout: Layout) -> Fleet:
        """Start worker processes; they end with the stage at the latest."""
        fleet = Fleet(self.url, layout, self.directory / f"workers-{time.monotonic_ns()}")
        self._stack.callback(fleet.kill)
        fleet.start()
        return fleet

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            trouble = self.fleet.logs()
            if trouble:
                print(trouble)
            if error is None:
                self.fleet.stop()
        finally:
            self._stack.close()

    # --- measuring

    def measure(self, units: int, work: Callable[[], Outcome | None]) -> Sample:
        """Run `work` and tell what it took; its own seconds count, where it gives them."""
        redis, workers = self.meter.read(), self.fleet.cpu_s()
        if self.recorder is not None:
            self.recorder.mark(BEGIN)
        begun = time.perf_counter()
        outcome = work() or Outcome()
        seconds = time.perf_counter() - begun
        if self.recorder is not None:
            self.recorder.mark(END)
        return Sample(
            units if outcome.units is None else outcome.units,
            seconds if outcome.seconds is None else outcome.seconds,
            self.meter.read().since(redis),
            {k: s - workers.get(k, 0.0) for k, s in self.fleet.cpu_s().items()},
            outcome.figures,
        )

    def wait_parked(self, total: int) -> None:
        """Wait until so many instances exist that wait for something, with nothing to do."""
        end = time.monotonic() + PATIENCE_S
        while self.meter.count("RUNNING") < total or self.meter.backlog():
            if time.monotonic() > end:
                raise TimeoutError(f"{self.meter.backlog()} entries are left in {PATIENCE_S} s")
            time.sleep(POLL_S)

    def replace_fleet(self) -> None:
        """Stop the workers and start others, which have nothing in memory."""
        self.fleet.stop()
        self.fleet = self.new_fleet(self.layout)

    def completed(self) -> int:
        """How many instances have completed."""
        return self.meter.count("COMPLETED")

    def wait_completed(self, total: int) -> None:
        """Wait until so many instances have completed. Raises: TimeoutError, AssertionError."""
        end = time.monotonic() + PATIENCE_S
        while (done := self.completed()) < total:
            if time.monotonic() > end:
                raise TimeoutError(f"{done} of {total} instances completed in {PATIENCE_S} s")
            failed = self.meter.count("FAILED") + self.meter.count("STALLED")
            assert not failed, f"{failed} instances failed"
            time.sleep(POLL_S)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a workload tells of one run, where it is not all that was asked for.

    `seconds` None: all of the run counts. `units` None: as many as were asked for.
    """

    seconds: float | None = None
    units: int | None = None
    figures: dict[str, float] = field(default_factory=dict)
