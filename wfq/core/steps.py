"""Turns that went on: several steps in one history element.

An inline activity has its result before the turn that scheduled it is committed. As long as the
turn's time has not moved on, the result is consumed in the same turn: the record's ``extra`` then
tells, for each further step, how many events and actions came before it::

    ["T", now_ms, nonce, [S, C0, C1], [A0, A1, Z], {"steps": [1, 1, 2, 2]}]

is ``[S] -> [A0]``, ``[C0] -> [A1]``, ``[C1] -> [Z]``. Running the events in their order repeats it,
whoever replays it. Those that look at turns and tasks one by one read it unfolded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wfq.core.actions import OPENING
from wfq.core.events import (
    COMPLETED,
    FAILED,
    FIRED,
    STEPS,
    T_ACTIONS,
    T_EVENTS,
    T_EXTRA,
    T_NONCE,
    TURN,
    UNKNOWN_ACTIVITY,
    Action,
    Event,
    Record,
)

#: Events that name a task, and the nonce of the turn that scheduled it.
_OF_TASKS = frozenset((COMPLETED, FAILED, FIRED, UNKNOWN_ACTIVITY))


def steps_of(record: Record) -> Iterator[tuple[list[Event], list[Action]]]:
    """Yield what each step of a turn record consumed and decided; of most turns, one."""
    events, actions = record[T_EVENTS], record[T_ACTIONS]
    consumed = decided = 0
    counts = iter((record[T_EXTRA] or {}).get(STEPS) or ())
    for before, after in zip(counts, counts, strict=True):
        yield events[consumed:before], actions[decided:after]
        consumed, decided = before, after
    yield events[consumed:], actions[decided:]


def unfold(records: Iterable[Record]) -> list[Record]:
    """Return records that say the same with one step a turn; most are as they were.

    A further step has the nonce of its turn and its own number, and so has what answers its tasks:
    these records are for reading and replaying, not for finding messages that are under way.
    """
    found: list[Record] = []
    #: By task of a further step: the nonce in the history, and the one of the step.
    renamed: dict[int, tuple[str, str]] = {}
    for record in records:
        if record[0] != TURN or not (renamed or _has_steps(record)):
            found.append(record)
            continue
        nonce = record[T_NONCE]
        extra = {k: v for k, v in (record[T_EXTRA] or {}).items() if k != STEPS} or None
        for number, (events, actions) in enumerate(steps_of(record)):
            own = f"{nonce}.{number}" if number else nonce
            answers = [_renamed(event, renamed) for event in events]
            if number:
                renamed |= {a[1]: (nonce, own) for a in actions if a[0] in OPENING}
            found.append([TURN, record[1], own, answers, actions, None if number else extra])
    return found


def _has_steps(record: Record) -> bool:
    extra = record[T_EXTRA]
    return bool(extra) and STEPS in extra


def _renamed(event: Event, renamed: dict[int, tuple[str, str]]) -> Event:
    if event[0] not in _OF_TASKS:
        return event
    before, own = renamed.get(event[1], ("", ""))
    return [*event[:2], own, *event[3:]] if event[2] == before else event
