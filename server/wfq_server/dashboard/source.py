"""What the dashboard reads and does beyond the verbs of the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import orjson

from wfq.analysis.graph import Graph
from wfq.checker.explain import explain_instance
from wfq.checker.explanation import Explanation
from wfq.codec import Codec
from wfq.core.history import HistoryEvent, expand_history
from wfq.errors import WfqError
from wfq.management import operations
from wfq.management.listing import FilterKeywords
from wfq.management.scope import Scope
from wfq.management.state import WorkflowStatus
from wfq.management.steps import Command, Operation, run, run_many, server_now_ms
from wfq.settings import Settings
from wfq.storage.figures import QueueFigures
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.scripts import Argument, Call
from wfq_server.client import ApiClient

T = TypeVar("T")

#: Seconds that an explanation is good for, where nothing has happened meanwhile.
_FRESH_S = 1.0
#: Seconds that a count is good for, and how many times as long as it took.
_FRESH_COUNT_S = 0.5
_REST = 10
#: Instances of a family that are explained for one page: each is some reads of Redis.
_FAMILY = 8
#: Explanations, and counts, that are remembered.
_REMEMBERED = 500

Counts = dict[WorkflowStatus, int]


@dataclass(frozen=True, slots=True)
class Published:
    """What workers tell of one workflow. `graph` None: its source could not be read."""

    queue: str
    name: str
    version: str | None
    takes_input: bool
    input_schema: dict[str, Any] | None
    event_schemas: dict[str, Any]
    graph: Graph | None


@dataclass(frozen=True, slots=True)
class Worker:
    """A live worker: when it reported last (epoch ms), and what it said."""

    worker_id: str
    seen_ms: int
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits in a queue, over all partitions, and who serves it."""

    name: str
    workers: int
    waiting: QueueFigures


class Source:
    """Reads through the API's client, so that there is one set of connections."""

    def __init__(self, client: ApiClient, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        self._explained: dict[str, tuple[float, int, Explanation | None]] = {}
        self._counted: dict[str, tuple[float, Counts]] = {}
        #: One count at a time: with filters, Redis looks at every instance for it.
        self._counting = asyncio.Lock()

    async def scope(self) -> Scope:
        """The namespace and codec of the client."""
        return await self.client.operate(_scope)

    async def codec(self) -> Codec:
        return (await self.scope()).codec

    async def now_ms(self) -> int:
        """The server's clock, in epoch ms."""
        return await self.client.operate(_now_ms)

    async def history(self, instance_id: str) -> list[HistoryEvent]:
        """The events of an instance, payloads as stored. Raises: InstanceNotFound."""
        _, records = await self.client.operate(operations.fetch_records, instance_id)
        return expand_history(records)

    async def explanation(
        self, instance_id: str, status: str = "", turns: int = 0
    ) -> Explanation | None:
        """What ``wfq explain`` says, of late; None for an unknown instance. Raises: WfqError.

        What was said of fewer turns than the caller has seen is not said again.
        """
        known = self._explained.get(instance_id)
        if known is not None and time.monotonic() - known[0] < _FRESH_S and known[1] >= turns:
            return known[2]
        began = time.monotonic()
        namespace = (await self.scope()).namespace
        told = await self._in_thread(explain_instance, namespace, instance_id, status)
        while len(self._explained) >= _REMEMBERED:
            self._explained.pop(next(iter(self._explained)))
        self._explained[instance_id] = (began, turns, told)
        return told

    async def explanations(
        self, instance_id: str, status: str, turns: int
    ) -> dict[str, Explanation]:
        """The explanations of an instance and of the children that it waits for, by id.

        Children of children too, as many as a page tells of. Raises: WfqError.
        """
        found: dict[str, Explanation] = {}
        following = [(instance_id, status, turns)]
        while following and len(found) < _FAMILY:
            next_id, status, turns = following.pop(0)
            told = await self.explanation(next_id, status, turns)
            if told is None or next_id in found:
                continue
            found[next_id] = told
            following += [
                (task.child_id, "", 0)
                for task in told.tasks
                if task.child_id and task.state in ("RUNNING", "PENDING")
            ]
        return found

    async def counts(self, key: str, filters: FilterKeywords) -> Counts:
        """How many instances fit, by status, of late; `key` names the filters.

        What took long to count is good for longer, so that open pages cost little.
        """
        async with self._counting:
            known = self._counted.get(key)
            began = time.monotonic()
            if known is not None and began < known[0]:
                return known[1]
            found = await self.client.count_workflows(**filters)
            ended = time.monotonic()
            while len(self._counted) >= _REMEMBERED:
                self._counted.pop(next(iter(self._counted)))
            self._counted[key] = (ended + max(_FRESH_COUNT_S, _REST * (ended - began)), found)
            return found

    async def workers(self) -> list[Worker]:
        """Live workers, by id."""
        return await self.client.operate(_workers)

    async def queues(self) -> list[Queue]:
        """Queues that were ever used, by name."""
        live = [worker.details.get("queues") or () for worker in await self.workers()]
        found = (await self.client.figures()).queues
        return [
            Queue(name, sum(name in queues for queues in live), waiting)
            for name, waiting in sorted(found.items())
        ]

    async def published(self) -> list[Published]:
        """Workflows of all queues, by name; the unversioned or latest first."""
        return await self.client.operate(_published)

    async def published_of(self, queue: str, name: str, version: str | None) -> Published | None:
        """What is told of the code of an instance."""
        return await self.client.operate(_one_published, queue, name, version)

    # --- dead letters

    async def letters(self) -> Sequence[Any]:
        """Dead letters, oldest first."""
        from wfq_workers.listening import dead_letters  # late import: listeners keep the letters

        namespace = (await self.scope()).namespace
        return await self._in_thread(dead_letters.list_letters, namespace)

    async def retry_letter(self, address: str) -> None:
        """Send a listener's message again and drop it. Raises: WfqError."""
        from wfq_workers.listening import dead_letters  # late import: listeners know how to send
        from wfq_workers.listening.listener import ListenerClient  # late import: as above

        namespace = (await self.scope()).namespace
        settings = self.settings

        def send(link: SyncLink) -> None:
            known = {kept.address: kept for kept in dead_letters.list_letters(link, namespace)}
            if address not in known:
                raise WfqError("there is no such dead letter any more")
            client = ListenerClient(settings=settings)
            try:
                limit = int(settings.limits.payload_bytes)
                dead_letters.send_again(known[address], client, settings.listeners, limit=limit)
            finally:
                client.close()
            dead_letters.drop_letter(link, namespace, address)

        await self._in_thread(lambda link, _: send(link), namespace)

    async def drop_letter(self, address: str) -> None:
        """Remove a dead letter for good."""
        from wfq_workers.listening import dead_letters  # late import: listeners keep the letters

        namespace = (await self.scope()).namespace
        await self._in_thread(dead_letters.drop_letter, namespace, address)

    async def _in_thread(
        self, work: Callable[..., T], namespace: Namespace, *arguments: object
    ) -> T:
        """Do what is written for threads, over this loop's connections."""
        link = cast(SyncLink, _Bridge(self.client, asyncio.get_running_loop()))
        return await asyncio.to_thread(work, link, namespace, *arguments)


class _Bridge:
    """The part of a SyncLink that is needed, for a thread, answered by the event loop."""

    def __init__(self, client: ApiClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def run(self, call: Call[T]) -> T:
        return self._answer(self._client.operate(_run, call))

    def run_many(self, calls: Sequence[Call[T]]) -> list[T]:
        return self._answer(self._client.operate(_run_many, calls))

    def command(self, *words: Argument) -> Any:
        return self._answer(self._client.operate(_command, words))

    def commands(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        return [self.command(*words) for words in commands]

    def _answer(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


# --- operations


def _scope(scope: Scope) -> Operation[Scope]:
    yield from ()
    return scope


def _now_ms(_: Scope) -> Operation[int]:
    return (yield from server_now_ms())


def _run(_: Scope, call: Call[T]) -> Operation[T]:
    return (yield from run(call))


def _run_many(_: Scope, calls: Sequence[Call[T]]) -> Operation[list[T]]:
    return (yield from run_many(calls))


def _command(_: Scope, words: tuple[Argument, ...]) -> Operation[Any]:
    return (yield Command(words))


def _workers(scope: Scope) -> Operation[list[Worker]]:
    namespace = scope.namespace
    rows = yield Command(("ZRANGE", namespace.workers, 0, -1, "WITHSCORES"))
    pairs = [row if isinstance(row, list | tuple) else None for row in rows]
    if pairs and pairs[0] is not None:
        seen = {row[0].decode(): int(float(row[1])) for row in rows}
    else:
        seen = {
            name.decode(): int(float(score))
            for name, score in zip(rows[::2], rows[1::2], strict=True)
        }
    if not seen:
        return []
    names = sorted(seen)
    texts = yield Command(("MGET", *map(namespace.worker, names)))
    return [
        Worker(name, seen[name], orjson.loads(text))
        for name, text in zip(names, texts, strict=True)
        if text
    ]


def _published(scope: Scope) -> Operation[list[Published]]:
    names = sorted(name.decode() for name in (yield Command(("SMEMBERS", scope.namespace.queues))))
    found: list[Published] = []
    for queue in names:
        flat = yield Command(("HGETALL", scope.namespace.about(queue)))
        texts = flat.values() if isinstance(flat, dict) else flat[1::2]
        found += (one for text in texts if (one := _parsed(queue, text)) is not None)
    return sorted(found, key=lambda one: (one.name, one.queue, one.version or ""))


def _one_published(
    scope: Scope, queue: str, name: str, version: str | None
) -> Operation[Published | None]:
    field = f"{name}@{version}" if version else name
    text = yield Command(("HGET", scope.namespace.about(queue), field))
    return None if text is None else _parsed(queue, text)


def _parsed(queue: str, text: bytes) -> Published | None:
    try:
        said = orjson.loads(text)
        schema, graph, events = said["input_schema"], said["graph"], said.get("event_schemas")
        return Published(
            queue=queue,
            name=str(said["name"]),
            version=said["version"],
            takes_input=bool(said["takes_input"]),
            input_schema=schema if isinstance(schema, dict) else None,
            event_schemas=events if isinstance(events, dict) else {},
            graph=None if graph is None else Graph.from_json(graph),
        )
    except (ValueError, KeyError, TypeError):
        # Another version of wfq may say it in another way: a picture less, not a page less.
        return None
