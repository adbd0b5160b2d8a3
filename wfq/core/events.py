"""Codes and shapes of the events that an instance consumes.

An event is a plain list whose first element is its code; lists cost the hot path nothing to
make, send and store. `task_id` is a dense integer within one generation, `nonce` is the nonce
of the turn that scheduled the task, `inc` the incarnation of the instance.

=====  ============================================  =========================================
code   shape                                         meaning
=====  ============================================  =========================================
``S``  ``["S", inc, birth?]``                        start; recorded as ``["S", inc or ""]``
``C``  ``["C", task_id, nonce, result, attempts?]``  activity or child completed
``X``  ``["X", task_id, nonce, failure, attempts?]`` activity or child failed
``F``  ``["F", task_id, nonce]``                     timer, or timeout of an event wait, fired
``E``  ``["E", inc, event_id, name, data]``          external event was raised
``L``  ``["L", inc, command_id, verb, data]``        terminate, suspend, resume; adopt
``U``  ``["U", task_id, nonce, message]``            no worker knows this activity
``W``  ``["W", inc]``                                wake-up without content; never recorded
=====  ============================================  =========================================

History is a list: the birth record, then one turn record per turn::

    ["B", created_ms, inc, gen, name, input, parent, extra]
    ["T", now_ms, nonce, [events consumed], [actions decided], extra]

``parent`` is null or ``[parent_id, parent_inc, task_id, nonce]``. Where a task took several
attempts, its event ends with their number and, of the last ones, when each began and ended:
``attempts, [[began_ms, ended_ms], ...]``. The ``extra`` of a birth record that continues as new
has the same of the last generations: ``"gens": [[gen, began_ms, ended_ms, turns], ...]``.

A turn record whose ``extra`` has ``"steps"`` went on with results of its own tasks: see
`wfq.core.steps`.

Where parent and child are in different partitions, the ``extra`` of the child has the parent's
generation (`PARENT_GEN`): parent and task id then tell a child that was scheduled twice because
the parent's server lost the first time. Such a child is *adopted*: the command ``adopt`` has the
``parent`` that its outcome is for from now on. The ``extra`` of every child has its `LINEAGE`,
which is the same where its parent was lost and decided again as well.
"""

from __future__ import annotations

from typing import Any

#: A JSON value as it travels: what the codec made, or what was parsed from Redis.
Payload = Any
Event = list[Any]
Action = list[Any]
Record = list[Any]
#: {"type", "message", "stack", "cause", "non_retryable"?}; see `failures.py`.
Failure = dict[str, Any]

STARTED = "S"
COMPLETED = "C"
FAILED = "X"
FIRED = "F"
RAISED = "E"
LIFECYCLE = "L"
UNKNOWN_ACTIVITY = "U"
WAKE_UP = "W"

BIRTH = "B"
TURN = "T"

# Positions in the birth record.
B_CREATED, B_INC, B_GEN, B_NAME, B_INPUT, B_PARENT, B_EXTRA = 1, 2, 3, 4, 5, 6, 7
# Positions in a turn record.
T_NOW, T_NONCE, T_EVENTS, T_ACTIONS, T_EXTRA = 1, 2, 3, 4, 5

TERMINATE = "terminate"
SUSPEND = "suspend"
RESUME = "resume"
ADOPT = "adopt"

#: In the `extra` of a turn record: see `wfq.core.steps`.
STEPS = "steps"
#: In the `extra` of a birth record.
PARENT_GEN = "pg"
LINEAGE = "ln"
