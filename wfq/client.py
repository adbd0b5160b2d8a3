"""`WorkflowClient`: start, watch and steer workflow instances from threads."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar, Unpack, overload

from wfq.codec import PayloadCodec
from wfq.errors import ConfigurationError
from wfq.management import listing, operations, rerun, starting
from wfq.management.history import HistoryEvent
from wfq.management.ids import InstanceId
from wfq.management.listing import (
    FilterKeywords,
    WorkflowInstanceIdPage,
    WorkflowPage,
    make_query,
)
from wfq.management.rerun import UNSET
from wfq.management.scope import find_target
from wfq.management.session import Session
from wfq.management.starting import StartKeywords, StartOptions
from wfq.management.state import WorkflowState, WorkflowStatus
from wfq.management.waiting import Wish
from wfq.settings import Settings

T = TypeVar("T")


class WorkflowClient:
    """Starts, watches and steers workflow instances. Safe to share between threads.

    ::

        with WorkflowClient() as client:
            instance_id = client.schedule_new_workflow(order_workflow, input=order)
            state = client.wait_for_workflow_completion(instance_id, timeout_in_seconds=60)
            print(state.output())

    redis_url (also `url`), namespace, app_id: where to work; what is not given comes from the
    settings, and without a URL there the embedded server of the directory is used. app_id is
    the application whose code runs what is started. settings: in place of the three.
    payload_codec: transforms payloads, as the runtime's. host, port, logger_options: Dapr's,
    accepted and ignored (a `host` that is a Redis URL is taken for one).

    Connects at first use. Verbs raise InvalidIdentifier for an id outside its alphabet,
    StorageUnavailable when Redis cannot be reached, StorageFull when it takes no more writes.
    An unknown instance is None for `get_workflow_state`, InstanceNotFound elsewhere. Where a
    verb takes `app_id` as in Dapr, it may be left out: ids are unique in a namespace.
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
    ) -> None:
        target = find_target(
            host=host,
            redis_url=redis_url if redis_url is not None else url,
            namespace=namespace,
            app_id=app_id,
            settings=settings,
            payload_codec=payload_codec,
        )
        self._session = Session(target)
        self._do = self._session.do

    # --- starting

    @overload
    def schedule_new_workflow(
        self,
        workflow: str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        **options: Unpack[StartKeywords],
    ) -> InstanceId[Any]: ...
    @overload
    def schedule_new_workflow(
        self,
        workflow: Callable[..., Generator[Any, Any, T]],
        *,
        input: Any = None,
        instance_id: str | None = None,
        **options: Unpack[StartKeywords],
    ) -> InstanceId[T]: ...
    @overload
    def schedule_new_workflow(
        self,
        workflow: Callable[..., Coroutine[Any, Any, T]],
        *,
        input: Any = None,
        instance_id: str | None = None,
        **options: Unpack[StartKeywords],
    ) -> InstanceId[T]: ...
    @overload
    def schedule_new_workflow(
        self,
        workflow: Callable[..., T],
        *,
        input: Any = None,
        instance_id: str | None = None,
        **options: Unpack[StartKeywords],
    ) -> InstanceId[T]: ...
    def schedule_new_workflow(
        self,
        workflow: Callable[..., Any] | str,
        *,
        input: Any = None,  # noqa: A002 - Dapr's name
        instance_id: str | None = None,
        **options: Unpack[StartKeywords],
    ) -> InstanceId[Any]:
        """Start an instance and return its id. A start whose reply was lost is not done twice.

        workflow: the function, or the name it is registered under. input: one JSON-encodable
        value; None = no input. instance_id: None = a new random one. options: start_at (a datetime,
        naive = UTC, or a timedelta), reuse_id_policy, tags, app_id; see `StartOptions`.
        Raises: InstanceAlreadyExists; PayloadError, PayloadTooLarge; ConfigurationError.
        """
        return self._do(starting.start, workflow, input, instance_id, StartOptions(**options))

    def schedule_many(
        self,
        workflow: Callable[..., Any] | str,
        inputs: Iterable[Any],
        *,
        instance_ids: Iterable[str] | None = None,
        **options: Unpack[StartKeywords],
    ) -> Sequence[InstanceId[Any]]:
        """Start one instance per input, in few round trips; ids in the order of the inputs.

        Where an id is refused, the others are started all the same; the first refusal is raised.
        Raises: as `schedule_new_workflow`.
        """
        made = StartOptions(**options)
        return self._do(starting.start_many, workflow, inputs, instance_ids, made)

    def rerun_workflow(
        self,
        instance_id: str,
        *,
        from_event: int | None = None,
        new_instance_id: str | None = None,
        input: Any = ...,  # noqa: A002 - Dapr's name
    ) -> InstanceId[Any]:
        """Run an instance again, as a new one, and return the new id.

        from_event: None = from the beginning; N = what happened before event N of the history (see
        `get_workflow_history`) is kept, the rest is done again. new_instance_id: None = a new
        random one; the id itself is allowed once the instance has ended, which it then replaces.
        input: another input of the workflow; with from_event, of the activity or child workflow
        that event N has scheduled. A child started under an id of the workflow's own choice needs
        that id to be free again. See `wfq.management.revival` for what exactly is kept.
        Raises: InstanceNotFound, InstanceAlreadyExists, PayloadError, ConfigurationError.
        """
        return self._do(
            rerun.rerun,
            instance_id,
            from_event=from_event,
            target_id=new_instance_id,
            value=input,
        )

    def rerun_workflow_from_event(
        self,
        instance_id: str,
        event_id: int,
        *,
        new_instance_id: str | None = None,
        input: Any = UNSET,  # noqa: A002 - Dapr's name
        new_child_instance_id: str | None = None,
        app_id: str | None = None,
    ) -> InstanceId[Any]:
        """Dapr's form of `rerun_workflow`. Children of a rerun have ids of their own."""
        if new_child_instance_id is not None:
            raise ConfigurationError(
                "new_child_instance_id: children of a rerun have ids of their own; leave it away"
            )
        return self.rerun_workflow(
            instance_id, from_event=event_id, new_instance_id=new_instance_id, input=input
        )

    # --- reading

    @overload
    def get_workflow_state(
        self,
        instance_id: InstanceId[T],
        *,
        fetch_payloads: bool = True,
        app_id: str | None = None,
    ) -> WorkflowState[T] | None: ...
    @overload
    def get_workflow_state(
        self, instance_id: str, *, fetch_payloads: bool = True, app_id: str | None = None
    ) -> WorkflowState[Any] | None: ...
    def get_workflow_state(
        self, instance_id: str, *, fetch_payloads: bool = True, app_id: str | None = None
    ) -> WorkflowState[Any] | None:
        """Return the state of an instance, None for an unknown one.

        fetch_payloads: whether input, output, custom status and failure are wanted.
        """
        return self._do(operations.get_state, instance_id, payloads=fetch_payloads)

    @overload
    def wait_for_workflow_start(
        self,
        instance_id: InstanceId[T],
        *,
        fetch_payloads: bool = False,
        timeout_in_seconds: float | None = 60,
        app_id: str | None = None,
    ) -> WorkflowState[T]: ...
    @overload
    def wait_for_workflow_start(
        self,
        instance_id: str,
        *,
        fetch_payloads: bool = False,
        timeout_in_seconds: float | None = 60,
        app_id: str | None = None,
    ) -> WorkflowState[Any]: ...
    def wait_for_workflow_start(
        self,
        instance_id: str,
        *,
        fetch_payloads: bool = False,
        timeout_in_seconds: float | None = 60,
        app_id: str | None = None,
    ) -> WorkflowState[Any]:
        """Wait until an instance is no longer PENDING, and return its state.

        timeout_in_seconds: 0 or None = no limit. Raises: WaitTimeout (a TimeoutError),
        InstanceNotFound; StorageUnavailable when Redis is away for a minute.
        """
        wish = Wish(instance_id, "started", fetch_payloads, timeout_in_seconds or None)
        return self._do(operations.wait_for, wish)

    @overload
    def wait_for_workflow_completion(
        self,
        instance_id: InstanceId[T],
        *,
        fetch_payloads: bool = True,
        timeout_in_seconds: float | None = 0,
        app_id: str | None = None,
    ) -> WorkflowState[T]: ...
    @overload
    def wait_for_workflow_completion(
        self,
        instance_id: str,
        *,
        fetch_payloads: bool = True,
        timeout_in_seconds: float | None = 0,
        app_id: str | None = None,
    ) -> WorkflowState[Any]: ...
    def wait_for_workflow_completion(
        self,
        instance_id: str,
        *,
        fetch_payloads: bool = True,
        timeout_in_seconds: float | None = 0,
        app_id: str | None = None,
    ) -> WorkflowState[Any]:
        """Wait until an instance has ended, in whatever way, and return its state.

        timeout_in_seconds: 0 or None = no limit. Raises: as `wait_for_workflow_start`.
        """
        wish = Wish(instance_id, "ended", fetch_payloads, timeout_in_seconds or None)
        return self._do(operations.wait_for, wish)

    def wait_for_workflow_change(
        self, state: WorkflowState[T], *, timeout_in_seconds: float | None = 0
    ) -> WorkflowState[T]:
        """Wait until the instance has gone on since `state`, and return its new state.

        timeout_in_seconds: 0 or None = no limit. Raises: as `wait_for_workflow_start`.
        """
        wish = Wish(state.instance_id, "changed", True, timeout_in_seconds or None, state.mark)
        return self._do(operations.wait_for, wish)

    def get_workflow_history(
        self, instance_id: str, *, app_id: str | None = None
    ) -> list[HistoryEvent]:
        """Return what happened, of the present generation, oldest first.

        Raises: InstanceNotFound.
        """
        return self._do(operations.get_history, instance_id)

    def list_workflows(
        self, *, limit: int = 100, cursor: str | None = None, **filters: Unpack[FilterKeywords]
    ) -> WorkflowPage:
        """Return a page of instances, newest first, without their input and output.

        limit: rows, at most 1,000. cursor: that of the page before; what starts or ends while
        pages are read moves no other row. filters: status, name, app_id, created_after,
        created_before, tags, id_contains; see `FilterKeywords`. Raises: ConfigurationError.
        """
        return self._do(listing.list_page, make_query(filters), limit=limit, cursor=cursor)

    def list_workflow_instance_ids(
        self, *, page_size: int | None = None, continuation_token: str | None = None
    ) -> WorkflowInstanceIdPage:
        """Return a page of ids, newest first (Dapr's form of a list); at most 1,000 of them."""
        page = self.list_workflows(limit=page_size or 1000, cursor=continuation_token or None)
        return WorkflowInstanceIdPage.of(page)

    def iter_workflow_instance_ids(self, *, page_size: int = 1000) -> Iterator[str]:
        """Yield the ids of all instances, newest first (Dapr's form of a list)."""
        token: str | None = None
        while True:
            page = self.list_workflow_instance_ids(
                page_size=min(page_size, 1000), continuation_token=token
            )
            yield from page.instance_ids
            token = page.continuation_token
            if token is None:
                return

    def iter_workflow_instances(self, **filters: Unpack[FilterKeywords]) -> Iterator[str]:
        """Yield the ids of the instances that fit, newest first (Dapr's form of a list)."""
        cursor: str | None = None
        while True:
            page = self.list_workflows(cursor=cursor, **filters)
            yield from (state.instance_id for state in page)
            cursor = page.cursor
            if cursor is None:
                return

    def count_workflows(self, **filters: Unpack[FilterKeywords]) -> dict[WorkflowStatus, int]:
        """Return how many instances fit the filters of `list_workflows`, by status.

        Those whose first turn is to come count as PENDING, as in lists and states.
        ``sum(counts.values())`` is the total. Raises: ConfigurationError.
        """
        return self._do(listing.count_by_status, make_query(filters))

    # --- steering

    def raise_workflow_event(
        self,
        instance_id: str,
        event_name: str,
        *,
        data: Any = None,
        event_id: str | None = None,
        app_id: str | None = None,
    ) -> None:
        """Raise an external event; an instance that does not wait for it yet gets it later.

        Names match case-insensitively. event_id: an event of the same id is taken once; None =
        a new one. Raises: InstanceNotFound, InstanceFinished, InboxFull; PayloadError.
        """
        self._do(operations.raise_event, instance_id, event_name, data, event_id)

    def terminate_workflow(
        self,
        instance_id: str,
        *,
        output: Any = None,
        recursive: bool = True,
        app_id: str | None = None,
    ) -> None:
        """Ask an instance to end as TERMINATED; it does so in its next turn.

        output: what it ends with. recursive: its children end too. Raises: InstanceNotFound,
        InstanceFinished; PayloadError.
        """
        self._do(operations.terminate, instance_id, output, recursive=recursive)

    def pause_workflow(
        self,
        instance_id: str,
        *,
        reason: str | None = None,
        settle_in_seconds: float = operations.SETTLE_S,
        app_id: str | None = None,
    ) -> None:
        """Ask an instance to run no code until it is resumed; events are kept meanwhile.

        Activities that run go on. settle_in_seconds: waits at most so long for the state to
        show it; a worker that comes later does it all the same. Raises: InstanceNotFound,
        InstanceFinished.
        """
        self._do(operations.pause, instance_id, reason, settle_in_seconds)

    def resume_workflow(
        self,
        instance_id: str,
        *,
        settle_in_seconds: float = operations.SETTLE_S,
        app_id: str | None = None,
    ) -> None:
        """Ask a paused instance to go on.

        settle_in_seconds: as in `pause_workflow`. Raises: InstanceNotFound, InstanceFinished.
        """
        self._do(operations.resume, instance_id, settle_in_seconds)

    def purge_workflow(
        self, instance_id: str, recursive: bool = True, *, app_id: str | None = None
    ) -> None:
        """Remove an instance that has ended, with its history.

        recursive: its children too, all of which must have ended.
        Raises: InstanceNotFound, InstanceRunning.
        """
        self._do(operations.purge, instance_id, recursive=recursive)

    # --- life

    def ping(self) -> None:
        """Return once Redis has answered. Raises: StorageUnavailable, StorageError."""
        self._do(operations.ping)

    def close(self) -> None:
        """Close the connections; waits of other threads fail. Idempotent."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
