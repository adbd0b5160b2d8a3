"""The orchestrator: a thread that drives lanes, and one that keeps their leases."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from functools import partial

from wfq.core.ports import Host
from wfq.errors import StorageError
from wfq.registry import Registry
from wfq.storage import partitions
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.urls import is_cluster
from wfq_workers.backoff import Backoff
from wfq_workers.metrics.counts import TurnCounts
from wfq_workers.orchestrating.connection import Wait
from wfq_workers.orchestrating.engine import Engine, TurnWatch
from wfq_workers.orchestrating.inline import InlineActivities
from wfq_workers.orchestrating.lane import Lane
from wfq_workers.orchestrating.ownership import Leases, Ownership

log = logging.getLogger("wfq.orchestrator")

#: Lanes of one orchestrator: while Redis works on one's commit, Python runs another's turns.
LANES = 4
#: Seconds between looks at a turn that may not come back.
LOOK_S = 0.5
#: Exit status of a process whose workflow code cannot be stopped otherwise.
STUCK_STATUS = 75


class OrchestratorLoop:
    """Runs the turns of one queue's instances, for the partitions it gets a lease of."""

    def __init__(
        self,
        url: str,
        namespace: Namespace,
        host: Host,
        *,
        worker_id: str,
        queue: str = "default",
        lease_s: float = 5.0,
        turn_timeout_s: float = 10.0,
        lanes: int = LANES,
        only: frozenset[int] | None = None,
    ) -> None:
        #: The partitions of a caretaker, which are all that it takes; None: its share.
        self.only = only
        #: What this loop counts, for its metrics.
        self.counts = TurnCounts()
        watch = TurnWatch(turn_timeout_s, self.counts)
        self.engine = Engine(
            url, namespace, queue, host, worker_id, int(lease_s * 1000), watch, counts=self.counts
        )
        if isinstance(host, Registry):
            self.engine.inline = InlineActivities.find(host)
        if is_cluster(url):
            lanes = namespace.partitions
        self._lanes = [
            Lane(self.engine, f"{queue}/{n}", n if is_cluster(url) else None) for n in range(lanes)
        ]
        self._backoffs = [lane.backoff for lane in self._lanes]
        self._renewing = Leases(self.engine, self._lanes, self._wake)
        self._ownership = Ownership(self.engine, self._lanes, self._wake, only)
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._waker, self._waked = socket.socketpair()
        self._waker.setblocking(False)
        self._waked.setblocking(False)
        self._turns = threading.Thread(target=self._drive, name="wfq-turns", daemon=True)
        self._leases = threading.Thread(target=self._keep, name="wfq-leases", daemon=True)
        self._shares = threading.Thread(target=self._deal, name="wfq-shares", daemon=True)

    def start(self) -> None:
        """Start the threads; partitions come within about a second."""
        self._turns.start()
        self._leases.start()
        self._shares.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether the orchestrator has joined: it serves what it was given a lease of."""
        return self._ready.wait(timeout_s)

    def stop(self, grace_s: float = 30.0) -> None:
        """Finish the batch in flight, give up all leases and return."""
        self._stopping.set()
        for lane in self._lanes:
            lane.stopping = True
        self._wake()
        deadline = time.monotonic() + grace_s
        for thread in (self._turns, self._shares, self._leases):
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        if not self._turns.is_alive():
            self._waker.close()
            self._waked.close()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the loop has ended."""
        self._turns.join(timeout_s)

    @property
    def redis_errors(self) -> int:
        """Times that Redis could not be asked."""
        return sum(backoff.total for backoff in self._backoffs)

    @property
    def partitions_owned(self) -> int:
        """Partitions that this process has a lease of."""
        return sum(len(lane.owned) for lane in self._lanes)

    def _wake(self) -> None:
        try:
            self._waker.send(b"x")
        except (BlockingIOError, OSError):
            pass

    # --- the thread that runs turns

    def _drive(self) -> None:
        runs = {lane: lane.steps() for lane in self._lanes}
        waits: dict[Lane, Wait] = dict.fromkeys(self._lanes, (0.0, False))
        with selectors.DefaultSelector() as selector:
            selector.register(self._waked, selectors.EVENT_READ)
            registered: dict[Lane, int] = {}
            ready: set[Lane] = set(self._lanes)
            while runs:
                for lane in ready & set(runs):
                    try:
                        waits[lane] = next(runs[lane])
                    except StopIteration:
                        del runs[lane]
                        del waits[lane]
                    self._watch_socket(selector, registered, lane, waits.get(lane))
                if not runs:
                    break
                ready = self._select(selector, waits)

    def _select(self, selector: selectors.BaseSelector, waits: dict[Lane, Wait]) -> set[Lane]:
        now = time.monotonic()
        timeout = max(0.0, min(until for until, _ in waits.values()) - now)
        ready: set[Lane] = set()
        for key, _ in selector.select(timeout):
            if key.data is None:
                try:
                    self._waked.recv(4096)
                except BlockingIOError:
                    pass
                ready.update(waits)
            else:
                ready.add(key.data)
        now = time.monotonic()
        ready.update(lane for lane, (until, _) in waits.items() if until <= now)
        return ready

    def _watch_socket(
        self,
        selector: selectors.BaseSelector,
        registered: dict[Lane, int],
        lane: Lane,
        wait: Wait | None,
    ) -> None:
        """Have the selector watch the lane's present socket while a reply is due."""
        wanted = -1
        if wait is not None and wait[1] and lane.wire is not None and not lane.wire.memory:
            wanted = lane.wire.fileno()
        present = registered.get(lane, -1)
        if present == wanted and (present < 0 or lane.wire is lane.watched):
            return
        if present >= 0:
            try:
                selector.unregister(present)
            except (KeyError, ValueError):
                pass
            registered[lane] = -1
        if wanted >= 0:
            selector.register(wanted, selectors.EVENT_READ, lane)
            registered[lane] = wanted
            lane.watched = lane.wire

    # --- the threads that keep leases, and deal partitions

    def _keep(self) -> None:
        renewing = self._renewing
        link = SyncLink(self.engine.url, timeout_s=renewing.timeout_s, patient=False)
        # What Redis still holds for us may be kept, if it is asked before a lease ends.
        backoff = Backoff(log, "keeping leases", longest_s=renewing.period_s)
        self._backoffs.append(backoff)
        renew_at = 0.0
        try:
            while not self._stopping.is_set():
                if time.monotonic() >= renew_at:
                    begin = time.monotonic()
                    self._try(partial(renewing.renew, link), backoff)
                    renew_at = 0.0 if backoff.failing else begin + renewing.period_s
                self._end_if_stuck()
                self._stopping.wait(min(LOOK_S, renewing.period_s))
            self._turns.join()
            # It would enter us in the member list again.
            self._shares.join(self._ownership.period_s)
            self._release(link)
        finally:
            link.close()

    def _deal(self) -> None:
        link = SyncLink(self.engine.url, patient=False)
        backoff = Backoff(log, "dealing partitions")
        self._backoffs.append(backoff)
        try:
            while not self._stopping.is_set():
                self._try(partial(self._ownership.tick, link), backoff)
                self._ready.set()
                self._stopping.wait(self._ownership.period_s)
        finally:
            link.close()

    def _try(self, work: Callable[[], None], backoff: Backoff) -> None:
        """Do something that a Redis which cannot be reached only delays."""
        try:
            work()
            backoff.clear()
        except StorageError as exc:
            backoff.wait(exc, self._stopping)

    def _end_if_stuck(self) -> None:
        stuck = self.engine.watch.check()
        if stuck is not None:
            log.critical(
                "workflow code of %s cannot be stopped: this process ends; other workers take over",
                stuck,
            )
            os._exit(STUCK_STATUS)

    def _release(self, link: SyncLink) -> None:
        engine = self.engine
        calls = [
            partitions.release(engine.namespace, number, engine.queue, owner=engine.worker_id)
            for number in range(engine.namespace.partitions)
        ]
        try:
            self._ownership.leave(link)
            link.run_many(calls)
        except StorageError as exc:
            log.warning("leases were not given up: %s; they expire by themselves", exc)


def release_dead_worker(link: SyncLink, namespace: Namespace, queue: str, worker_id: str) -> int:
    """Give up the leases of a process that died on this host; returns how many it held."""
    calls = [
        partitions.release(namespace, number, queue, owner=worker_id, died=True)
        for number in range(namespace.partitions)
    ]
    return sum(link.run_many(calls))
