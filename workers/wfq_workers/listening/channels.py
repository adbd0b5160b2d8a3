"""Channels and patterns as a source: at most once, by the nature of Redis pub/sub.

What is published while nobody is subscribed is gone. A cut cannot be repaired here, only
noticed: it is logged once, with how long it lasted, and counted. Who cannot live with that
sends through a stream.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from wfq.errors import StorageError
from wfq.storage.channels import Notice, Subscriber
from wfq_workers.backoff import Backoff
from wfq_workers.listening.counters import Counters
from wfq_workers.listening.courier import Courier
from wfq_workers.listening.messages import Message, decode

log = logging.getLogger("wfq.listener")

#: Seconds of silence after which the connection has to show that it lives.
CHECK_S = 5.0


class ChannelSource:
    """Subscribes to channels and patterns and hands each message to its courier."""

    def __init__(
        self,
        url: str,
        channels: Mapping[str, Courier],
        patterns: Mapping[str, Courier],
        counters: Counters,
        stop: threading.Event,
        *,
        limit: int,
    ) -> None:
        self._url = url
        self._channels = channels
        self._patterns = patterns
        self._counters = counters
        self._stop = stop
        self._limit = limit
        self._backoff = Backoff(log, "subscription")
        #: Monotonic seconds of the cut, while there is one.
        self._cut_at: float | None = None
        self._subscriber: Subscriber | None = None
        self.ready = threading.Event()

    def run(self) -> None:
        """Listen until stopped; survives every outage of Redis."""
        while not self._stop.is_set():
            try:
                self._listen()
            except StorageError as exc:
                self._note_cut()
                self._backoff.wait(exc, self._stop)
            except Exception:
                self._note_cut()
                log.exception("the subscription failed on an error of our own")
                self._stop.wait(1.0)

    def wake(self) -> None:
        """Make the thread look at its stop event. From any thread."""
        subscriber = self._subscriber
        if subscriber is not None:
            try:
                subscriber.wake()
            except StorageError:
                pass  # it is lost, and its thread finds out by itself

    def _listen(self) -> None:
        subscriber = Subscriber(self._url)
        self._subscriber = subscriber
        try:
            self._subscribe(subscriber)
            self._read(subscriber)
        finally:
            self._subscriber = None
            subscriber.close()

    def _subscribe(self, subscriber: Subscriber) -> None:
        if self._channels:
            subscriber.listen(self._channels)
        if self._patterns:
            subscriber.listen_patterns(self._patterns)

    def _subscribed(self) -> None:
        self._backoff.clear()
        self.ready.set()
        if self._cut_at is None:
            return
        seconds = time.monotonic() - self._cut_at
        self._cut_at = None
        log.warning(
            "subscribed again after %.1f s; messages published meanwhile are lost, "
            "since pub/sub delivers at most once (a stream keeps them)",
            seconds,
        )

    def _note_cut(self) -> None:
        """Count the end of a subscription, once, however long the outage lasts."""
        if self._cut_at is not None or not self.ready.is_set():
            return
        self._cut_at = time.monotonic()
        for courier in (*self._channels.values(), *self._patterns.values()):
            self._counters.add(courier.source, "cuts")

    def _read(self, subscriber: Subscriber) -> None:
        unconfirmed = len(self._channels) + len(self._patterns)
        check_at = time.monotonic() + CHECK_S
        while not self._stop.is_set():
            notice = subscriber.next(max(0.0, check_at - time.monotonic()))
            if notice is not None and notice.data is not None:
                self._deliver(notice)
            elif notice is not None:
                unconfirmed -= 1
                if unconfirmed == 0:
                    self._subscribed()
            if time.monotonic() >= check_at:
                # A connection can die in silence, with messages published all the while.
                subscriber.check()
                check_at = time.monotonic() + CHECK_S

    def _deliver(self, notice: Notice) -> None:
        if notice.pattern is not None:
            courier = self._patterns[notice.pattern]
        else:
            courier = self._channels[notice.channel]
        assert notice.data is not None
        courier.deliver(notice.data, _decoder(notice.data, self._limit))


def _decoder(raw: bytes, limit: int) -> Callable[[], Message]:
    return lambda: decode(raw, limit=limit)
