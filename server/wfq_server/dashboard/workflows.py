"""Workflows as their workers tell of them: the picture, and a form to start one."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from wfq.analysis.mermaid import to_mermaid
from wfq.analysis.svg import to_svg
from wfq.storage.keys import check_new_instance_id, check_queue
from wfq_server import parameters
from wfq_server.dashboard.actions import given_json
from wfq_server.dashboard.desk import Desk, origin
from wfq_server.dashboard.forms import example_of, fields_of, start_lines
from wfq_server.dashboard.source import Published
from wfq_server.errors import ApiError

_RECENT = 8


class Workflows:
    """The list of workflows, and the page of one."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def index(self, request: Request) -> Response:
        """Every workflow that a worker has told of."""
        published = await self._desk.source.published()
        return self._desk.page(request, "workflows.html", workflows=published)

    async def page(self, request: Request) -> Response:
        """One workflow: picture, input, recent instances, the form."""
        queue, name = request.path_params["queue"], request.path_params["name"]
        versions = [
            one
            for one in await self._desk.source.published()
            if (one.queue, one.name) == (queue, name)
        ]
        if not versions:
            message = f"no worker has told of a workflow {name[:200]!r} of application {queue!r}"
            raise ApiError(404, "ERR_NOT_FOUND", message)
        version = request.query_params.get("version")
        chosen = next((v for v in versions if (v.version or "") == (version or "")), versions[-1])
        return await self._shown(request, chosen, versions)

    async def _shown(
        self,
        request: Request,
        chosen: Published,
        versions: list[Published],
        *,
        error: str = "",
        given: str | None = None,
        instance_id: str = "",
    ) -> Response:
        text = given if given is not None else _example_text(chosen)
        default = self._desk.settings.app_id
        app_id = chosen.queue if chosen.queue != default else None
        recent = await self._desk.source.client.list_workflows(name=chosen.name, limit=_RECENT)
        graph = chosen.graph
        return self._desk.page(
            request,
            "workflow.html",
            status=400 if error else 200,
            workflow=chosen,
            versions=versions,
            fields=fields_of(chosen.input_schema),
            text=text,
            instance_id=instance_id,
            error=error,
            commands=start_lines(origin(request), chosen.name, text, app_id),
            recent=recent.items,
            # Markup: every text in a picture is escaped.
            picture=None if graph is None else Markup(to_svg(graph, alone=False)),
            mermaid="" if graph is None else to_mermaid(graph),
        )

    async def start(self, request: Request) -> Response:
        """Start an instance, and go to its page."""
        form = await self._desk.form(request)
        name, queue = form.text("name"), form.text("queue") or self._desk.settings.app_id
        check_queue(queue)
        if not 1 <= len(name) <= parameters.MAX_NAME:
            raise ApiError(400, "ERR_WORKFLOW_NAME_MISSING", "the workflow needs a name")
        try:
            wanted: str | None = form.text("id").strip() or None
            if wanted is not None:
                wanted = parameters.checked_id(wanted, check_new_instance_id)
            given = given_json(form.text("input"), "input")
            started = await self._desk.source.client.start_once(
                name,
                payload=given.value if given else None,
                instance_id=wanted,
                start_at=None,
                app_id=queue,
            )
        except Exception as exc:
            return await self._again(request, form, name, queue, exc)
        return self._desk.to(request, f"/instances/{started}")

    async def _again(
        self, request: Request, form: Any, name: str, queue: str, error: Exception
    ) -> Response:
        """The form once more, as it was filled in, with what was wrong; where there is one."""
        from wfq.errors import StorageError, WfqError

        message = error.message if isinstance(error, ApiError) else str(error)
        if not isinstance(error, ApiError | WfqError) or isinstance(error, StorageError):
            raise error
        versions = [
            one
            for one in await self._desk.source.published()
            if (one.queue, one.name) == (queue, name)
        ]
        if not versions:
            raise error
        return await self._shown(
            request,
            versions[-1],
            versions,
            error=message,
            given=form.text("input"),
            instance_id=form.text("id"),
        )


def _example_text(workflow: Published) -> str:
    if not workflow.takes_input:
        return ""
    if workflow.input_schema is None:
        return "null"
    return json.dumps(example_of(workflow.input_schema), indent=2, ensure_ascii=False)
