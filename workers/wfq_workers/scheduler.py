"""The scheduler: fires what is due, and carries messages between partitions.

Any number of them may run, without a leader: each step is one script that takes a timer or a
message once. Idle, a scheduler sleeps until the next timer is due, and a publish wakes it when
a commit has set an earlier one.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from wfq import failpoints
from wfq.errors import StorageError
from wfq.storage import outbox, timers
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq_workers.backoff import Backoff
from wfq_workers.wakeups import Wakeups

log = logging.getLogger("wfq.scheduler")

#: Longest sleep in seconds: a wake-up that was lost delays a timer by no more.
LONGEST_SLEEP_S = 10.0


class SchedulerLoop:
    """Serves the timers and outboxes of every partition of a namespace."""

    def __init__(self, url: str, namespace: Namespace) -> None:
        self._url = url
        self._namespace = namespace
        self._stopping = threading.Event()
        self._backoff = Backoff(log, "scheduler")
        self._wakeups = Wakeups(url, namespace)
        self._thread = threading.Thread(target=self._run, name="wfq-scheduler", daemon=True)
        #: Per partition: monotonic seconds at which to look again.
        self._look_at = [0.0] * namespace.partitions

    def start(self) -> None:
        """Start the thread."""
        self._wakeups.start()
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """A scheduler has nothing to prepare."""
        return True

    def stop(self, grace_s: float = 30.0) -> None:
        """Finish the step in hand and return."""
        self._stopping.set()
        self._wakeups.stop()
        if self._thread.ident is not None:
            self._thread.join(grace_s)

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the loop has ended."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        link = SyncLink(self._url)
        try:
            while not self._stopping.is_set():
                try:
                    self._round(link)
                    self._backoff.clear()
                    self._sleep()
                except StorageError as exc:
                    self._backoff.wait(exc, self._stopping)
                except Exception:
                    # A bug of ours must not end the only thread that fires timers.
                    log.exception("scheduler round failed")
                    self._stopping.wait(1.0)
        finally:
            link.close()

    def _sleep(self) -> None:
        seconds = min(self._look_at) - time.monotonic()
        for partition, due_ms in self._wakeups.wait(max(0.0, seconds)):
            # A wake-up tells a time in the server's clock; its distance from now is in `due_in`.
            self._look_at[partition] = min(self._look_at[partition], due_ms)

    def _round(self, link: SyncLink) -> None:
        now = time.monotonic()
        due = [p for p, at in enumerate(self._look_at) if at <= now]
        if not due:
            return
        if failpoints.ACTIVE:
            failpoints.hit("sched.after_read")
        fired = link.run_many([timers.fire(self._namespace, p) for p in due])
        if failpoints.ACTIVE:
            failpoints.hit("sched.after_fire")
        read_at = time.monotonic()
        for partition, result in zip(due, fired, strict=True):
            self._wakeups.tell_time(result.now_ms)
            wait_s = LONGEST_SLEEP_S
            if result.next_due_ms is not None:
                wait_s = min(wait_s, max(0.0, (result.next_due_ms - result.now_ms) / 1000))
            self._look_at[partition] = read_at + wait_s
        self._forward_all(link, due)

    def _forward_all(self, link: SyncLink, candidates: list[int]) -> None:
        lengths = [link.command("XLEN", self._namespace.outbox(p)) for p in candidates]
        for partition, length in zip(candidates, lengths, strict=True):
            if length:
                self._forward(link, partition)

    def _forward(self, link: SyncLink, source: int) -> None:
        """Deliver a partition's outbox in order; stops where a target cannot be reached."""
        namespace = self._namespace
        while not self._stopping.is_set():
            reply: list[Any] = link.command(*outbox.read_command(namespace, source))
            messages = outbox.parse_messages(reply)
            if not messages:
                return
            by_target: dict[int, list[tuple[bytes, outbox.Message]]] = {}
            for entry_id, message in messages:
                target = namespace.partition_of(message.target)
                by_target.setdefault(target, []).append((entry_id, message))
            for target, some in by_target.items():
                words = link.run(outbox.deliver(namespace, source, target, some))
                self._report_refusals(link, source, some, words)
                link.command(*outbox.trim_command(namespace, source, [e for e, _ in some]))

    def _report_refusals(
        self,
        link: SyncLink,
        source: int,
        messages: list[tuple[bytes, outbox.Message]],
        words: list[str],
    ) -> None:
        """A child whose id is taken fails in its parent."""
        for (entry_id, message), word in zip(messages, words, strict=True):
            if word == "taken" and message.kind == "C":
                parent_id, event, parent_inc = message.values[5:8]
                home = self._namespace.partition_of(parent_id)
                reply = outbox.Message("E", [parent_id, parent_inc, "T", event])
                link.run(outbox.deliver(self._namespace, -1 - source, home, [(entry_id, reply)]))
            elif word in ("unknown", "finished"):
                log.info("message for instance %s was dropped: %s", message.target, word)
