"""Waits of threads: one thread of the client listens for all of them."""

from __future__ import annotations

import logging
import random
import threading
import time

from wfq.errors import StorageError
from wfq.management.waiting import (
    BEAT_S,
    FIRST_RETRY_S,
    LAST_RETRY_S,
    LINGER_S,
    NOTICES_AT_ONCE,
    OUTAGE_S,
    Ticket,
    WaitBook,
    Wish,
    closed,
)
from wfq.storage.channels import Notice, Subscriber
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink

log = logging.getLogger("wfq.client")


class Waits:
    """All waits of one client. Its thread runs only while, and shortly after, there are some."""

    def __init__(self, link: SyncLink, namespace: Namespace) -> None:
        self._link = link
        self._namespace = namespace
        self._book = WaitBook(namespace)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._subscriber: Subscriber | None = None
        self._closing = threading.Event()
        #: Monotonic time of the last answer from Redis.
        self._heard_at = 0.0

    def listens_to(self, instance_id: str) -> bool:
        """Whether a change of the instance would be heard right now."""
        return self._namespace.partition_of(instance_id) in self._book.confirmed

    def add(self, wish: Wish) -> tuple[Ticket, threading.Event]:
        """Begin a wait; the event is set once it is settled. `remove` it in any case."""
        event = threading.Event()
        ticket = Ticket(wish, self._namespace.partition_of(wish.instance_id), event.set)
        with self._lock:
            if self._closing.is_set():
                raise closed()
            channel = self._book.add(ticket)
            # After a fork the parent's thread does not exist here.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="wfq-waits", daemon=True)
                self._thread.start()
            elif self._subscriber is not None and channel is not None:
                self._listen(self._subscriber, [channel])
        return ticket, event

    def remove(self, ticket: Ticket) -> None:
        """End a wait, settled or not."""
        with self._lock:
            self._book.remove(ticket)

    def close(self) -> None:
        """End the thread; waits of other threads fail."""
        self._closing.set()
        with self._lock:
            thread, subscriber = self._thread, self._subscriber
            self._book.fail(closed())
        if subscriber is not None:
            subscriber.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(LAST_RETRY_S)

    # --- the thread

    def _run(self) -> None:
        heard_at = self._heard_at = time.monotonic()
        retry_s = FIRST_RETRY_S / 2
        while not self._closing.is_set():
            try:
                self._serve()
                return
            except StorageError as exc:
                retry_s = FIRST_RETRY_S if self._heard_at > heard_at else retry_s * 2
                heard_at = self._heard_at
                self._fail_after_outage(exc)
                if self._leave():
                    return
                log.warning("waiting for workflows: %s; trying again", exc)
                self._closing.wait(min(retry_s, LAST_RETRY_S) * (0.5 + random.random()))
            except Exception as exc:
                # A bug of ours: those who wait must learn of it.
                log.exception("waiting for workflows failed")
                with self._lock:
                    self._book.fail(exc)
                if self._leave():
                    return

    def _fail_after_outage(self, error: StorageError) -> None:
        if time.monotonic() - self._heard_at > OUTAGE_S:
            with self._lock:
                self._book.fail(error)

    def _serve(self) -> None:
        """Listen until the client closes or nobody has waited for a while."""
        subscriber = Subscriber(self._link.url)
        try:
            with self._lock:
                self._subscriber = subscriber
                channels = self._book.channels()
            if channels:
                subscriber.listen(channels)
            beat_at = idle_at = time.monotonic()
            beat_at += BEAT_S
            while not self._closing.is_set():
                self._read(self._next_ids(subscriber, beat_at), light=False)
                now = time.monotonic()
                if now >= beat_at:
                    beat_at = now + BEAT_S
                    self._beat(subscriber)
                if self._book:
                    idle_at = now
                elif now - idle_at > LINGER_S and self._leave():
                    return
        finally:
            with self._lock:
                self._forget(subscriber)
            subscriber.close()

    def _next_ids(self, subscriber: Subscriber, until: float) -> list[str]:
        """Ids that have changed, of all notices that are there."""
        ids: list[str] = []
        confirmed: list[str] = []
        wait_s = max(0.0, until - time.monotonic())
        for _ in range(NOTICES_AT_ONCE):
            notice = subscriber.next(wait_s)
            if notice is None:
                break
            (confirmed if notice.data is None else ids).extend(self._heard(notice))
            wait_s = 0.0
        self._read(confirmed, light=True)
        return ids

    def _heard(self, notice: Notice) -> list[str]:
        with self._lock:
            return list(self._book.heard(notice))

    def _read(self, ids: list[str], *, light: bool) -> None:
        """Read instances and settle the waits that are over."""
        while ids:
            with self._lock:
                reads = self._book.reads(dict.fromkeys(ids), light=light)
            answers = self._link.run_many([read.call for read in reads])
            self._heard_at = time.monotonic()
            ids = []
            with self._lock:
                for read, snapshots in zip(reads, answers, strict=True):
                    ids += self._book.settle(read.ids, snapshots)
            light = False

    def _beat(self, subscriber: Subscriber) -> None:
        with self._lock:
            ids, unwanted = self._book.all_ids(), self._book.unwanted()
        if unwanted:
            subscriber.forget(unwanted)
        subscriber.check()
        self._read(ids, light=True)

    def _leave(self) -> bool:
        """Give up the thread, unless a wait has come just now."""
        with self._lock:
            if self._book:
                return False
            self._thread = None
            self._forget(self._subscriber)
            return True

    def _forget(self, subscriber: Subscriber | None) -> None:
        # Another thread may have begun to listen since this one left.
        if self._subscriber is subscriber:
            self._subscriber = None
            self._book.confirmed.clear()

    @staticmethod
    def _listen(subscriber: Subscriber, channels: list[str]) -> None:
        try:
            subscriber.listen(channels)
        except StorageError:
            pass  # the thread finds the connection lost, and listens to everything anew
