"""From a message to what its rules ask for: raise, start, or keep as a dead letter."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson

from wfq import failpoints
from wfq.core import events as ev
from wfq.errors import (
    InboxFull,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    InvalidIdentifier,
    PayloadError,
    StorageError,
)
from wfq.logs import plain_text
from wfq.storage.instances import Stored, fetch
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq_workers.backoff import Backoff, one_line
from wfq_workers.listening.counters import Counters
from wfq_workers.listening.dead_letters import DeadLetter
from wfq_workers.listening.intents import CompiledRule, Doer, Intent, Misfit, Raise, identified
from wfq_workers.listening.messages import Message, Rejected

log = logging.getLogger("wfq.listener")


#: What the instance, or the message itself, is to blame for: trying again changes nothing.
_REFUSALS = (
    InboxFull,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    InvalidIdentifier,
    PayloadError,
)


class Courier:
    """Delivers the messages of one source; used by one thread."""

    def __init__(
        self,
        source: str,
        rules: Sequence[CompiledRule],
        doer: Doer,
        link: SyncLink,
        namespace: Namespace,
        counters: Counters,
        stop: threading.Event,
    ) -> None:
        self.source = source
        self._rules = rules
        self._doer = doer
        self._link = link
        self._namespace = namespace
        self._counters = counters
        self._stop = stop
        self._backoff = Backoff(log, f"delivery from {plain_text(source)}")

    def deliver(
        self, raw: bytes, decode: Callable[[], Message], delivery_id: str | None = None
    ) -> bool:
        """Do all that one message asks for, waiting for Redis where that takes.

        Returns False when it was stopped before that: the message is not dealt with.
        """
        self._counters.add(self.source, "received")
        if failpoints.ACTIVE:
            failpoints.hit("listen.after_read")
        letters: list[DeadLetter] = []
        intents = self._intents(raw, decode, delivery_id, letters)
        for rule, intent in intents:
            refusal = self._until_done(partial(self._perform, intent))
            if refusal is None:
                return False
            if refusal:
                named = getattr(intent, "instance_id", None) or ""
                letters.append(self._letter(refusal, raw, delivery_id, rule, named))
            else:
                self._counters.add(self.source, "delivered")
        return all(self._keep(letter) for letter in letters)

    def _intents(
        self,
        raw: bytes,
        decode: Callable[[], Message],
        delivery_id: str | None,
        letters: list[DeadLetter],
    ) -> list[tuple[CompiledRule, Intent]]:
        """Apply every rule. What fits none, or is unusable, becomes a dead letter."""
        try:
            message = decode()
        except Rejected as exc:
            letters.append(self._letter(str(exc), raw, delivery_id))
            return []
        intents: list[tuple[CompiledRule, Intent]] = []
        misfits: list[str] = []
        for rule in self._rules:
            try:
                intents.append((rule, identified(rule.apply(message, delivery_id))))
            except Misfit as exc:
                misfits.append(str(exc))
            except Rejected as exc:
                letters.append(self._letter(str(exc), raw, delivery_id, rule))
        if not intents and not letters:
            reason = "; ".join(dict.fromkeys(misfits))
            letters.append(self._letter(f"fits no rule: {reason}", raw, delivery_id))
        return intents

    def _letter(
        self,
        reason: str,
        raw: bytes,
        delivery_id: str | None,
        rule: CompiledRule | None = None,
        instance_id: str = "",
    ) -> DeadLetter:
        chosen = rule.rule if rule is not None else None
        return DeadLetter(self.source, reason, raw, chosen, instance_id, delivery_id or "")

    def _perform(self, intent: Intent) -> str:
        """Carry out one intent; returns the reason when it is refused, else "".

        Raises: StorageError, when trying again may help.
        """
        try:
            if isinstance(intent, Raise):
                self._doer.raise_event(intent)
            else:
                self._doer.start(intent)
        except _REFUSALS as exc:
            if isinstance(exc, InstanceFinished) and self._was_raised(intent):
                return ""
            return one_line(exc).partition(": ")[2] or type(exc).__name__
        return ""

    def _was_raised(self, intent: Intent) -> bool:
        """Whether an event is in the history of its ended instance: it has come again."""
        if not isinstance(intent, Raise) or intent.event_id is None:
            return False
        partition = self._namespace.partition_of(intent.instance_id)
        (stored,) = self._link.run(fetch(self._namespace, partition, [intent.instance_id]))
        return stored is not None and intent.event_id in _events_of(stored)

    def _keep(self, letter: DeadLetter) -> bool:
        """Log, count and keep a dead letter; False when stopped before it was kept."""
        log.warning(
            "rejected a message of %s: %s; it is kept as a dead letter",
            plain_text(self.source),
            plain_text(letter.reason),
        )
        self._counters.add(self.source, "rejected")
        command = letter.command(self._namespace)
        return self._until_done(partial(self._write, command)) is not None

    def _write(self, command: tuple[Any, ...]) -> str:
        self._link.command(*command)
        return ""

    def _until_done(self, attempt: Callable[[], str]) -> str | None:
        """Return what `attempt` returns; try again while Redis is away. None when stopped."""
        while True:
            try:
                outcome = attempt()
            except StorageError as exc:
                if self._backoff.wait(exc, self._stop):
                    return None
            except Exception as exc:
                # A bug of ours: this message is set aside, the next ones go on.
                log.exception("a message of %s failed on an error of our own", self.source)
                return f"an error inside the listener: {one_line(exc)}"
            else:
                self._backoff.clear()
                return outcome


def _events_of(stored: Stored) -> set[str]:
    """Ids of the events that a history holds, those of earlier generations as far as it tells."""
    birth, *turns = (orjson.loads(record) for record in stored.records)
    known = set((birth[ev.B_EXTRA] or {}).get("ids") or ())
    return known.union(
        event[2] for turn in turns for event in turn[ev.T_EVENTS] if event[0] == ev.RAISED
    )
