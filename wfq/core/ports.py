"""What the core asks of the world outside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from wfq.core.events import Payload

if TYPE_CHECKING:
    from wfq.core.context import WorkflowContext

#: Turns a payload into the value that user code receives. Raises: PayloadError.
Decoder = Callable[[Payload], Any]


class TurnAborted(BaseException):
    """The turn must be given up: nothing that it decided may be committed.

    A watchdog raises it asynchronously in the thread that runs `Instance.apply`. It is a
    BaseException so that ``except Exception`` in a workflow does not stop it; a workflow
    that catches even this is found out by `Instance.abort`.
    """


class TurnBlocked(TurnAborted):
    """This process cannot run the turn, for the reason that it tells; another may."""


class _NoInput:
    """The type of NO_INPUT."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "None"

    def __bool__(self) -> bool:
        return False


#: "The caller gave no input", which is not the same as giving None.
NO_INPUT: Any = _NoInput()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one instance may do."""

    #: Actions that one turn may decide; beyond, the workflow gets WorkflowMisuse.
    actions_per_turn: int = 100_000
    #: Event ids remembered for deduplication; carried over generations.
    recent_event_ids: int = 1_000
    #: Events that one generation may consume; from then on the workflow gets HistoryTooLong for
    #: all but its end and continue_as_new.
    history_events: int = 50_000
    #: Bytes of what one turn decides; one that decides more is not committed.
    turn_bytes: int = 4 * 1024 * 1024
    #: Milliseconds that an instance waits for code before it is STALLED.
    unknown_grace_ms: int = 0


class Executor(Protocol):
    """One registered workflow function."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str | None:
        """The version that an instance is pinned to at its start; None = unversioned."""

    def begin(self, ctx: WorkflowContext, payload: Payload, given: bool) -> Any:
        """Call the function: a generator, a coroutine, or the plain function's result.

        `given` is False when the starter gave no input. Raises: PayloadError when the input
        does not fit; whatever a plain function raises.
        """


class Host(Protocol):
    """The registry and the codec, as the core sees them."""

    @property
    def limits(self) -> Limits: ...

    def resolve(self, name: str, version: str | None) -> Executor | None:
        """Return the code of a workflow, or None when this program has none.

        `version` None asks for what a new instance gets (the latest); "" for what an
        instance gets that started while the workflow had no versions.
        """

    def encode(self, value: Any, what: str, name: str) -> Payload:
        """Return a snapshot of `value` that orjson can embed; later changes do not show.

        `what` and `name` say in an error whose value it is. Raises: PayloadError.
        """

    def activity_ref(self, activity: Any) -> tuple[str, Decoder]:
        """Return the name of an activity (function or name) and the decoder of its result."""

    def workflow_ref(self, workflow: Any) -> tuple[str, Decoder]:
        """Return the name of a workflow (function or name) and the decoder of its output."""

    @property
    def plain(self) -> Decoder:
        """The decoder of untyped payloads: JSON values, never shared with the history."""
