"""One instance in a test's world: its state, as a client reads it, and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from wfq.core import events as ev
from wfq.core.decisions import UNSET
from wfq.core.events import Action, Record
from wfq.core.instance import Instance
from wfq.core.turn import FINAL, RUNNING
from wfq.storage.instances import Snapshot


@dataclass(slots=True, eq=False)
class Life:
    """One instance. `generations` are the histories before the present one, `records`."""

    instance_id: str
    queue: str
    instance: Instance
    records: list[Record]
    created_ms: int
    changed_ms: int
    tags: dict[str, str] = field(default_factory=dict)
    generations: list[list[Record]] = field(default_factory=list)
    custom: Any = UNSET
    status: str = RUNNING
    stalled: str = ""
    checked: int = 0

    @property
    def inc(self) -> str:
        return str(self.records[0][ev.B_INC])

    @property
    def run(self) -> str:
        return f"{self.inc}.{self.records[0][ev.B_GEN]}"

    @property
    def ended(self) -> bool:
        return self.status in FINAL

    def explain(self) -> str:
        """Say what the instance waits for."""
        if self.ended:
            return f"it has ended: {self.status}"
        if self.status != RUNNING:
            return f"it is {self.status}" + (f": {self.stalled}" if self.stalled else "")
        waits = [_in_words(opened.action) for opened in self.instance.open.values()]
        return f"it waits for {', '.join(waits)}" if waits else "it waits for nothing"


def _in_words(action: Action) -> str:
    kind = {"A": "activity", "T": "timer", "E": "event", "W": "child"}[action[0]]
    name = f"#{action[1]}" if kind == "timer" else repr(action[2])
    return f"{kind} {name}"


def snapshot_of(life: Life) -> Snapshot:
    """Return an instance as a client reads it."""
    birth = life.records[0]
    gen = birth[3]
    fields = {
        "name": life.instance.name,
        "created": str(life.created_ms),
        "queue": life.queue,
        "gen": str(gen),
    }
    if life.status != "RUNNING":
        fields["status"] = life.status
    if life.ended:
        fields["ended"] = str(life.changed_ms)
    if life.stalled:
        fields["stalled"] = life.stalled
    if life.instance.version:
        fields["version"] = life.instance.version
    if life.instance.parent is not None:
        fields["parent"] = life.instance.parent[0]
    if life.tags:
        fields["tags"] = orjson.dumps(life.tags).decode()
    if life.custom is not UNSET:
        fields["custom"] = orjson.dumps(life.custom).decode()
    return Snapshot(
        life.instance_id, fields, len(life.records), life.changed_ms, birth, life.records[-1]
    )
