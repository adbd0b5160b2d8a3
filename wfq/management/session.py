"""Runs operations for threads: the connections behind a `WorkflowClient`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from wfq.errors import WfqError
from wfq.management import operations
from wfq.management.scope import Scope, Target
from wfq.management.steps import Begin, Command, Operation, Step, Together
from wfq.management.waiting import Wish, not_found
from wfq.management.waiting_sync import Waits
from wfq.storage import instances
from wfq.storage.embedded import ResolvedUrl
from wfq.storage.instances import Snapshot
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace

T = TypeVar("T")
P = ParamSpec("P")


class _Opened:
    """The connections of a session that was used."""

    def __init__(self, resolved: ResolvedUrl, link: SyncLink, scope: Scope) -> None:
        self.resolved = resolved
        self.link = link
        self.scope = scope
        self.waits = Waits(link, scope.namespace)


class Session:
    """Connects at first use. Safe to share between threads."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._closed = False

    def do(
        self,
        operation: Callable[Concatenate[Scope, P], Operation[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run an operation to its end and return its result."""
        opened = self._open()
        steps = operation(opened.scope, *args, **kwargs)
        answer: Any = None
        error: WfqError | None = None
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]  # the operation's T
            try:
                answer, error = _answer(opened, step), None
            except WfqError as exc:
                error = exc

    def close(self) -> None:
        """Close the connections; waits of other threads fail. Idempotent."""
        with self._lock:
            opened, self._opened, self._closed = self._opened, None, True
        if opened is not None:
            opened.waits.close()
            opened.link.close()
            opened.resolved.release()

    def _open(self) -> _Opened:
        opened = self._opened
        if opened is not None:
            return opened
        with self._lock:
            if self._closed:
                raise WfqError("the client is closed; make another one")
            if self._opened is None:
                self._opened = self._connect()
            return self._opened

    def _connect(self) -> _Opened:
        settings = self._target.settings
        resolved = self._target.open()
        try:
            link = SyncLink(resolved.url)
            namespace = open_namespace(link, settings.namespace, partitions=settings.partitions)
        except BaseException:
            resolved.release()
            raise
        return _Opened(resolved, link, self._target.scope(namespace))


def _answer(opened: _Opened, step: Step) -> Any:
    match step:
        case Begin(item):
            namespace = opened.scope.namespace
            partition = namespace.partition_of(item.instance_id)
            return opened.link.run(instances.start(namespace, partition, [item]))[0]
        case Together(calls):
            return opened.link.run_many(calls)
        case Command(words):
            return opened.link.command(*words)
        case Wish():
            return _wait(opened, step)
        case _:
            return opened.link.run(step)


def _wait(opened: _Opened, wish: Wish) -> Snapshot:
    """Wait until the wish is met. Raises: WaitTimeout, InstanceNotFound."""
    end = None if wish.timeout_s is None else time.monotonic() + wish.timeout_s
    waits = opened.waits
    if not waits.listens_to(wish.instance_id):
        snapshot = _read(opened, wish)
        if wish.met(snapshot):
            return snapshot
    ticket, settled = waits.add(wish)
    try:
        if waits.listens_to(wish.instance_id):
            # From here on every change is heard; what came before is read.
            snapshot = _read(opened, wish)
            if wish.met(snapshot):
                return snapshot
        settled.wait(None if end is None else max(0.0, end - time.monotonic()))
        return ticket.outcome()
    finally:
        waits.remove(ticket)


def _read(opened: _Opened, wish: Wish) -> Snapshot:
    snapshot = opened.link.run(operations.read_call(opened.scope, wish))[0]
    if snapshot is None:
        raise not_found(wish.instance_id)
    return snapshot
