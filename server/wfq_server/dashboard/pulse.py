"""Telling open pages that something has changed: one subscription for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import orjson

from wfq.errors import WfqError
from wfq.storage.channels import AsyncSubscriber
from wfq_server.client import ApiClient

log = logging.getLogger("wfq.server")

#: Seconds between two words to one page: what people can follow, and what redrawing costs.
THROTTLE_S = 1.0
#: Seconds of silence after which pages look anyway, which also keeps the stream open.
HEARTBEAT_S = 15.0
#: The topic that changes with every instance. No instance has it as its id.
ANY = ""
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

    async def events(self, topics: Sequence[str]) -> AsyncIterator[bytes]:
        """Yield ``changed`` events whose data is the JSON list of the topics that changed.

        A topic is the id of an instance, or `ANY`. Throttled. The first names all of them.
        """
        self._lookers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._listen())
        # The first word comes at once: something may have changed since the pages were made.
        seen = -1
        try:
            yield b"retry: 2000\n\n"
            while not self._draining.is_set():
                changed = await self._changes(seen, topics)
                seen = self._count
                # A subscription can be cut in silence: now and then pages look anyway.
                yield b"event: changed\ndata: %b\n\n" % orjson.dumps(changed or list(topics))
                if changed:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._draining.wait(), THROTTLE_S)
        finally:
            self._lookers -= 1
            if not self._lookers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _changes(self, seen: int, topics: Sequence[str]) -> list[str]:
        """Wait until a topic changes after `seen`; an empty list after a while without one."""

        def changed() -> list[str]:
            return [topic for topic in topics if self._last_change(topic) > seen]

        try:
            async with self._tick:
                await asyncio.wait_for(
                    self._tick.wait_for(lambda: self._draining.is_set() or changed()), HEARTBEAT_S
                )
        except TimeoutError:
            return []
        return changed()

    def _last_change(self, topic: str) -> int:
        """The count at the last change of a topic, as far as that was heard."""
        return self._count if topic == ANY else max(self._missed, self._changed.get(topic, 0))

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
            instance_id = word.removeprefix("!")
            while instance_id:
                # The latest stand at the end: those at the beginning are forgotten first.
                self._changed.pop(instance_id, None)
                self._changed[instance_id] = self._count
                # The page of a parent tells of its children, whose ids begin with its own.
                instance_id = instance_id.rpartition("~")[0]
        while len(self._changed) > 10_000:
            self._changed.pop(next(iter(self._changed)))
        async with self._tick:
            self._tick.notify_all()
