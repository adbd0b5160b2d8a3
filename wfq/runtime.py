"""`WorkflowRuntime`: the registry of a program, and workers in its own process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, TypeVar, overload

from wfq.codec import PayloadCodec
from wfq.core.ports import Limits
from wfq.management.scope import find_target
from wfq.naming import remember_name
from wfq.registry import Registry
from wfq.settings import Settings
from wfq.storage import preflight
from wfq.storage.embedded import ResolvedUrl
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace

log = logging.getLogger("wfq.runtime")

F = TypeVar("F", bound=Callable[..., Any])


class WorkflowRuntime:
    """Registers workflows and activities, and runs them in this process when started.

    ::

        wfr = WorkflowRuntime()

        @wfr.workflow
        def order_workflow(ctx: WorkflowContext, order: Order): ...

        @wfr.activity
        def charge(ctx: ActivityContext, order: Order) -> str: ...

        with wfr:                      # or: wfr.start() ... wfr.shutdown()
            WorkflowClient().schedule_new_workflow(order_workflow, input=order)

    ``wfq worker app.py`` runs the same registrations in processes of their own, without `start`.

    redis_url (also `url`), namespace, app_id: where to work, from the settings where they are
    not given; settings: in place of the three. concurrency: activities at once (Dapr's
    maximum_concurrent_activity_work_items means the same). payload_codec: transforms payloads
    on their way into Redis; clients need the same. worker_ready_timeout: seconds, the default of
    `wait_for_worker_ready`. host, port, logger_options and Dapr's other maximums are accepted
    and ignored (a `host` that is a Redis URL is taken for one).
    Raises: ConfigurationError.
    """

    def __init__(
        self,
        host: str | None = None,
        port: str | int | None = None,
        logger_options: object = None,
        *,
        redis_url: str | None = None,
        url: str | None = None,
        namespace: str | None = None,
        app_id: str | None = None,
        settings: Settings | None = None,
        payload_codec: PayloadCodec | None = None,
        concurrency: int | None = None,
        maximum_concurrent_activity_work_items: int | None = None,
        maximum_concurrent_orchestration_work_items: int | None = None,
        maximum_thread_pool_workers: int | None = None,
        worker_ready_timeout: float | None = None,
    ) -> None:
        self._target = find_target(
            host=host,
            redis_url=redis_url if redis_url is not None else url,
            namespace=namespace,
            app_id=app_id,
            settings=settings,
            payload_codec=payload_codec,
        )
        self._ready_timeout_s = 30.0 if worker_ready_timeout is None else worker_ready_timeout
        given = concurrency or maximum_concurrent_activity_work_items
        self._concurrency = given or self._target.settings.concurrency
        limits = _limits(self._target.settings)
        #: What is registered; the workers' view of the program.
        self.registry = Registry(self._target.codec, limits)
        #: Settings that the program itself gave, by name; flags of `wfq worker` go before them.
        self.given: dict[str, Any] = {
            name: value
            for name, value in (
                ("redis_url", redis_url if redis_url is not None else url),
                ("namespace", namespace),
                ("app_id", app_id),
                ("concurrency", given),
            )
            if value is not None
        }
        self._lock = threading.Lock()
        self._workers: _Workers | None = None

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._target.settings

    # --- registration

    @overload
    def workflow(self, fn: F, /) -> F: ...
    @overload
    def workflow(self, fn: None = None, /, *, name: str | None = None) -> Callable[[F], F]: ...
    def workflow(self, fn: Any = None, /, *, name: str | None = None) -> Any:
        """Decorate a workflow function: ``@wfr.workflow`` or ``@wfr.workflow(name="order")``.

        The function stays what it was. Raises: ConfigurationError.
        """

        def register(function: F) -> F:
            self.register_workflow(function, name=name)
            return function

        return register if fn is None else register(fn)

    @overload
    def versioned_workflow(self, fn: F, /) -> F: ...
    @overload
    def versioned_workflow(
        self,
        fn: None = None,
        /,
        *,
        name: str | None = None,
        version_name: str | None = None,
        is_latest: bool = False,
    ) -> Callable[[F], F]: ...
    def versioned_workflow(
        self,
        fn: Any = None,
        /,
        *,
        name: str | None = None,
        version_name: str | None = None,
        is_latest: bool = False,
    ) -> Any:
        """Decorate one version of a workflow; see `register_versioned_workflow`."""

        def register(function: F) -> F:
            self.register_versioned_workflow(
                function, name=name, version_name=version_name, is_latest=is_latest
            )
            return function

        return register if fn is None else register(fn)

    @overload
    def activity(self, fn: F, /) -> F: ...
    @overload
    def activity(
        self,
        fn: None = None,
        /,
        *,
        name: str | None = None,
        inline: bool = False,
        process: bool = False,
    ) -> Callable[[F], F]: ...
    def activity(
        self,
        fn: Any = None,
        /,
        *,
        name: str | None = None,
        inline: bool = False,
        process: bool = False,
    ) -> Any:
        """Decorate an activity function; see `register_activity`. It stays what it was."""

        def register(function: F) -> F:
            self.register_activity(function, name=name, inline=inline, process=process)
            return function

        return register if fn is None else register(fn)

    def register_workflow(self, fn: Callable[..., Any], *, name: str | None = None) -> None:
        """Register a workflow: a generator, an ``async def`` or a plain function.

        name: None = its alternate name, else its own. Raises: ConfigurationError.
        """
        remember_name(fn, self.registry.register_workflow(fn, name=name).name)

    def register_versioned_workflow(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        version_name: str | None = None,
        is_latest: bool = False,
    ) -> None:
        """Register one version of a workflow; an instance stays on the one it started with.

        name: of the workflow; None = the function's. version_name: None = the function's name.
        is_latest: new instances start on it. Raises: ConfigurationError.
        """
        version = version_name or getattr(fn, "__name__", None) or name
        entry = self.registry.register_workflow(fn, name=name, version=version, is_latest=is_latest)
        remember_name(fn, entry.name)

    def register_activity(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        inline: bool = False,
        process: bool = False,
    ) -> None:
        """Register an activity: ``fn(ctx, input)``, ``fn(input)`` or ``fn()``, async or not.

        name: None = its alternate name, else its own. inline: short local work that the
        orchestrator may run itself. process: run in a process pool, for CPU-bound work.
        Raises: ConfigurationError.
        """
        remember_name(
            fn, self.registry.register_activity(fn, name=name, inline=inline, process=process).name
        )

    # --- workers in this process

    def start(self) -> None:
        """Start workers in threads of this process; does nothing while they run.

        Raises: StorageUnavailable, ConfigurationError.
        """
        with self._lock:
            if self._workers is None:
                self._workers = self._started()

    def wait_for_worker_ready(self, timeout: float | None = None) -> bool:
        """Wait until the workers take work; False if they do not within `timeout` seconds.

        None = the runtime's worker_ready_timeout, 30 seconds unless given.
        """
        workers = self._workers
        timeout_s = self._ready_timeout_s if timeout is None else timeout
        return workers is not None and workers.wait_ready(timeout_s)

    def shutdown(self) -> None:
        """Stop the workers: finish what runs, within `drain_s` of the settings. Idempotent."""
        with self._lock:
            workers, self._workers = self._workers, None
        if workers is not None:
            workers.stop(self.settings.drain_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def _started(self) -> _Workers:
        resolved = self._target.open()
        try:
            if resolved.notice is not None:
                log.warning("%s", resolved.notice)
            namespace = self._namespace(resolved.url)
            workers = _Workers(resolved, self._loops(resolved.url, namespace))
        except BaseException:
            resolved.release()
            raise
        workers.start()
        return workers

    def _namespace(self, url: str) -> Namespace:
        link = SyncLink(url)
        try:
            namespace = open_namespace(
                link, self.settings.namespace, partitions=self.settings.partitions
            )
            preflight.look(link, namespace)
            return namespace
        finally:
            link.close()

    def _loops(self, url: str, namespace: Namespace) -> Sequence[Loop]:
        # late import: the one step upwards; a program that only registers needs no workers.
        from wfq_workers import loops

        settings = self.settings.model_copy(update={"concurrency": self._concurrency})
        place = loops.Place(settings, url, namespace)
        job = loops.Job(loops.DEFAULT_ROLES, self.registry)
        return loops.make_loops(place, job, own_process=False)


def _limits(settings: Settings) -> Limits:
    """What the settings allow one instance to do."""
    given = settings.limits
    return Limits(
        actions_per_turn=given.turn_actions,
        history_events=given.history_events,
        turn_bytes=int(given.turn_bytes),
        unknown_grace_ms=int(settings.unknown_grace_s * 1000),
    )


class Loop(Protocol):
    """A part of a worker, with threads of its own; see `wfq_workers.process`."""

    def start(self) -> None: ...

    def wait_ready(self, timeout_s: float) -> bool: ...

    def stop(self, grace_s: float) -> None: ...


class _Workers:
    """Loops that run in threads of this process."""

    def __init__(self, resolved: ResolvedUrl, loops: Sequence[Loop]) -> None:
        self._resolved = resolved
        self._loops = loops

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    def wait_ready(self, timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        return all(loop.wait_ready(max(0.0, end - time.monotonic())) for loop in self._loops)

    def stop(self, grace_s: float) -> None:
        """Stop all loops at the same time, so that they share one grace period."""
        threads = [
            threading.Thread(target=loop.stop, args=(grace_s,), name="wfq-stop", daemon=True)
            for loop in self._loops
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._resolved.release()
