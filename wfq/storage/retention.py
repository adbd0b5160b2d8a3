"""Automatic retention: the call that removes what ended too long ago, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wfq.storage import scripts
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Call

#: Index entries that one step looks at, so that Redis is never blocked for long.
BATCH = 200


@dataclass(frozen=True, slots=True)
class Swept:
    """What one step did.

    `held_ms` is not None where another caller works on the partition: for so long at most.
    `position` says where to go on; None means that the index is through.
    """

    removed: int = 0
    position: tuple[str, str] | None = None
    held_ms: int | None = None


def expire(
    namespace: Namespace,
    partition: int,
    status: str,
    *,
    age_ms: int,
    token: str,
    hold_ms: int,
    position: tuple[str, str] | None = None,
    limit: int = BATCH,
) -> Call[Swept]:
    """Remove the instances of one status that ended `age_ms` ago or earlier; one step."""
    created, last_id = position or ("", "")
    args: Sequence[scripts.Argument] = [
        token, hold_ms, status, age_ms, created, last_id, limit,
    ]  # fmt: skip
    return Call(scripts.EXPIRE, [namespace.prefix(partition)], args, _parse_swept)


def _parse_swept(reply: list[Any]) -> Swept:
    if reply[0] == b"held":
        return Swept(held_ms=int(reply[1]))
    _, removed, more, created, last_id = reply
    return Swept(int(removed), (created.decode(), last_id.decode()) if more else None)
