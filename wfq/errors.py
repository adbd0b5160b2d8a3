"""Every error that wfq raises on purpose.

A message says what happened, to which thing, and what to do next, in one line;
the same facts are attributes.

::

    WfqError
    |-- ConfigurationError           a setting, URL or app file is unusable
    |-- StorageError
    |   |-- StorageUnavailable       Redis cannot be reached, or lost the connection
    |   |-- StorageFull              Redis refuses writes (maxmemory or its disk)
    |   `-- SchemaMismatch           the namespace was written by a newer wfq
    |-- InstanceError                has .instance_id
    |   |-- InstanceNotFound
    |   |-- InstanceAlreadyExists
    |   |-- InstanceFinished         the verb needs a live instance
    |   |-- InstanceRunning          the verb needs a finished instance
    |   `-- InboxFull                too many undelivered events
    |-- InvalidIdentifier            an instance id, name or queue outside its alphabet
    |-- PayloadError                 cannot be encoded or decoded as JSON; has .path
    |   |-- PayloadLocked            the payload codec cannot restore it in this process
    |   `-- PayloadTooLarge
    |-- WorkflowError                raised into or by workflow code
    |   |-- TaskFailedError          an awaited task failed; has .details
    |   |-- NonRetryableError        raised by an activity: never retried
    |   |-- NonDeterministicWorkflow the code no longer fits the history
    |   |-- WorkflowMisuse           also a ValueError: workflow code broke a rule (yielded a
    |   |   |                        non-task, ...)
    |   |   `-- HistoryTooLong       only an end or continue_as_new is left
    |   `-- TurnTooLarge             one turn decided more bytes than the limit
    |-- WaitTimeout                  also a TimeoutError: a wait ended before its instance did
    `-- StaleLease                   another orchestrator owns the partition now
"""

from __future__ import annotations

from dataclasses import dataclass


class WfqError(Exception):
    """Base of every wfq error."""


class ConfigurationError(WfqError):
    """A setting, URL or app file is unusable."""


class StorageError(WfqError):
    """The Redis server refused or could not do what was asked."""


class StorageUnavailable(StorageError):
    """Redis cannot be reached, or the connection was lost with the outcome unknown."""


class StorageFull(StorageError):
    """Redis refuses writes: its memory or its disk is full."""


class SchemaMismatch(StorageError):
    """The namespace was written by a newer wfq, or with another number of partitions."""


class InstanceError(WfqError):
    """An error about one instance; `instance_id` names it."""

    def __init__(self, message: str, instance_id: str) -> None:
        super().__init__(message)
        self.instance_id = instance_id

    def __reduce__(self) -> tuple[type[InstanceError], tuple[str, str]]:
        return (type(self), (str(self), self.instance_id))


class InstanceNotFound(InstanceError):
    """No such instance in this namespace."""


class InstanceAlreadyExists(InstanceError):
    """The id belongs to an instance that the reuse policy protects."""


class InstanceFinished(InstanceError):
    """The verb needs a live instance and this one has ended."""


class InstanceRunning(InstanceError):
    """The verb needs a finished instance and this one still runs."""


class InboxFull(InstanceError):
    """The instance holds too many events that no waiter has taken."""


class InvalidIdentifier(WfqError, ValueError):
    """An instance id, name or queue is outside its alphabet."""


class PayloadError(WfqError, ValueError):
    """A value cannot be encoded as JSON, or JSON does not fit the annotated type.

    `path` names the offending part, such as ``$.items[3].price``.
    """

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class PayloadLocked(PayloadError):
    """The payload codec of this process cannot restore a payload: a key is missing or wrong.

    A worker never fails a task or a workflow for it; it leaves them to one that can.
    """


class PayloadTooLarge(PayloadError):
    """An encoded value is over its size limit."""


class WorkflowError(WfqError):
    """An error raised into, or by, workflow code."""


@dataclass(frozen=True, slots=True)
class FailureDetails:
    """Why a task or an instance failed; `cause` is the chained failure, outermost first."""

    error_type: str
    message: str
    stack_trace: str = ""
    cause: FailureDetails | None = None
    non_retryable: bool = False


class TaskFailedError(WorkflowError):
    """A task that the workflow awaited has failed; `details` says why."""

    def __init__(self, message: str, details: FailureDetails) -> None:
        super().__init__(message)
        self.details = details

    def __reduce__(self) -> tuple[type[TaskFailedError], tuple[str, FailureDetails]]:
        return (type(self), (str(self), self.details))


class NonRetryableError(WorkflowError):
    """Raise it in an activity to fail the task at once, whatever its retry policy."""


class NonDeterministicWorkflow(WorkflowError):
    """The workflow's code no longer makes the decisions its history records.

    `expected` and `found` name the two decisions, `turn` is the index of the history element,
    `source` the line of the workflow; each is empty or None where it is not known.
    """

    def __init__(
        self,
        message: str,
        *,
        expected: str = "",
        found: str = "",
        task_id: int | None = None,
        turn: int | None = None,
        source: str | None = None,
    ) -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found
        self.task_id = task_id
        self.turn = turn
        self.source = source


class WorkflowMisuse(WorkflowError, ValueError):
    """Workflow code broke a rule of the authoring API."""


class HistoryTooLong(WorkflowMisuse):
    """This generation has consumed `limits.history_events` events; see `Decisions.full`."""


class TurnTooLarge(WorkflowError):
    """What one turn decided is larger than `limits.turn_bytes`; its instance is STALLED."""


class WaitTimeout(WfqError, TimeoutError):
    """A wait ended before its instance reached the awaited status."""


class StaleLease(WfqError):
    """Another orchestrator owns the partition now; nothing was written."""
