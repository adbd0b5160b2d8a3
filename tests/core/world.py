"""A world for one instance: what storage and workers do around the core, without either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from wfq.core.decisions import UNSET
from wfq.core.failures import make_failure
from wfq.core.instance import Instance
from wfq.core.ports import NO_INPUT
from wfq.core.turn import CONTINUED, Turn
from wfq.registry import Registry

START_MS = 1_700_000_000_000
INC = "inc1"


def as_stored(value: Any) -> Any:
    """Return what comes back when a value is written to Redis and read again."""
    return orjson.loads(orjson.dumps(value))


def registry_of(*functions: Callable[..., Any]) -> Registry:
    """Return a registry in which every function is a workflow."""
    registry = Registry()
    for function in functions:
        registry.register_workflow(function)
    return registry


class World:
    """Drives one instance and checks at every turn that replay gives the same.

    Each turn is run twice: by the live instance, and by one freshly loaded from the records;
    both must decide the same. Afterwards a third is loaded, and its state must be that of the
    live one.
    """

    def __init__(
        self,
        workflow: Callable[..., Any] | str,
        value: Any = NO_INPUT,
        *,
        registry: Registry | None = None,
        instance_id: str = "order-7",
        parent: list[Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        if registry is None:
            assert callable(workflow)
            registry = registry_of(workflow)
        name = workflow if isinstance(workflow, str) else registry.workflow_ref(workflow)[0]
        extra = dict(extra or {})
        if value is NO_INPUT:
            extra["noinput"] = True
        payload = None if value is NO_INPUT else registry.encode(value, "input of workflow", name)
        birth = ["B", START_MS, INC, 0, name, payload, parent, extra or None]
        self.registry = registry
        self.id = instance_id
        self.records: list[Any] = [as_stored(birth)]
        self.now_ms = START_MS
        self.turns = 0
        self.stalled: str | None = None
        self.instance = self.load()

    # -- driving

    def load(self) -> Instance:
        return Instance.load(self.id, as_stored(self.records), self.registry, stalled=self.stalled)

    def reload(self, registry: Registry | None = None, stalled: str | None = None) -> None:
        """Let another worker, perhaps with other code, take over."""
        self.instance.discard()
        self.registry = registry or self.registry
        self.stalled = stalled
        self.instance = self.load()

    def turn(self, *events: Any, after_ms: int = 10) -> Turn:
        """Run one turn, commit it, and check that replay agrees."""
        self.now_ms += after_ms
        nonce = f"n{self.turns}"
        self.turns += 1
        fresh = self.load()
        again = fresh.apply(as_stored(list(events)), self.now_ms, nonce)
        turn = self.instance.apply(as_stored(list(events)), self.now_ms, nonce)
        assert _outcome(turn) == _outcome(again)
        assert state_of(self.instance) == state_of(fresh)
        fresh.discard()
        # A timer that fires takes the time along to when it was due.
        self.now_ms = max(self.now_ms, turn.now_ms)
        if turn.status == CONTINUED:
            self.records = [as_stored(turn.birth)]
            self.instance = self.load()
        elif not turn.empty:
            assert turn.index == len(self.records)
            self.records.append(as_stored(turn.record()))
            loaded = self.load()
            assert state_of(loaded) == state_of(self.instance)
            loaded.discard()
        return turn

    def start(self) -> Turn:
        return self.turn(self.started())

    # -- events

    def started(self) -> list[Any]:
        return ["S", INC, self.records[0]]

    def nonce(self, task_id: int) -> str:
        return self.instance.open[task_id].nonce

    def done(self, task_id: int, result: Any = None) -> list[Any]:
        return ["C", task_id, self.nonce(task_id), result, 1]

    def failed(self, task_id: int, message: str = "boom", kind: str = "ValueError") -> list[Any]:
        return ["X", task_id, self.nonce(task_id), make_failure(kind, message), 1]

    def fired(self, task_id: int) -> list[Any]:
        return ["F", task_id, self.nonce(task_id)]

    # -- reading

    @property
    def status(self) -> str:
        return self.instance.status

    @property
    def output(self) -> Any:
        """Output of the completed, or failure of the failed, instance."""
        action = self.records[-1][4][-1]
        assert action[0] in "K!Q", action
        return action[1]

    def actions(self, turn: int = -1) -> list[Any]:
        """Return the actions of a recorded turn."""
        found: list[Any] = self.records[turn][4]
        return found


def raised(name: str, data: Any = None, event_id: str | None = None, inc: str = INC) -> list[Any]:
    return ["E", inc, event_id, name, data]


_commands = iter(range(1_000_000))


def command(verb: str, command_id: str | None = None, inc: str = INC, **data: Any) -> list[Any]:
    return ["L", inc, command_id or f"cmd{next(_commands)}", verb, data]


def state_of(instance: Instance) -> Any:
    """Return everything that must be the same after a replay."""
    decisions = instance._decisions
    mailbox = decisions.mailbox
    return as_stored(
        {
            "status": instance.status,
            "why": instance.why,
            "turns": instance.turns,
            "gen": instance.gen,
            "version": instance.version,
            "now_ms": instance.now_ms,
            "open": [
                [i, o.kind, o.nonce, o.action, o.scheduled_ms]
                for i, o in sorted(instance.open.items())
            ],
            "next_id": decisions.next_id,
            "suspended": decisions.suspended,
            "held": [event for event, _ in instance._held],
            "untaken": [] if mailbox is None else mailbox.untaken(),
            "recent": list(instance._recent),
            "stuck": [[i, m] for i, m in instance._stuck.items()],
            "start_seen": instance._start_seen,
            "ended": instance._end,
            "awaiting": repr(instance._flow.awaiting),
            "patches": decisions._patches,
            "uuids": decisions._uuids,
        }
    )


def _outcome(turn: Turn) -> Any:
    found = {name: getattr(turn, name) for name in _OUTCOME}
    found["custom"] = None if turn.custom is UNSET else [turn.custom]
    return as_stored(found)


_OUTCOME = (
    "index",
    "now_ms",
    "nonce",
    "events",
    "actions",
    "extra",
    "status_before",
    "status",
    "stalled",
    "cancel_timers",
    "drop_tasks",
    "delivered",
    "birth",
    "children_to_terminate",
    "parent_event",
    "version",
)
