"""What is wrong after a round: the model's, the ledger's and the checker's findings.

The names L1 to L6 are those of docs/reliability.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from tests.chaos.ledger import Execution, Testimony
from tests.chaos.powercut import Window
from tests.chaos.shapes import CANARY, Ending, Job
from wfq.checker.namespace import check_namespace
from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.events import Record
from wfq.core.steps import unfold
from wfq.storage import instances
from wfq.storage.instances import TERMINAL, Stored
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

#: Instances fetched at once.
BATCH = 200
#: The password of the campaign's server: no log may show it.
PASSWORD = "canary-password-4tZ"
#: How a parent ends that was started again, its first start lost, and meets a child that was not.
_MET_A_STRANGER = re.compile(
    r"child workflow '([^']+)' was not started: an instance with this id exists$"
)


def root_of(instance_id: str) -> str:
    """The id of the job that an instance belongs to: its own, or an ancestor's."""
    return re.split(r"[.~]", instance_id)[0]


@dataclass(slots=True)
class Findings:
    """Violations by the witness that tells them, and figures."""

    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Verdict:
    """Compares what Redis holds with what the ledger and the model say.

    windows: when shards of a group may have lost what was acknowledged.
    """

    def __init__(
        self,
        link: SyncLink,
        namespace: Namespace,
        jobs: Sequence[Job],
        testimony: Testimony,
        windows: Sequence[Window] = (),
    ) -> None:
        self._link = link
        self._namespace = namespace
        self._jobs = {job.instance_id: job for job in jobs}
        self._testimony = testimony
        self._windows = windows
        self.findings = Findings()
        self._stored: dict[str, Stored] = {}

    def judge(self) -> Findings:
        """Ask every witness."""
        self._read_all()
        self._check_endings()
        self._check_strangers()
        self._check_results()
        self._check_asides()
        report = check_namespace(self._link, self._namespace, quiet=True)
        for violation in report.violations:
            self._blame(str(violation))
        for instance_id, why in report.explanations.items():
            job = self._jobs.get(root_of(instance_id))
            if job is None or not job.shape.stays:
                self._blame(f"stuck {instance_id}: {why}")
        self._count()
        return self.findings

    def _blame(self, text: str) -> None:
        self.findings.violations.append(text)

    def _read_all(self) -> None:
        for partition in range(self._namespace.partitions):
            ids = [
                member.decode()
                for status in instances.INDEXED
                for member in self._link.command(
                    "ZRANGE", self._namespace.index(partition, status), 0, -1
                )
            ]
            for some in _batches(ids):
                stored = self._link.run(instances.fetch(self._namespace, partition, some))
                for instance_id, found in zip(some, stored, strict=True):
                    if found is not None:
                        self._stored[instance_id] = found

    # --- L1, L2, L4: what was acknowledged has happened, and the end is the model's

    def _check_endings(self) -> None:
        for job in self._jobs.values():
            outcome = self._last_start(job)
            found = self._stored.get(job.instance_id)
            if outcome == "unknown" and found is None:
                # Nobody was told that it is there: it need not be.
                self.findings.counts["starts without an answer"] += 1
                continue
            if found is None:
                self._blame(f"L1 {job.instance_id}: its start was acknowledged, it is gone")
                continue
            self.findings.counts[f"shape {job.shape.name}"] += 1
            ending = self._ending(found)
            if self.may_have_met_a_stranger(job, ending):
                self.findings.counts["starts lost, children met"] += 1
                continue
            try:
                for wrong in job.shape.judge(job, ending):
                    self._blame(f"L4 {job.instance_id}: {wrong}")
            except (TypeError, KeyError, IndexError):
                # Not even of the form that its workflow returns.
                self._blame(f"L4 {job.instance_id}: gave {ending.output!r:.200}")

    def may_have_met_a_stranger(self, job: Job, ending: Ending) -> bool:
        """Whether it ended as docs/scaling.md says of a parent whose start a shard has lost."""
        met = _MET_A_STRANGER.search(ending.failure)
        return (
            met is not None
            and root_of(met[1]) == job.instance_id
            and any(
                window.holds(at)
                for window in self._windows
                for at in self._testimony.starts.get(job.instance_id, ())
            )
        )

    def _last_start(self, job: Job) -> str:
        outcomes = (self._testimony.outcome(job.instance_id, f"start {n}") for n in range(9, 0, -1))
        return next(filter(None, outcomes), "")

    def _ending(self, found: Stored) -> Ending:
        last = orjson.loads(found.records[-1])
        output, failure = None, ""
        if found.status in TERMINAL and last[0] == ev.TURN and last[ev.T_ACTIONS]:
            action = last[ev.T_ACTIONS][-1]
            if action[0] == act.FAIL:
                failure = f"{action[1]['type']}: {action[1]['message']}"
            else:
                output = action[1]
        elif found.stalled:
            failure = found.stalled
        turns = [orjson.loads(record) for record in found.records[1:]]
        raised = sum(event[0] == ev.RAISED for turn in turns for event in turn[ev.T_EVENTS])
        return Ending(found.status or "RUNNING", output, failure, self._testimony, raised)

    def _check_strangers(self) -> None:
        """Every instance is one that was asked for, or a child of one."""
        for instance_id in self._stored:
            if root_of(instance_id) not in self._jobs:
                self._blame(f"L1 {instance_id}: nobody has started it")

    # --- L3: every recorded result is that of an execution

    def _check_results(self) -> None:
        for instance_id, found in self._stored.items():
            records = [orjson.loads(record) for record in found.records]
            for task_id, event in _completions(records):
                self.findings.counts["results recorded"] += 1
                if event[0] == ev.FAILED and event[3]["type"] == "ActivityTimeout":
                    # It did not end in time: its worker may have been killed before it did.
                    continue
                key = f"{instance_id}:{found.incarnation}.{records[0][ev.B_GEN]}:{task_id}"
                seen = self._testimony.by_key.get(key, [])
                if not any(_fits(execution, event) for execution in seen):
                    said = [execution.result for execution in seen]
                    self._blame(
                        f"L3 {instance_id} task {task_id}: recorded {event[:1]} {event[3]!r:.200}, "
                        f"executed {said!r:.200}"
                    )

    def _check_asides(self) -> None:
        """Tasks that nobody awaited ran too, unless their instance was terminated."""
        for instance_id, found in self._stored.items():
            if found.status != "COMPLETED":
                continue
            records = [orjson.loads(record) for record in found.records]
            run = f"{found.incarnation}.{records[0][ev.B_GEN]}"
            for record in records[1:]:
                for action in record[ev.T_ACTIONS]:
                    if action[0] == act.SCHEDULE_TASK:
                        key = f"{instance_id}:{run}:{action[1]}"
                        self._check_executed(key, action)

    def _check_executed(self, key: str, action: list[Any]) -> None:
        # Long ones are told that the instance has ended, and stop.
        if action[2] != "slow" and key not in self._testimony.by_key:
            self._blame(f"L3 {key}: activity {action[2]} was scheduled and never ran")

    def _count(self) -> None:
        counts = self.findings.counts
        counts["instances"] = len(self._stored)
        counts["jobs"] = len(self._jobs)
        for (_, what), (outcome, _) in self._testimony.acks.items():
            counts[f"{what.split()[0]} {outcome}"] += 1
        counts["executions"] = len(self._testimony.executions)
        attempts = {(e.key, e.attempt) for e in self._testimony.executions}
        counts["executions repeated"] = counts["executions"] - len(attempts)


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while some := list(islice(left, BATCH)):
        yield some


def _completions(records: list[Record]) -> Iterator[tuple[int, list[Any]]]:
    """Activities' outcomes in a history: task id and event."""
    kinds: dict[int, str] = {}
    for record in unfold(records)[1:]:
        for event in record[ev.T_EVENTS]:
            if event[0] in (ev.COMPLETED, ev.FAILED) and kinds.get(event[1]) == act.SCHEDULE_TASK:
                yield event[1], event
        for action in record[ev.T_ACTIONS]:
            if action[0] in act.OPENING:
                kinds[action[1]] = action[0]


def _fits(execution: Execution, event: list[Any]) -> bool:
    attempt = event[4] if len(event) > 4 else 1
    if execution.attempt != attempt:
        return False
    return bool(event[0] == ev.FAILED or execution.result == event[3])


#: What no log may hold, and what it is called.
_FORBIDDEN = {
    PASSWORD: "the password",
    CANARY: "a payload",
}
#: Tracebacks of these are the failpoints' own.
_EXPECTED = ("FailpointRaised",)


def read_logs(paths: Iterable[Path]) -> Iterator[str]:
    """Yield what is wrong in the output of processes: secrets, tracebacks, too many lines."""
    for path in paths:
        text = path.read_text(errors="replace")
        for secret, name in _FORBIDDEN.items():
            if secret in text:
                yield f"log {path.name} shows {name}"
        for traceback in _tracebacks(text):
            if not any(word in traceback for word in _EXPECTED):
                yield f"log {path.name} has a traceback: {traceback}"


def _tracebacks(text: str) -> Iterator[str]:
    """Yield message and last line of each traceback, logged or printed."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("Traceback"):
            # Up to the first line that is not indented: the error.
            yield next((later for later in lines if not later.startswith(" ")), line)
        elif "Traceback" in line:
            yield _logged_traceback(line)


def _logged_traceback(line: str) -> str:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line[:300]
    last = document.get("exception", "").strip().splitlines()[-1:]
    return f"{document.get('message', '')}: {' '.join(last)}"[:300]
