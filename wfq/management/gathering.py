"""Starts of one event loop, sent together: those that come while a round trip is under way wait
for the next one, and share it.

Alone, a start is sent at once. Under load one round trip carries hundreds, with one script call
for each partition; each start has its own answer or error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from wfq.errors import StorageError
from wfq.storage import instances
from wfq.storage.instances import NewInstance, StartReply
from wfq.storage.keys import Namespace
from wfq.storage.link import AsyncLink
from wfq.storage.scripts import Call

#: Bytes of inputs in one script call, so that Redis is never blocked for long.
CALL_BYTES = 1 << 20
#: Round trips under way at once: the next is packed while the server works on one.
AT_ONCE = 2

_Waiting = tuple[NewInstance, "asyncio.Future[StartReply]"]


class StartGate:
    """Sends starts together. Belongs to one event loop."""

    def __init__(self, link: AsyncLink, namespace: Namespace) -> None:
        self._link = link
        self._namespace = namespace
        self._waiting: list[_Waiting] = []
        self._scheduled = False
        self._under_way: set[asyncio.Task[None]] = set()

    async def start(self, item: NewInstance) -> StartReply:
        """Start one instance. Raises: StorageUnavailable, StorageFull, StorageError.

        A caller that is cancelled leaves the start to itself: it may have been sent.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[StartReply] = loop.create_future()
        self._waiting.append((item, answer))
        self._schedule()
        return await answer

    def _schedule(self) -> None:
        if not self._scheduled and self._waiting and len(self._under_way) < AT_ONCE:
            self._scheduled = True
            # Behind whatever else is ready to run now: it may be starts as well.
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        waiting, self._waiting = self._waiting, []
        if waiting:
            task = asyncio.get_running_loop().create_task(self._exchange(waiting))
            self._under_way.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._schedule()

    async def _exchange(self, waiting: Sequence[_Waiting]) -> None:
        parts = list(self._parts(waiting))
        try:
            replies = await self._link.run_many([call for call, _ in parts])
        except BaseException as exc:
            if isinstance(exc, StorageError) and len(parts) > 1:
                # One partition may be in trouble and the others well. Sending again is safe: a
                # start that was made is known by its incarnation.
                await asyncio.gather(*(self._alone(call, some) for call, some in parts))
                return
            _fail(waiting, exc)
            if not isinstance(exc, Exception):
                raise
            return
        for (_, some), answers in zip(parts, replies, strict=True):
            _settle(some, answers)

    async def _alone(self, call: Call[list[StartReply]], some: Sequence[_Waiting]) -> None:
        try:
            answers = await self._link.run(call)
        except Exception as exc:
            _fail(some, exc)
        else:
            _settle(some, answers)

    def _parts(
        self, waiting: Sequence[_Waiting]
    ) -> Iterator[tuple[Call[list[StartReply]], list[_Waiting]]]:
        """Cut what waits into script calls of one partition and a bounded size."""
        by_partition: dict[int, list[_Waiting]] = {}
        for one in waiting:
            partition = self._namespace.partition_of(one[0].instance_id)
            by_partition.setdefault(partition, []).append(one)
        for partition, all_of_it in by_partition.items():
            for some in _bounded(all_of_it):
                items = [item for item, _ in some]
                yield instances.start(self._namespace, partition, items), some


def _bounded(waiting: Sequence[_Waiting]) -> Iterator[list[_Waiting]]:
    some: list[_Waiting] = []
    size = 0
    for one in waiting:
        length = len(one[0].input or b"")
        if some and (len(some) == instances.BATCH or size + length > CALL_BYTES):
            yield some
            some, size = [], 0
        some.append(one)
        size += length
    yield some


def _settle(waiting: Sequence[_Waiting], replies: Sequence[StartReply]) -> None:
    for (_, answer), reply in zip(waiting, replies, strict=True):
        if not answer.done():
            answer.set_result(reply)


def _fail(waiting: Sequence[_Waiting], error: BaseException) -> None:
    for _, answer in waiting:
        if answer.done():
            continue
        if isinstance(error, Exception):
            answer.set_exception(error)
        else:
            answer.cancel()
