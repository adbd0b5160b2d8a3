"""What a listener rule makes of a message: an event to raise, or a workflow to start.

Pure: values in, values out.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import Any, Protocol

from wfq.errors import InvalidIdentifier
from wfq.rules import ListenerRule, PathMissing, parse_path
from wfq.storage.keys import check_instance_id, check_new_instance_id
from wfq_workers.listening.messages import Message, Rejected

#: Characters of an event id that are kept as they are; a longer one is replaced by its digest.
_EVENT_ID = 200
#: Characters of an event's name.
_EVENT_NAME = 500


@dataclass(frozen=True, slots=True)
class Raise:
    """Raise an event; `event_id` None means that the message has nothing to know it again by."""

    instance_id: str
    event: str
    data: Any
    event_id: str | None


@dataclass(frozen=True, slots=True)
class Start:
    """Start a workflow; `instance_id` None means a new id."""

    workflow: str
    instance_id: str | None
    input: Any
    app_id: str | None


Intent = Raise | Start


class Doer(Protocol):
    """What a listener asks of the client; both verbs are safe to send again."""

    def raise_event(self, intent: Raise) -> None: ...

    def start(self, intent: Start) -> None: ...

    def close(self) -> None: ...


def identified(intent: Intent) -> Intent:
    """Give an intent an id that its repetitions share, where the message has none."""
    if isinstance(intent, Raise) and intent.event_id is None:
        return replace(intent, event_id=uuid.uuid4().hex)
    if isinstance(intent, Start) and intent.instance_id is None:
        return replace(intent, instance_id=uuid.uuid4().hex)
    return intent


_steps = lru_cache(maxsize=1024)(parse_path)


class Misfit(Rejected):
    """The message lacks what the rule looks for."""


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule with its paths taken apart. `number` tells rules of one source from each other."""

    rule: ListenerRule
    number: int = 0

    def apply(self, message: Message, default_id: str | None) -> Intent:
        """Return what to do. `default_id` identifies the delivery: stream and entry id.

        Raises: Misfit where the message lacks something, Rejected where something is unusable.
        """
        message_id = self._event_id(message, default_id)
        data = self._find(message, self.rule.data_from)
        if self.rule.workflow is not None:
            return Start(
                self.rule.workflow, self._new_id(message, message_id), data, self.rule.app_id
            )
        return Raise(self._instance_id(message), self._event(message), data, message_id)

    def _find(self, message: Message, path: str) -> Any:
        try:
            return message.find(_steps(path))
        except PathMissing:
            raise Misfit(f"it has nothing at {path}") from None

    def _text(self, message: Message, path: str) -> str:
        value = self._find(message, path)
        # An id that is a number in the message is the same text everywhere; true and 1.0 are not.
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str) or not value:
            raise Misfit(f"what it has at {path} is no text")
        return value

    def _instance_id(self, message: Message) -> str:
        assert self.rule.instance_id_from is not None, "validated by the rule"
        try:
            return check_instance_id(self._text(message, self.rule.instance_id_from))
        except InvalidIdentifier as exc:
            raise Rejected(str(exc)) from exc

    def _new_id(self, message: Message, message_id: str | None) -> str | None:
        if self.rule.instance_id_from is not None:
            try:
                return check_new_instance_id(self._text(message, self.rule.instance_id_from))
            except InvalidIdentifier as exc:
                raise Rejected(str(exc)) from exc
        # A message that is delivered twice starts one instance: its id comes from the message.
        return None if message_id is None else f"message-{_digest(message_id)}"

    def _event(self, message: Message) -> str:
        name = self.rule.event or self._text(message, self.rule.event_from or "$")
        if len(name) > _EVENT_NAME:
            raise Rejected(f"an event name of {len(name)} characters; {_EVENT_NAME} at most")
        return name

    def _event_id(self, message: Message, default_id: str | None) -> str | None:
        if self.rule.event_id_from is not None:
            found: str | None = self._text(message, self.rule.event_id_from)
        else:
            found = message.event_id or default_id
            # Two rules may raise two events from one message in one instance.
            if found is not None and self.number:
                found = f"{found}#{self.number}"
        if found is not None and len(found) > _EVENT_ID:
            return _digest(found)
        return found


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
