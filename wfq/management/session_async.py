"""Runs operations for coroutines: the connections behind an `aio.WorkflowClient`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from wfq.errors import WfqError
from wfq.management import operations
from wfq.management.gathering import StartGate
from wfq.management.scope import Scope, Target
from wfq.management.steps import Begin, Command, Operation, Step, Together
from wfq.management.waiting import Wish, not_found
from wfq.management.waiting_async import AsyncWaits
from wfq.storage.channels import AsyncSubscriber
from wfq.storage.embedded import ResolvedUrl
from wfq.storage.instances import Snapshot
from wfq.storage.keys import Namespace
from wfq.storage.link import AsyncLink
from wfq.storage.membership import open_namespace_async

T = TypeVar("T")
P = ParamSpec("P")

#: Commands under way at once: each has a connection, and the pool refuses more than 100.
AT_ONCE = 64


class _Opened:
    """The connections of a session that was used."""

    def __init__(self, resolved: ResolvedUrl, link: AsyncLink, scope: Scope) -> None:
        self.resolved = resolved
        self.link = link
        self.scope = scope
        self.waits = AsyncWaits(link, scope.namespace)
        self.starts = StartGate(link, scope.namespace)
        self.places = asyncio.Semaphore(AT_ONCE)


class AsyncSession:
    """Connects at first use; belongs to the event loop of that use."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._opening: asyncio.Task[_Opened] | None = None
        self._opened: _Opened | None = None
        self._closed = False

    async def do(
        self,
        operation: Callable[Concatenate[Scope, P], Operation[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run an operation to its end and return its result."""
        opened = await self._open()
        steps = operation(opened.scope, *args, **kwargs)
        answer: Any = None
        error: WfqError | None = None
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]  # the operation's T
            try:
                answer, error = await _answer(opened, step), None
            except WfqError as exc:
                error = exc

    async def subscribe_changes(self) -> AsyncSubscriber:
        """Return a new subscription to the changes of all instances; the caller closes it."""
        opened = await self._open()
        namespace = opened.scope.namespace
        subscriber = AsyncSubscriber(opened.link)
        await subscriber.listen(namespace.changes(p) for p in range(namespace.partitions))
        return subscriber

    async def place(self) -> tuple[str, Namespace]:
        """Return the URL and the namespace that it works on, connecting where need be."""
        opened = await self._open()
        return opened.resolved.url, opened.scope.namespace

    async def close(self) -> None:
        """Close the connections; waits of other tasks fail. Idempotent."""
        self._closed = True
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.waits.close()
            await opened.link.close()
            opened.resolved.release()

    async def _open(self) -> _Opened:
        if self._opened is not None:
            return self._opened
        if self._closed:
            raise WfqError("the client is closed; make another one")
        if self._opening is None:
            # One task for all who come now; none of them may cancel it for the others.
            self._opening = asyncio.create_task(self._connect())
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        finally:
            if self._opening is opening and opening.done():
                self._opening = None  # after a failure the next use tries again

    async def _connect(self) -> _Opened:
        settings = self._target.settings
        # Starting the embedded server takes a while.
        resolved = await asyncio.to_thread(self._target.open)
        try:
            link = AsyncLink(resolved.url)
            namespace = await open_namespace_async(
                link, settings.namespace, partitions=settings.partitions
            )
        except BaseException:
            resolved.release()
            raise
        self._opened = _Opened(resolved, link, self._target.scope(namespace))
        return self._opened


async def _answer(opened: _Opened, step: Step) -> Any:
    if isinstance(step, Wish):
        return await _wait(opened, step)
    if isinstance(step, Begin):
        return await opened.starts.start(step.item)
    async with opened.places:
        match step:
            case Together(calls):
                return await opened.link.run_many(calls)
            case Command(words):
                return await opened.link.command(*words)
            case _:
                return await opened.link.run(step)


async def _wait(opened: _Opened, wish: Wish) -> Snapshot:
    """Wait until the wish is met. Raises: WaitTimeout, InstanceNotFound."""
    end = None if wish.timeout_s is None else time.monotonic() + wish.timeout_s
    waits = opened.waits
    if not waits.listens_to(wish.instance_id):
        snapshot = await _read(opened, wish)
        if wish.met(snapshot):
            return snapshot
    ticket, settled = await waits.add(wish)
    try:
        if waits.listens_to(wish.instance_id):
            # From here on every change is heard; what came before is read.
            snapshot = await _read(opened, wish)
            if wish.met(snapshot):
                return snapshot
        left = None if end is None else max(0.0, end - time.monotonic())
        try:
            await asyncio.wait_for(settled.wait(), left)
        except TimeoutError:
            pass  # the ticket knows what it means
        return ticket.outcome()
    finally:
        waits.remove(ticket)


async def _read(opened: _Opened, wish: Wish) -> Snapshot:
    async with opened.places:
        snapshot = (await opened.link.run(operations.read_call(opened.scope, wish)))[0]
    if snapshot is None:
        raise not_found(wish.instance_id)
    return snapshot
