"""What must not be left over once nothing has happened for a while."""

from __future__ import annotations

from typing import Any

from wfq.checker.evidence import ENDED
from wfq.checker.report import Report, Violation
from wfq.storage.activities import GROUP
from wfq.storage.inspection import PartitionKeys
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink, Wire

#: Milliseconds after which a due timer or a posted message is late.
LATE_MS = 15_000
#: Fields of the tasks hash that live as long as their task may, by their first word.
_OF_TASKS = {"hb": "the heartbeat", "x": "the count of lone runs"}


def check_quiet(
    link: SyncLink, namespace: Namespace, partition: int, keys: PartitionKeys, report: Report
) -> None:
    """Add what is left over in one partition; the report knows its instances already."""
    wire = link.wire(timeout_s=30, key=namespace.timers(partition))
    try:
        _Leftovers(wire, namespace, partition, report).check(keys)
    finally:
        wire.close()


class _Leftovers:
    def __init__(self, wire: Wire, namespace: Namespace, partition: int, report: Report) -> None:
        self._wire = wire
        self._ns = namespace
        self._partition = partition
        self._report = report

    def check(self, keys: PartitionKeys) -> None:
        seconds, micros = self._ask("TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        members = self._timers(now_ms)
        self._tasks(members)
        self._cursors()
        self._outbox(now_ms)
        for queue in sorted(keys.queues):
            token = self._ask("HGET", self._ns.lease(self._partition, queue), "token")
            self._stream(self._ns.events(self._partition, queue), token, "events waiting")
        for queue in sorted(keys.activity_queues):
            key = self._ns.activities(self._partition, queue)
            self._stream(key, GROUP.encode(), "activity entries")

    def _ask(self, *command: str | int) -> Any:
        self._wire.send([command])
        return self._wire.receive()

    def _blame(self, invariant: str, subject: str, text: str) -> None:
        self._report.violations.append(Violation(invariant, subject, text))

    def _is_gone(self, instance_id: str) -> bool:
        trace = self._report.traces.get(instance_id)
        return trace is None or trace.status in ENDED

    def _timers(self, now_ms: int) -> set[str]:
        flat = self._ask("ZRANGE", self._ns.timers(self._partition), 0, -1, "WITHSCORES")
        members = set()
        for raw, score in zip(flat[::2], flat[1::2], strict=True):
            member, due = raw.decode(), int(float(score))
            members.add(member)
            instance_id = [*member.split(" "), "", ""][2]
            self._report.counts["timers"] += 1
            if instance_id not in self._report.traces:
                self._blame("Q1", instance_id, f"the timer {member!r} belongs to nobody")
            if due < now_ms - LATE_MS:
                self._blame("Q2", instance_id, f"the timer {member!r} is {now_ms - due} ms late")
        return members

    def _tasks(self, members: set[str]) -> None:
        retries = {m.split(" ", 2)[2] for m in members if m.startswith("R ")}
        deadlines = {" ".join(m.split(" ")[2:5]) for m in members if m.startswith("Q ")}
        for raw in self._ask("HKEYS", self._ns.tasks(self._partition)):
            field = raw.decode()
            words = field.split(" ")
            if words[0] == "p" and len(words) == 3 and "-" in words[1]:
                if not self._holds(words[2], words[1]):
                    self._blame("Q1", words[2], f"the mark {field!r} is of no entry")
            elif len(words) == 3 and field not in retries:
                self._blame("Q1", words[0], f"the waiting message {field!r} has no timer")
            elif words[0] == "s" and len(words) == 4 and field[2:] not in deadlines:
                self._blame("Q1", words[1], f"the start deadline {field!r} has no timer")
            elif words[0] in _OF_TASKS and len(words) == 4 and self._is_gone(words[1]):
                self._blame("Q1", words[1], f"{_OF_TASKS[words[0]]} {field!r} belongs to nobody")

    def _holds(self, queue: str, entry_id: str) -> bool:
        key = self._ns.activities(self._partition, queue)
        return bool(self._ask("XRANGE", key, entry_id, entry_id))

    def _cursors(self) -> None:
        for raw in self._ask("HKEYS", self._ns.cursors(self._partition)):
            if self._is_gone(raw.decode()):
                self._blame("Q1", raw.decode(), "an unfinished dispatch belongs to nobody")

    def _outbox(self, now_ms: int) -> None:
        key = self._ns.outbox(self._partition)
        self._report.counts["messages in outboxes"] += self._ask("XLEN", key)
        for entry in self._ask("XRANGE", key, "-", "+", "COUNT", 1):
            age_ms = now_ms - int(entry[0].partition(b"-")[0])
            if age_ms > LATE_MS:
                self._blame("Q3", key, f"a message waits to be forwarded for {age_ms} ms")

    def _stream(self, key: str, group: bytes | None, name: str) -> None:
        """The stream has its readers, and nothing in it is for an instance that is gone."""
        count = self._ask("XLEN", key)
        self._report.counts[name] += count
        if not count or group is None:
            return
        if group not in [row[1] for row in self._ask("XINFO", "GROUPS", key)]:
            self._blame("Q4", key, "it holds entries, and its consumer group is missing")
        gone = 0
        for _, fields in self._ask("XRANGE", key, "-", "+"):
            gone += sum(1 for raw in fields[::2] if self._is_gone(raw.decode()))
        if gone:
            self._blame("Q1", key, f"{gone} of what it holds is for instances that are gone")
