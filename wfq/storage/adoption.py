"""A child that was scheduled twice, because its parent's server has lost the first time.

Shards of a cluster lose different moments. Where the parent's shard is rolled back behind the
turn that scheduled a child of another shard, the parent decides that turn again, and its second
start meets the first child. It is the same task of the same parent, told by the parent's
incarnation, generation and task id, which no history that is whole has twice; only the nonce is
another. A parent that is a child itself may have been lost and decided again, too, and is another
incarnation then: so a child carries its lineage, made of the incarnation of its first ancestor and
of the generations and task ids from there. So the first child is adopted: a live one learns which
parent and nonce its outcome is for, and of one that has ended the outcome is told again. One that
was given something else, since what came before was decided otherwise, makes room.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import Any

import orjson

from wfq.codec import is_transformed
from wfq.core import actions as act
from wfq.core import events as ev
from wfq.core.events import Event, Record
from wfq.storage.instances import Stored, lifecycle_command
from wfq.storage.outbox import Kin, Message

_ENDED = frozenset(("COMPLETED", "FAILED", "TERMINATED"))


def kin_of(message: Message, stored: Stored) -> Kin:
    """What an instance that has the id of a child to be started is to it."""
    inc = stored.incarnation
    try:
        return _kin_of(message, stored)
    except (ValueError, LookupError, TypeError):
        # One whose records are damaged must not hold up the others.
        return Kin("other", inc)


def _kin_of(message: Message, stored: Stored) -> Kin:
    inc = stored.incarnation
    ours: Record = orjson.loads('["B",0' + message.values[4])
    theirs: Record = orjson.loads(stored.records[0])
    extra = ours[ev.B_EXTRA] or {}
    if not is_of_task(theirs, ours[ev.B_PARENT], extra.get(ev.PARENT_GEN), extra.get(ev.LINEAGE)):
        return Kin("other", inc)
    if not is_same_call(ours, theirs):
        return Kin("replace", inc)
    parent_id, parent_inc, task_id, nonce = ours[ev.B_PARENT]
    if stored.status not in _ENDED:
        return Kin("live", inc, adoption_event(inc, ours[ev.B_PARENT]))
    event = outcome(message.target, orjson.loads(stored.records[-1]), task_id, nonce)
    told = Message("E", [parent_id, parent_inc, "T", orjson.dumps(event).decode()])
    return Kin("ended", inc, told.encode())


def child_lineage(birth: Record, generation: int, task_id: int) -> str:
    """What names a task of an instance with this birth, whatever nonces and incarnations it gets.

    It is made of what no whole history has twice; only the incarnation of the first ancestor,
    whom nobody decides again, is part of it.
    """
    told = (birth[ev.B_EXTRA] or {}).get(ev.LINEAGE) if birth[ev.B_PARENT] else None
    path = f"{told or birth[ev.B_INC]}.{generation}.{task_id}"
    return urlsafe_b64encode(blake2b(path.encode(), digest_size=9).digest()).decode()


def is_of_task(
    birth: Record, parent: list[Any], generation: int | None, lineage: str | None
) -> bool:
    """Whether a birth is of this task of this generation of a parent, whatever its nonce.

    Never so for one that does not tell its parent's generation, as those of the same partition.
    """
    born = birth[ev.B_PARENT]
    extra = birth[ev.B_EXTRA] or {}
    told = extra.get(ev.PARENT_GEN)
    if not born or told is None or told != generation:
        return False
    decided_again = lineage is not None and extra.get(ev.LINEAGE) == lineage
    return bool(born[:3] == parent[:3] or (decided_again and born[0] == parent[0]))


def is_same_call(ours: Record, theirs: Record) -> bool:
    """Whether two births of the same task are of the same workflow with the same input.

    An input counts as the same where that cannot be told: it is encrypted, or of an earlier
    generation.
    """
    if ours[ev.B_NAME] != theirs[ev.B_NAME]:
        return False
    mine, other = ours[ev.B_INPUT], theirs[ev.B_INPUT]
    if theirs[ev.B_GEN] or (is_transformed(mine) and is_transformed(other)):
        return True
    noinput = [bool((birth[ev.B_EXTRA] or {}).get("noinput")) for birth in (ours, theirs)]
    return bool(mine == other and noinput[0] == noinput[1])


def adoption_id(nonce: str) -> str:
    """The id of the command that tells a child its parent's nonce."""
    return f"adopt.{nonce}"


def adoption_tail(parent: list[Any]) -> bytes:
    """The command that tells a child its parent, behind the incarnation."""
    return lifecycle_command(adoption_id(parent[3]), ev.ADOPT, parent)


def adoption_event(incarnation: str, parent: list[Any]) -> bytes:
    """The same as a whole event."""
    return b'["L",' + orjson.dumps(incarnation) + adoption_tail(parent)


def outcome(child_id: str, last: Record, task_id: int, nonce: str) -> Event:
    """What the last record of a child that has ended means to its parent."""
    code, value = last[ev.T_ACTIONS][-1][:2]
    if code == act.COMPLETE:
        return [ev.COMPLETED, task_id, nonce, value]
    if code == act.FAIL:
        return [ev.FAILED, task_id, nonce, value]
    what = f"child workflow {child_id!r} was terminated"
    return failed(task_id, nonce, "WorkflowTerminated", what)


def failed(task_id: int, nonce: str, kind: str, what: str) -> Event:
    """A task that failed for a reason of the engine's."""
    failure = {"type": kind, "message": what, "stack": "", "cause": None, "non_retryable": True}
    return [ev.FAILED, task_id, nonce, failure]
