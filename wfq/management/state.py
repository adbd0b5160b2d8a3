"""What a client sees of an instance: `WorkflowState` and `WorkflowStatus`."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Generic, TypeVar, overload

import orjson

from wfq.codec import Codec
from wfq.core import actions as act
from wfq.core.events import B_EXTRA, B_INPUT, T_ACTIONS, TURN, Payload
from wfq.core.failures import details_from_failure
from wfq.errors import FailureDetails, TaskFailedError
from wfq.management.ids import InstanceId
from wfq.management.waiting import Mark, mark_of
from wfq.storage.instances import TERMINAL, Snapshot

T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")

_EPOCH = datetime(1970, 1, 1)  # naive UTC, as the states of Dapr's client give
_LAST = datetime(9999, 12, 31, 23, 59, 59)


class WorkflowStatus(Enum):
    """The runtime status of an instance; numbers up to 6 are Dapr's."""

    UNKNOWN = 0
    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    TERMINATED = 4
    #: Created, and its first turn is to come (a delayed start, or no worker so far).
    PENDING = 5
    SUSPENDED = 6
    #: It needs code that fits, or a person; nothing is lost. `stalled_reason` says what.
    STALLED = 7
    CONTINUED_AS_NEW = 8

    @property
    def is_final(self) -> bool:
        """Whether an instance of this status has ended for good."""
        return self.name in TERMINAL

    @classmethod
    def parse(cls, status: WorkflowStatus | str) -> WorkflowStatus:
        """The status of that name, in any case. Raises: ValueError."""
        if isinstance(status, WorkflowStatus):
            return status
        try:
            return cls[status.upper()]
        except (KeyError, AttributeError):
            known = ", ".join(member.name for member in cls)
            raise ValueError(f"no workflow status {status!r}; there are {known}") from None


class WorkflowState(Generic[T_co]):
    """One instance at the moment it was read. Times are naive UTC, as in Dapr's client.

    Payload texts are JSON; they are None where there is no payload (or a null), and where
    payloads were not fetched.
    """

    __slots__ = (
        "_codec",
        "_custom",
        "_input",
        "_mark",
        "_output",
        "_output_type",
        "app_id",
        "created_at",
        "failure_details",
        "generation",
        "instance_id",
        "last_updated_at",
        "name",
        "parent_instance_id",
        "runtime_status",
        "stalled_reason",
        "tags",
        "version",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        codec: Codec,
        *,
        payloads: bool = True,
        output_type: Any = None,
    ) -> None:
        fields = snapshot.fields
        self.instance_id: InstanceId[T_co] = InstanceId.of(snapshot.instance_id, output_type)
        #: Name of the workflow.
        self.name: str = fields.get("name", "")
        self.runtime_status: WorkflowStatus = WorkflowStatus.parse(snapshot.status)
        self.created_at: datetime = from_ms(snapshot.created_ms)
        self.last_updated_at: datetime = from_ms(snapshot.changed_ms or snapshot.created_ms)
        #: Why it failed; None unless it is FAILED.
        self.failure_details: FailureDetails | None = None
        #: The application that has its code.
        self.app_id: str = fields.get("queue", "")
        self.tags: dict[str, str] = tags_of(snapshot)
        self.parent_instance_id: str | None = fields.get("parent")
        #: The workflow version that it is pinned to, if there are versions.
        self.version: str | None = fields.get("version")
        #: What a STALLED instance needs.
        self.stalled_reason: str | None = fields.get("stalled")
        #: How often it continued as new.
        self.generation: int = int(fields.get("gen", "0"))
        self._mark: Mark = mark_of(snapshot)
        self._codec = codec
        self._output_type = output_type
        self._input: Payload = None
        self._output: Payload = None
        # A custom status is a payload too, though it comes with the other fields.
        custom = fields.get("custom") if payloads else None
        self._custom: Payload = orjson.loads(custom) if custom else None
        if payloads:
            self._take_payloads(snapshot)

    def _take_payloads(self, snapshot: Snapshot) -> None:
        birth = snapshot.birth
        if birth is not None and not (birth[B_EXTRA] or {}).get("noinput"):
            self._input = birth[B_INPUT]
        last = snapshot.last
        if last is None or last[0] != TURN or not self.runtime_status.is_final:
            return
        action = last[T_ACTIONS][-1]
        if action[0] == act.FAIL:
            self.failure_details = details_from_failure(action[1])
        elif action[0] in (act.COMPLETE, act.TERMINATED):
            self._output = action[1]

    @property
    def serialized_input(self) -> str | None:
        """The input as JSON text."""
        return self._text(self._input)

    @property
    def serialized_output(self) -> str | None:
        """The result, or what it was terminated with, as JSON text."""
        return self._text(self._output)

    @property
    def serialized_custom_status(self) -> str | None:
        """What the workflow last gave to `set_custom_status`, as JSON text."""
        return self._text(self._custom)

    @overload
    def input(self) -> Any: ...
    @overload
    def input(self, as_type: type[U]) -> U: ...
    def input(self, as_type: Any = None) -> Any:
        """Return the input, as plain JSON values or validated as a type.

        None when there is none. Raises: PayloadError when it does not fit `as_type`.
        """
        return self._decoded(self._input, as_type, "input of workflow")

    @overload
    def output(self) -> T_co: ...
    @overload
    def output(self, as_type: type[U]) -> U: ...
    def output(self, as_type: Any = None) -> Any:
        """Return the result, validated as a type.

        The type is `as_type`, else the annotated result of the workflow function that the id
        was scheduled with, else plain JSON values. None when there is no result. What somebody
        terminated an instance with is no result of its function: plain unless `as_type` is given.
        Raises: PayloadError when it does not fit.
        """
        terminated = self.runtime_status is WorkflowStatus.TERMINATED
        known = None if terminated else self._output_type
        return self._decoded(self._output, as_type or known, "output of workflow")

    @overload
    def custom_status(self) -> Any: ...
    @overload
    def custom_status(self, as_type: type[U]) -> U: ...
    def custom_status(self, as_type: Any = None) -> Any:
        """Return the custom status, as plain JSON values or validated as a type."""
        return self._decoded(self._custom, as_type, "custom status of workflow")

    @property
    def mark(self) -> Mark:
        """What differs in every later state of the instance."""
        return self._mark

    def raise_if_failed(self) -> None:
        """Raise what the instance failed with. Raises: TaskFailedError."""
        if self.failure_details is not None:
            details = self.failure_details
            raise TaskFailedError(
                f"workflow instance {self.instance_id!r} failed: "
                f"{details.message or details.error_type}",
                details,
            )

    def to_json(self) -> dict[str, Any]:
        """Return the state as a dict, in the form of Dapr's client; times are datetimes."""
        document: dict[str, Any] = {
            "instance_id": self.instance_id,
            "name": self.name,
            "runtime_status": self.runtime_status.name,
            "created_at": self.created_at,
            "last_updated_at": self.last_updated_at,
            "serialized_input": self.serialized_input,
            "serialized_output": self.serialized_output,
            "serialized_custom_status": self.serialized_custom_status,
        }
        if self.failure_details is not None:
            document["failure_details"] = {
                "message": self.failure_details.message,
                "error_type": self.failure_details.error_type,
                "stack_trace": self.failure_details.stack_trace,
            }
        return document

    def __str__(self) -> str:
        return json.dumps(self.to_json(), indent=4, sort_keys=True, default=str)

    def __repr__(self) -> str:
        return f"<WorkflowState {self.instance_id!r} {self.name!r} {self.runtime_status.name}>"

    def _text(self, payload: Payload) -> str | None:
        if payload is None:
            return None
        return orjson.dumps(self._codec.plain(payload)).decode()

    def _decoded(self, payload: Payload, as_type: Any, what: str) -> Any:
        if as_type is None:
            return self._codec.plain(payload)
        return self._codec.decoder(as_type, what, self.name)(payload)


def tags_of(snapshot: Snapshot) -> dict[str, str]:
    """The tags that an instance was started with."""
    tags = snapshot.fields.get("tags")
    return orjson.loads(tags) if tags else {}


def from_ms(epoch_ms: int) -> datetime:
    """Epoch milliseconds as naive UTC; what lies beyond the calendar is its last second."""
    try:
        return _EPOCH + timedelta(milliseconds=epoch_ms)
    except OverflowError:
        return _LAST
