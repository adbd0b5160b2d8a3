"""What really happened, written down outside the system under test.

Each process writes a SQLite file of its own, so that a process which is frozen in the middle of
a write holds up nobody; readers look at all files. A row is written before the system is told
anything, so whatever the system claims must be found here.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

#: Names the ledger's directory to worker processes.
VARIABLE = "CHAOS_LEDGER"

_TABLES = """
create table if not exists executions (
    key text not null, instance_id text not null, task_id integer not null,
    attempt integer not null, name text not null, result blob not null, pid integer not null);
create table if not exists acks (
    instance_id text not null, what text not null, outcome text not null, at real not null);
"""


@dataclass(frozen=True, slots=True)
class Execution:
    """An activity that ran to its end: what it returned, or None for one that raised."""

    key: str
    instance_id: str
    task_id: int
    attempt: int
    name: str
    result: Any
    pid: int


@dataclass(slots=True)
class Testimony:
    """All that the ledgers say."""

    executions: list[Execution] = field(default_factory=list)
    by_key: dict[str, list[Execution]] = field(default_factory=dict)
    #: What a client asked of an instance -> outcome and time (of the last answer).
    acks: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    #: When a client asked for the start of an instance, or was answered: epoch seconds.
    starts: dict[str, list[float]] = field(default_factory=dict)
    _by_instance: dict[str, list[Execution]] = field(default_factory=dict)

    def executions_of(self, instance_id: str) -> list[Execution]:
        """Executions of one instance's activities, over all its lives."""
        if not self._by_instance:
            for execution in self.executions:
                self._by_instance.setdefault(execution.instance_id, []).append(execution)
        return self._by_instance.get(instance_id, [])

    def outcome(self, instance_id: str, what: str) -> str:
        """What the client heard: "acked", "unknown", a refusal, or "" when it never asked."""
        return self.acks.get((instance_id, what), ("", 0.0))[0]


class Ledger:
    """Writes to the file of this process. Safe to share between threads."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{os.getpid()}.sqlite"
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # A killed process loses nothing that it has handed to the kernel.
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = off")
        self._db.executescript(_TABLES)

    @classmethod
    def of_environment(cls) -> Ledger:
        """The ledger that the campaign named to this worker process."""
        return cls(Path(os.environ[VARIABLE]))

    def executed(
        self, key: str, instance_id: str, task_id: int, attempt: int, name: str, result: Any
    ) -> None:
        """Note that an activity has done its work; call it before the result is returned."""
        row = (key, instance_id, task_id, attempt, name, orjson.dumps(result), os.getpid())
        with self._lock:
            self._db.execute("insert into executions values (?, ?, ?, ?, ?, ?, ?)", row)

    def answered(self, instance_id: str, what: str, outcome: str, at: float) -> None:
        """Note what a client heard of a request; "unknown" goes in before it is sent."""
        with self._lock:
            self._db.execute(
                "insert into acks values (?, ?, ?, ?)", (instance_id, what, outcome, at)
            )

    def close(self) -> None:
        self._db.close()


def read_ledgers(directory: Path) -> Testimony:
    """Read the files of all processes."""
    found = Testimony()
    by_key: defaultdict[str, list[Execution]] = defaultdict(list)
    for path in sorted(directory.glob("*.sqlite")):
        for row in _rows(path, "select * from executions"):
            key, instance_id, task_id, attempt, name, result, pid = row
            execution = Execution(
                key, instance_id, task_id, attempt, name, orjson.loads(result), pid
            )
            found.executions.append(execution)
            by_key[execution.key].append(execution)
        for instance_id, what, outcome, at in _rows(path, "select * from acks order by rowid"):
            found.acks[instance_id, what] = (outcome, at)
            if what.startswith("start "):
                found.starts.setdefault(instance_id, []).append(at)
    found.by_key = dict(by_key)
    return found


def _rows(path: Path, query: str) -> Iterator[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        try:
            yield from db.execute(query).fetchall()
        except sqlite3.OperationalError as exc:
            if "no such table" not in str(exc):
                raise
