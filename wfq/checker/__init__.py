"""The invariant checker: is every instance whole, and what will wake it?

`check_namespace` reads what Redis holds, instance by instance, each in one atomic script, and
verifies the invariants below. It needs no workflow code. It is used by the tests, by the fault
campaign and by ``wfq doctor --deep``; `wfq.checker.repair` puts back what is missing.

Words: an *open* task is one that the records of the present generation scheduled and did not
resolve. *Evidence* of a task is what will resolve it: an activity entry that is pending or
undelivered, a retry or timer in the timers set, a child that lives, a message in an outbox, a
completion in the events stream, or a dispatch that is not finished.

History (always; violations are told from the records alone)
  H1  The first record is the birth of the incarnation and generation that the instance hash
      names, all others are turns; the start is consumed at most once, and before any task is
      scheduled. The terminal action, if any, is the last action of the last turn, and there
      is one if and only if the status is COMPLETED, FAILED or TERMINATED, and fits it.
  H2  Turn times never go back, turn nonces are unique, task ids are dense from 0 in the order
      of the actions.
  H3  A resolution names a task of its kind, scheduled by an earlier turn, with the nonce of
      that turn; a task is resolved at most once.
  H7  An external event id is consumed at most once within the span of deduplication, over
      all generations; the same holds for lifecycle commands.
  H8  The status SUSPENDED is what the recorded commands say; STALLED has its reason.

Atomicity (always; against an earlier report)
  A4  The records and status of an ended instance never change until it is purged or its id is
      used by another incarnation. The records of a live one only grow within a generation,
      and neither generation nor incarnation goes back.
  A5  A position noted by a partial commit names an entry that its queue still had or has had:
      positions of one queue never go back from turn to turn.

Waking (always)
  W1  Events that wait in a stream can be read: the stream is that of a known queue, and where
      the partition is owned, the owner's consumer group exists.
  W2  A live instance that is neither suspended nor stalled has something that will wake it:
      events waiting, or an open task. Nothing at all means stuck.
  W3  An open activity has evidence, and no entry that only seems to be one (delivered, but
      held by nobody).
  W4  An open timer, or event wait with a timeout, has a member in the timers set or its firing
      in the stream.
  W5  An open child lives, or is on its way (outbox), or its outcome is in the parent's stream
      or on its way. Children that were terminated with their parent have ended, or the command
      is in their stream or on its way.
  W8  One that has not begun has its start event in the stream or its delayed start in the
      timers. A suspended or stalled instance keeps the evidence of its open tasks.
  W9  The inbox counter is the number of external events raised and not handed to a waiter.

Tidiness (always, unless said)
  Q6  An ended instance has no timers, waiting retries or unfinished dispatch left (schedule-
      to-start timeouts that have become void may remain until they are due).
  Q7  An instance is in the index of its status, with its creation time, and in no other;
      every member of an index exists.
  Q8  No key of an unknown instance is left; keys of instances never expire.
  Q1  (quiet) No timer, entry or waiting message belongs to an instance or run that is gone.
  Q2  (quiet) No timer is overdue for long. Q3 (quiet) No message stays in an outbox for long.
  Q4  (quiet) Streams with entries have their consumer group.
  Q9  Every live instance has an explanation; "unknown" is a violation of W2 to W5.

*Quiet* invariants hold once faults are healed and nothing has changed for a while.

H6 (replaying the code gives the recorded actions) needs the code: see ``wfq replay``. H4 and H5
hold by construction, since there is no table of open tasks beside the records.
"""

from __future__ import annotations

from wfq.checker.namespace import check_instance, check_namespace
from wfq.checker.report import Report, Violation

__all__ = ["Report", "Violation", "check_instance", "check_namespace"]
