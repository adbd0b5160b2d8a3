"""The operations on instances: what each route does."""

from __future__ import annotations

from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from wfq import failpoints, tracing
from wfq.management.rerun import SAME_INPUT
from wfq.storage.keys import check_new_instance_id
from wfq_server import parameters
from wfq_server.bodies import Given, read_json
from wfq_server.documents import (
    explanation_document,
    history_document,
    is_ended,
    list_document,
    status_document,
)
from wfq_server.errors import ApiError
from wfq_server.ports import Client, State
from wfq_server.responses import accepted, follow_up, json_response, no_content
from wfq_server.watching import Watch, event_id

#: Seconds of a long poll that names no time, and the most it may name; proxies cut longer ones.
WAIT_S = 30.0
MAX_WAIT_S = 600.0


class Handlers:
    """Answers requests with what `client` does."""

    def __init__(self, client: Client, watch: Watch, *, max_body: int) -> None:
        self._client = client
        self._watch = watch
        self._max_body = max_body

    # --- start

    async def start(self, request: Request) -> Response:
        """Start an instance; the same id and input again is the same start."""
        name = parameters.name(request, "name", "ERR_WORKFLOW_NAME_MISSING")
        app_id = parameters.app_id(request)
        instance_id = self._new_id(request, name, app_id)
        start_at = parameters.start_at(request)
        body = await read_json(request, limit=self._max_body)
        value = None if body is None else body.value
        with tracing.incoming(request.headers.get("traceparent")):
            started = await self._client.start_once(
                name, payload=value, instance_id=instance_id, start_at=start_at, app_id=app_id
            )
        if failpoints.ACTIVE:
            failpoints.hit("api.after_start")
        return accepted(request, started)

    def _new_id(self, request: Request, name: str, app_id: str | None) -> str | None:
        query = request.query_params
        given = query.get("instanceID") or query.get("instanceId")
        if given:
            return parameters.checked_id(given, check_new_instance_id)
        key = parameters.key(request.headers.get("idempotency-key"), "Idempotency-Key")
        if key is None:
            return None
        # The key decides the id, so that a repetition meets the instance of the first time.
        text = "\0".join((app_id or "", name, key))
        return f"key-{sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"

    # --- read

    async def get(self, request: Request) -> Response:
        """Answer the status document."""
        return json_response(status_document(await self._state(request)))

    async def list(self, request: Request) -> Response:
        """Answer a page of instances, newest first, without payloads."""
        query = request.query_params
        page = await self._client.list_workflows(
            status=parameters.statuses(request) or None,
            name=query.get("name") or None,
            app_id=parameters.app_id(request),
            created_after=parameters.moment(request, "createdAfter"),
            created_before=parameters.moment(request, "createdBefore"),
            tags=parameters.tags(request) or None,
            id_contains=query.get("idContains") or None,
            limit=parameters.limit(request),
            cursor=query.get("continuationToken") or None,
        )
        return json_response(list_document(page))

    async def history(self, request: Request) -> Response:
        """Answer the history as a list of numbered events."""
        instance_id = parameters.instance_id(request)
        events = await self._client.get_workflow_history(instance_id)
        return json_response(history_document(instance_id, events))

    async def explain(self, request: Request) -> Response:
        """Answer why the instance is where it is, what comes next, and what to do."""
        state = await self._state(request)
        told = await self._client.explain(state.instance_id, state.runtime_status.name)
        if told is None:
            state = await self._state(request)  # it was purged meanwhile
            told = {"instance_id": state.instance_id}
        return json_response(explanation_document(told))

    async def wait(self, request: Request) -> Response:
        """Answer once the instance has ended (200), or its state when time is over (202)."""
        timeout_s = min(parameters.seconds(request, "timeout", WAIT_S), MAX_WAIT_S)
        state = await self._state(request)
        if not is_ended(state) and timeout_s > 0:
            self._watch.check()
            ended = await self._watch.until_ended(request, state.instance_id, timeout_s)
            # It may have gone on without coming to its end.
            state = ended or await self._state(request)
        if is_ended(state):
            return json_response(status_document(state))
        headers = follow_up(request, state.instance_id)
        return json_response(status_document(state), 202, headers)

    async def events(self, request: Request) -> Response:
        """Stream the status document as server-sent events, one per change, until the end."""
        state = await self._state(request)
        if is_ended(state) and request.headers.get("last-event-id") == event_id(state):
            # The browser came back after the last event: 204 tells it to stop.
            return no_content(204)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        self._watch.check()
        return StreamingResponse(self._watch.events(state), media_type="text/event-stream")

    # --- command

    async def raise_event(self, request: Request) -> Response:
        """Queue an external event."""
        instance_id = parameters.instance_id(request)
        event = parameters.name(request, "event", "ERR_WORKFLOW_EVENT_NAME_MISSING")
        key = parameters.key(request.query_params.get("eventID"), "eventID")
        if key is None:
            key = parameters.key(request.headers.get("idempotency-key"), "Idempotency-Key")
        body = await self._body(request)
        data = None if body is None else body.value
        await self._client.raise_workflow_event(instance_id, event, data=data, event_id=key)
        return no_content(202)

    async def terminate(self, request: Request) -> Response:
        """Ask the instance to end; the body, where there is one, becomes its output."""
        instance_id = parameters.instance_id(request)
        recursive = parameters.flag(request, "recursive", True)
        body = await self._body(request)
        output = None if body is None else body.value
        await self._client.terminate_workflow(instance_id, output=output, recursive=recursive)
        return no_content(202)

    async def pause(self, request: Request) -> Response:
        """Ask the instance to run no code until it is resumed."""
        await self._client.pause_workflow(parameters.instance_id(request))
        return no_content(202)

    async def resume(self, request: Request) -> Response:
        """Ask a paused instance to go on."""
        await self._client.resume_workflow(parameters.instance_id(request))
        return no_content(202)

    async def purge(self, request: Request) -> Response:
        """Remove an ended instance."""
        recursive = parameters.flag(request, "recursive", True)
        await self._client.purge_workflow(parameters.instance_id(request), recursive=recursive)
        return no_content(202)

    async def rerun(self, request: Request) -> Response:
        """Run an ended instance again, from the start or from an event; a body is new input."""
        instance_id = parameters.instance_id(request)
        query = request.query_params
        new_id = query.get("newInstanceID") or None
        if new_id is not None:
            parameters.checked_id(new_id, check_new_instance_id)
        from_event = parameters.number(request, "fromEvent") if "fromEvent" in query else None
        body = await self._body(request)
        started = await self._client.rerun_workflow(
            instance_id,
            from_event=from_event,
            new_instance_id=new_id,
            input=SAME_INPUT if body is None else body.value,
        )
        return accepted(request, started)

    async def _state(self, request: Request) -> State:
        instance_id = parameters.instance_id(request)
        state = await self._client.get_workflow_state(instance_id)
        if state is None:
            message = f"no workflow instance {instance_id!r}; start it first"
            raise ApiError(404, "ERR_INSTANCE_ID_NOT_FOUND", message)
        return state

    async def _body(self, request: Request) -> Given | None:
        return await read_json(request, limit=self._max_body)
