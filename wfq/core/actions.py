"""Codes and shapes of the actions that a turn decides.

=====  ================================================  =====================================
code   shape                                             meaning
=====  ================================================  =====================================
``A``  ``["A", task_id, name, input, opts]``             ScheduleTask
``T``  ``["T", task_id, due_ms]``                        CreateTimer
``E``  ``["E", task_id, name, due_ms]``                  WaitForEvent; see below
``W``  ``["W", task_id, name, child_id, input, opts]``   StartChild; its incarnation is
                                                         ``f"{nonce}.{task_id}"``
``M``  ``["M", target_id, name, data]``                  SendEvent; its event id is
                                                         ``f"{nonce}.{index in the turn}"``
``D``  ``["D", instance_id, name, input, opts]``         StartDetached; its incarnation is
                                                         ``f"{nonce}.d{index in the turn}"``
``U``  ``["U", value]``                                  SetCustomStatus
``P``  ``["P", patch_name, bool]``                       PatchMarker
``N``  ``["N", input, [carried events], noinput]``       ContinueAsNew  (ends the generation)
``K``  ``["K", output]``                                 Complete       (terminal)
``!``  ``["!", failure]``                                Fail           (terminal)
``Q``  ``["Q", output]``                                 Terminated     (terminal)
=====  ================================================  =====================================

``due_ms`` of a WaitForEvent: null = no timer is needed (no timeout was asked for, or the event
came within the same turn), 0 = it timed out at once, else the time of its timeout.

``opts`` of ScheduleTask: null or ``q`` queue, ``r`` retry (see `retry.py`), ``t``
start-to-close ms, ``s`` schedule-to-start ms, ``h`` heartbeat ms, ``n`` no input given.
``opts`` of StartChild: null or ``q`` queue, ``r`` retry, ``n`` no input given, ``x`` the id
may replace a finished instance (a retry under an id that the user chose).
``opts`` of StartDetached: null or ``q`` queue, ``n`` no input given.
"""

from __future__ import annotations

from wfq.core.events import Action

SCHEDULE_TASK = "A"
CREATE_TIMER = "T"
WAIT_FOR_EVENT = "E"
START_CHILD = "W"
SEND_EVENT = "M"
START_DETACHED = "D"
SET_CUSTOM_STATUS = "U"
PATCH_MARKER = "P"
CONTINUE_AS_NEW = "N"
COMPLETE = "K"
FAIL = "!"
TERMINATED = "Q"

#: Actions that end a generation; at most one, the last of its turn.
TERMINAL = frozenset((CONTINUE_AS_NEW, COMPLETE, FAIL, TERMINATED))
#: Actions that open a task; element 1 is the task id.
OPENING = frozenset((SCHEDULE_TASK, CREATE_TIMER, WAIT_FOR_EVENT, START_CHILD))

NAMES = {
    SCHEDULE_TASK: "ScheduleTask",
    CREATE_TIMER: "CreateTimer",
    WAIT_FOR_EVENT: "WaitForEvent",
    START_CHILD: "StartChild",
    SEND_EVENT: "SendEvent",
    START_DETACHED: "StartDetached",
    SET_CUSTOM_STATUS: "SetCustomStatus",
    PATCH_MARKER: "PatchMarker",
    CONTINUE_AS_NEW: "ContinueAsNew",
    COMPLETE: "CompleteWorkflow",
    FAIL: "FailWorkflow",
    TERMINATED: "TerminateWorkflow",
}


def describe(action: Action) -> str:
    """Return an action in words, without payloads: ``ScheduleTask 'charge' (task 3)``."""
    code = action[0]
    words = NAMES.get(code, f"unknown action {code!r}")
    if code in (SCHEDULE_TASK, WAIT_FOR_EVENT, START_CHILD):
        return f"{words} {action[2]!r} (task {action[1]})"
    if code == CREATE_TIMER:
        return f"{words} (task {action[1]})"
    if code == SEND_EVENT:
        return f"{words} {action[2]!r} to {action[1]!r}"
    if code == START_DETACHED:
        return f"{words} {action[2]!r} as {action[1]!r}"
    if code == PATCH_MARKER:
        return f"{words} {action[1]!r}"
    if code == FAIL and isinstance(action[1], dict):
        return f"{words} with {action[1].get('type')}: {str(action[1].get('message'))[:200]}"
    return words
