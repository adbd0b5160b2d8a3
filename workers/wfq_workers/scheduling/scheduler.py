"""The scheduler: fires what is due, and has messages carried between partitions.

Any number of them may run, without a leader: each step is one script that takes a timer or a
message once. Idle, a scheduler sleeps until the next timer is due, and a publish wakes it when
a commit has set an earlier one.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Mapping

from wfq import failpoints
from wfq.errors import StorageError
from wfq.storage import timers
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink, timeout_of
from wfq.storage.membership import turn_command
from wfq.urls import is_cluster
from wfq_workers.backoff import Backoff
from wfq_workers.metrics.counts import TimerCounts
from wfq_workers.scheduling.forwarder import Forwarder
from wfq_workers.scheduling.retention import Sweeper
from wfq_workers.scheduling.wakeups import Wakeups

log = logging.getLogger("wfq.scheduler")

#: Longest sleep in seconds: a wake-up that was lost delays a timer by no more.
LONGEST_SLEEP_S = 10.0
#: Seconds between two looks while a node is away, and from the first at one that is back to the
#: second.
AGAIN_S = 2.0
#: Milliseconds for which a look without a known reason counts for all schedulers.
TURN_MS = 5_000


class SchedulerLoop:
    """Serves the timers and outboxes of every partition of a namespace.

    retention: seconds that ended instances are kept, by status; see `Sweeper`.
    """

    def __init__(
        self, url: str, namespace: Namespace, *, retention: Mapping[str, float] | None = None
    ) -> None:
        #: What this loop counts, for its metrics.
        self.counts = TimerCounts()
        self._url = url
        self._namespace = namespace
        self._stopping = threading.Event()
        self._backoff = Backoff(log, "scheduler")
        #: For nodes of a cluster that are away: the others are served meanwhile.
        self._partly = Backoff(log, "scheduler")
        self._wakeups = Wakeups(url, namespace)
        self._forwarder = Forwarder(url, namespace)
        self._sweeper = Sweeper(namespace, retention or {})
        self._thread = threading.Thread(target=self._run, name="wfq-scheduler", daemon=True)
        #: Per partition: monotonic seconds at which to look again.
        self._look_at = [0.0] * namespace.partitions
        #: Partitions to look at for a reason: a timer is due, or somebody has called.
        self._known = set(range(namespace.partitions))
        #: Partitions that could not be looked at the last time.
        self._failed: set[int] = set()

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

    @property
    def redis_errors(self) -> int:
        """Times that Redis could not be asked."""
        return self._backoff.total + self._partly.total

    def _run(self) -> None:
        link = SyncLink(self._url, timeout_s=timeout_of(self._url), patient=False)
        try:
            while not self._stopping.is_set():
                try:
                    self._round(link)
                    self._sweeper.sweep(link)
                    self._backoff.clear()
                    self._sleep()
                except StorageError as exc:
                    self._backoff.wait(exc, self._stopping)
                except Exception:
                    # A bug of ours must not end the only thread that fires timers.
                    log.exception("scheduler round failed")
                    self._stopping.wait(1.0)
        finally:
            self._forwarder.close()
            link.close()

    def _sleep(self) -> None:
        seconds = min(*self._look_at, self._sweeper.next_at) - time.monotonic()
        for partition, due_ms in self._wakeups.wait(max(0.0, seconds)):
            # A wake-up tells a time in the server's clock; its distance from now is in `due_in`.
            self._look_at[partition] = min(self._look_at[partition], due_ms)
            self._known.add(partition)

    def _rest_s(self) -> float:
        """Seconds to the next look without a reason; spread, so that many do not look at once."""
        return LONGEST_SLEEP_S * random.uniform(0.8, 1.0)

    def _is_my_turn(self, link: SyncLink) -> bool:
        """Whether this scheduler looks around for all of them."""
        turn = turn_command(self._namespace, "timers", "scheduler", TURN_MS)
        try:
            return bool(link.command(*turn))
        except StorageError:
            if not is_cluster(self._url):
                raise
            # The node that knows is away: the others are not to wait for it.
            return True

    def _round(self, link: SyncLink) -> None:
        now = time.monotonic()
        due = [p for p, at in enumerate(self._look_at) if at <= now]
        if due and not self._known.intersection(due) and not self._is_my_turn(link):
            # All at once again, so that one question is asked for all.
            rest_until = now + self._rest_s()
            for partition in set(range(self._namespace.partitions)) - self._known:
                self._look_at[partition] = rest_until
            return
        if not due:
            return
        if failpoints.ACTIVE:
            failpoints.hit("sched.after_read")
        fired = link.try_many([timers.fire(self._namespace, p) for p in due])
        if failpoints.ACTIVE:
            failpoints.hit("sched.after_fire")
        read_at = time.monotonic()
        served: list[int] = []
        failure: StorageError | None = None
        rest_s = self._rest_s()
        for partition, result in zip(due, fired, strict=True):
            if isinstance(result, StorageError):
                # A node of a cluster is away: whoever's turn it is, look as soon as it is back.
                failure = result
                self._known.add(partition)
                self._failed.add(partition)
                continue
            served.append(partition)
            self._wakeups.tell_time(result.now_ms)
            if result.fired:
                self.counts.fired += result.fired
                self.counts.lateness.add(result.lateness_ms / 1000)
            wait_s = rest_s
            self._known.discard(partition)
            if self._failed:
                # What is published reaches nobody by way of a node that is away, nor before the
                # nodes have found each other again.
                self._failed.discard(partition)
                self._known.add(partition)
                wait_s = AGAIN_S
            if result.next_due_ms is not None:
                due_s = max(0.0, (result.next_due_ms - result.now_ms) / 1000)
                if due_s < wait_s:
                    wait_s = due_s
                    self._known.add(partition)
            self._look_at[partition] = read_at + wait_s
        try:
            waits = self._forwarder.forward(served)
        except StorageError:
            # What could not be carried is not to wait for the rest.
            for partition in served:
                self._look_at[partition] = read_at
                self._known.add(partition)
            raise
        for partition, wait_s in waits.items():
            self._look_at[partition] = min(self._look_at[partition], time.monotonic() + wait_s)
            self._known.add(partition)
        if failure is None:
            if not self._failed:
                self._partly.clear()
        elif len(self._failed) < self._namespace.partitions:
            # Most of the time is for those that answer.
            rest_s = self._partly.note(failure) + 2 * (read_at - now)
            retry_at = time.monotonic() + rest_s
            for partition in set(due).difference(served):
                self._look_at[partition] = retry_at
        else:
            raise failure
