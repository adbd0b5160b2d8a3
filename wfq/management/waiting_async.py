"""Waits of coroutines: one task of the client listens for all of them."""

from __future__ import annotations

import asyncio
import logging
import random
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
from wfq.storage.channels import AsyncSubscriber
from wfq.storage.keys import Namespace
from wfq.storage.link import AsyncLink

log = logging.getLogger("wfq.client")


class AsyncWaits:
    """All waits of one client. Its task runs only while, and shortly after, there are some."""

    def __init__(self, link: AsyncLink, namespace: Namespace) -> None:
        self._link = link
        self._namespace = namespace
        self._book = WaitBook(namespace)
        self._task: asyncio.Task[None] | None = None
        self._subscriber: AsyncSubscriber | None = None
        self._closing = False
        #: Monotonic time of the last answer from Redis.
        self._heard_at = 0.0

    def listens_to(self, instance_id: str) -> bool:
        """Whether a change of the instance would be heard right now."""
        return self._namespace.partition_of(instance_id) in self._book.confirmed

    async def add(self, wish: Wish) -> tuple[Ticket, asyncio.Event]:
        """Begin a wait; the event is set once it is settled. `remove` it in any case."""
        if self._closing:
            raise closed()
        event = asyncio.Event()
        ticket = Ticket(wish, self._namespace.partition_of(wish.instance_id), event.set)
        channel = self._book.add(ticket)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="wfq-waits")
        elif self._subscriber is not None and channel is not None:
            try:
                await self._subscriber.listen([channel])
            except StorageError:
                pass  # the task finds the connection lost, and listens to everything anew
            except BaseException:
                self._book.remove(ticket)
                raise
        return ticket, event

    def remove(self, ticket: Ticket) -> None:
        """End a wait, settled or not."""
        self._book.remove(ticket)

    async def close(self) -> None:
        """End the task; waits of other tasks fail."""
        self._closing = True
        self._book.fail(closed())
        task, self._task = self._task, None
        while task is not None and not task.done():
            # Again and again: redis-py may swallow a cancellation that comes with a reply.
            task.cancel()
            await asyncio.wait([task], timeout=0.05)

    # --- the task

    async def _run(self) -> None:
        heard_at = self._heard_at = time.monotonic()
        retry_s = FIRST_RETRY_S / 2
        while True:
            try:
                await self._serve()
                # A wait may have come while the subscription was being given up.
                if self._closing or not self._book:
                    return
            except StorageError as exc:
                retry_s = FIRST_RETRY_S if self._heard_at > heard_at else retry_s * 2
                heard_at = self._heard_at
                if time.monotonic() - heard_at > OUTAGE_S:
                    self._book.fail(exc)
                if not self._book:
                    return
                log.warning("waiting for workflows: %s; trying again", exc)
                await asyncio.sleep(min(retry_s, LAST_RETRY_S) * (0.5 + random.random()))
            except Exception as exc:
                # A bug of ours: those who wait must learn of it.
                log.exception("waiting for workflows failed")
                self._book.fail(exc)
                return

    async def _serve(self) -> None:
        """Listen until nobody has waited for a while."""
        subscriber = AsyncSubscriber(self._link)
        try:
            channels = self._book.channels()
            if not channels:
                return
            await subscriber.listen(channels)
            # What was asked for meanwhile: from here on `add` listens by itself.
            self._subscriber = subscriber
            late = [c for c in self._book.channels() if c not in channels]
            if late:
                await subscriber.listen(late)
            await self._follow(subscriber)
        finally:
            self._subscriber = None
            self._book.confirmed.clear()
            await subscriber.close()

    async def _follow(self, subscriber: AsyncSubscriber) -> None:
        idle_at = time.monotonic()
        beat_at = idle_at + BEAT_S
        while not self._closing:
            await self._read(await self._next_ids(subscriber, beat_at), light=False)
            now = time.monotonic()
            if now >= beat_at:
                beat_at = now + BEAT_S
                await self._beat(subscriber)
            if self._book:
                idle_at = now
            elif now - idle_at > LINGER_S:
                return

    async def _next_ids(self, subscriber: AsyncSubscriber, until: float) -> list[str]:
        """Ids that have changed, of all notices that are there."""
        ids: list[str] = []
        confirmed: list[str] = []
        wait_s = max(0.0, until - time.monotonic())
        for _ in range(NOTICES_AT_ONCE):
            notice = await subscriber.next(wait_s)
            if notice is None:
                break
            (confirmed if notice.data is None else ids).extend(self._book.heard(notice))
            wait_s = 0.0
        await self._read(confirmed, light=True)
        return ids

    async def _read(self, ids: list[str], *, light: bool) -> None:
        """Read instances and settle the waits that are over."""
        while ids:
            reads = self._book.reads(dict.fromkeys(ids), light=light)
            answers = await self._link.run_many([read.call for read in reads])
            self._heard_at = time.monotonic()
            ids = []
            for read, snapshots in zip(reads, answers, strict=True):
                ids += self._book.settle(read.ids, snapshots)
            light = False

    async def _beat(self, subscriber: AsyncSubscriber) -> None:
        ids, unwanted = self._book.all_ids(), self._book.unwanted()
        if unwanted and self._book:
            await subscriber.forget(unwanted)
        await subscriber.check()
        await self._read(ids, light=True)
