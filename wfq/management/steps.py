"""Operations: what a client does, written once for threads and for event loops.

An operation is a generator. It yields steps of I/O, gets their answers, and returns its
result; `wfq.client` answers with a `SyncLink`, `wfq.aio` with an `AsyncLink`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from wfq.management.waiting import Wish
from wfq.storage.instances import NewInstance, Snapshot, StartReply
from wfq.storage.scripts import Argument, Call

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Together:
    """Calls for one round trip, each on its own."""

    calls: Sequence[Call[Any]]


@dataclass(frozen=True, slots=True)
class Command:
    """One plain command that is safe to send twice."""

    words: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """One start, which may be sent together with starts of other callers."""

    item: NewInstance


#: A call, or one of the above, or a wish to wait for.
Step = Call[Any] | Together | Command | Begin | Wish
Operation = Generator[Step, Any, T]


def run(call: Call[T]) -> Operation[T]:
    """Run one call."""
    return (yield call)  # type: ignore[no-any-return]  # the driver answers with the call's T


def begin(item: NewInstance) -> Operation[StartReply]:
    """Start one instance."""
    return (yield Begin(item))  # type: ignore[no-any-return]  # as in `run`


def run_many(calls: Sequence[Call[T]]) -> Operation[list[T]]:
    """Run calls in one round trip; results in their order."""
    if not calls:
        return []
    return (yield Together(calls))  # type: ignore[no-any-return]  # as in `run`


def wait(wish: Wish) -> Operation[Snapshot]:
    """Wait until the wish is met. Raises: WaitTimeout, InstanceNotFound."""
    return (yield wish)  # type: ignore[no-any-return]  # as in `run`


def server_now_ms() -> Operation[int]:
    """Ask for the server's clock, in epoch ms."""
    seconds, micros = yield Command(("TIME",))
    return int(seconds) * 1000 + int(micros) // 1000
