"""Telling open pages that something has changed: one subscription for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

from wfq.errors import WfqError
from wfq.storage.channels import AsyncSubscriber
from wfq_server.client import ApiClient

log = logging.getLogger("wfq.server")

#: Seconds between two words to one page: what people can follow, and what redrawing costs.
THROTTLE_S = 1.0
#: Seconds of silence after which a comment keeps the stream open, and pages look anyway.
HEARTBEAT_S = 15.0
#: Seconds until a lost subscription is tried again.
_RETRY_S = 2.0


class Pulse:
    """Counts changes while somebody looks. Belongs to one event loop."""

    def __init__(self, client: ApiClient, draining: asyncio.Event) -> None:
        self._client = client
        self._draining = draining
        self._lookers = 0
        self._task: asyncio.Task[None] | None = None
        self._tick = asyncio.Condition()
        self._count = 0
        #: The count up to which changes may have been missed.
        self._missed = 0
        #: Ids that changed of late, with the count at that time.
        self._changed: dict[str, int] = {}

    async def events(self, instance_id: str | None = None) -> AsyncIterator[bytes]:
        """Yield ``changed`` events: at any change, or at those of one instance; throttled."""
        self._lookers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._listen())
        # The first word comes at once: something may have changed since the page was made.
        seen = -1
        try:
            yield b"retry: 2000\n\n"
            while not self._draining.is_set():
                if await self._changes(seen, instance_id):
                    seen = self._count
                    yield b"event: changed\ndata: 1\n\n"
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._draining.wait(), THROTTLE_S)
                else:
                    # A subscription can be cut in silence: now and then a page looks anyway.
                    seen = self._count
                    yield b": still here\n\nevent: changed\ndata: 0\n\n"
        finally:
            self._lookers -= 1
            if not self._lookers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _changes(self, seen: int, instance_id: str | None) -> bool:
        """Wait for a change after `seen`; False after a while without one."""

        def changed() -> bool:
            if self._draining.is_set():
                return True
            if instance_id is None:
                return self._count > seen
            return max(self._missed, self._changed.get(instance_id, 0)) > seen

        try:
            async with self._tick:
                await asyncio.wait_for(self._tick.wait_for(changed), HEARTBEAT_S)
        except TimeoutError:
            return False
        return True

    async def _listen(self) -> None:
        waker = asyncio.create_task(self._wake_at_the_end())
        try:
            while True:
                try:
                    await self._follow()
                except WfqError as exc:
                    log.debug("open pages are told of changes late: %s", exc)
                await asyncio.sleep(_RETRY_S)
        finally:
            waker.cancel()

    async def _wake_at_the_end(self) -> None:
        await self._draining.wait()
        async with self._tick:
            self._tick.notify_all()

    async def _follow(self) -> None:
        subscriber = await self._client.subscribe_changes()
        try:
            while True:
                await self._one(subscriber)
        finally:
            await subscriber.close()

    async def _one(self, subscriber: AsyncSubscriber) -> None:
        notice = await subscriber.next(HEARTBEAT_S)
        if notice is None:
            await subscriber.check()
            return
        self._count += 1
        if notice.data is None:
            # A channel is listened to from here on; what came before was not heard.
            self._missed = self._count
        for word in (notice.data or b"").decode("utf-8", "replace").split():
            self._changed[word.removeprefix("!")] = self._count
        while len(self._changed) > 10_000:
            self._changed.pop(next(iter(self._changed)))
        async with self._tick:
            self._tick.notify_all()
