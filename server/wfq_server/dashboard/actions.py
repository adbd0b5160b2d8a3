"""What pages do to instances: one or many, with a page that asks first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from wfq.errors import PayloadError, WfqError
from wfq.jsontext import parse_json
from wfq.storage.keys import check_instance_id
from wfq_server import parameters
from wfq_server.bodies import Given
from wfq_server.client import ApiClient
from wfq_server.dashboard.desk import Desk, Form
from wfq_server.dashboard.instances import Filters
from wfq_server.errors import ApiError, as_api_error
from wfq_server.security import Role

#: Instances that one action may be meant for.
MOST = 10_000
#: Calls under way at once.
_AT_ONCE = 32
#: Refusals that are shown.
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that can be done to an instance; `statuses`: of which it makes sense."""

    name: str
    role: Role
    done: str
    about: str
    statuses: tuple[str, ...]
    asks: bool
    do: Callable[[ApiClient, str], Awaitable[Any]]


_LIVE = ("RUNNING", "PENDING", "SUSPENDED", "STALLED")
_ENDED = ("COMPLETED", "FAILED", "TERMINATED")


async def _terminate(client: ApiClient, instance_id: str) -> None:
    await client.terminate_workflow(instance_id, output=None, recursive=True)


async def _purge(client: ApiClient, instance_id: str) -> None:
    await client.purge_workflow(instance_id, recursive=True)


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "suspend", "operate", "suspended", "They run no code until they are resumed.",
            ("RUNNING", "PENDING", "STALLED"), False, ApiClient.pause_workflow,
        ),
        Verb(
            "resume", "operate", "resumed", "They go on where they stopped.",
            ("SUSPENDED", "STALLED"), False, ApiClient.resume_workflow,
        ),
        Verb(
            "terminate", "admin", "terminated", "They end now, with their children.",
            _LIVE, True, _terminate,
        ),
        Verb(
            "rerun", "admin", "run again", "Each runs again from the start, as a new instance.",
            _ENDED, True, ApiClient.rerun_workflow,
        ),
        Verb(
            "purge", "admin", "purged", "They are removed with their histories, for good.",
            _ENDED, True, _purge,
        ),
    )
}  # fmt: skip


class Actions:
    """The forms that change something about instances."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def act(self, request: Request) -> Response:
        """Do a verb to the chosen instances, after asking where it cannot be undone."""
        form = await self._desk.form(request)
        verb = VERBS.get(form.text("verb"))
        if verb is None:
            raise ApiError(400, "ERR_MALFORMED_REQUEST", "choose what to do")
        self._desk.check(request, verb.role)
        ids = await self._chosen(form, verb)
        single = form.text("single") == "1" and len(ids) == 1
        back = f"/instances/{ids[0]}" if single and verb.name != "purge" else "/instances"
        asks = verb.asks or not single
        if not ids or (asks and form.text("confirm") != "1"):
            everything = form.text("all") == "1"
            return self._desk.page(
                request,
                "confirm.html",
                verb=verb,
                ids=ids,
                everything=everything,
                query=form.text("query"),
                single=single,
                back=back,
                most=MOST,
            )
        results = await self._each(verb, ids)
        refused = [(i, str(error)) for i, error in results if isinstance(error, Exception)]
        if single and not refused:
            made = results[0][1]
            return self._desk.to(request, f"/instances/{made}" if isinstance(made, str) else back)
        return self._desk.page(
            request,
            "done.html",
            verb=verb,
            count=len(ids) - len(refused),
            refused=refused[:_SHOWN],
            refused_count=len(refused),
            back=back,
        )

    async def _chosen(self, form: Form, verb: Verb) -> list[str]:
        if form.text("all") != "1":
            return [parameters.checked_id(i, check_instance_id) for i in form.all("id")][:MOST]
        # All that fit the filters of the list and can be meant, page by page.
        filters = Filters(dict(parse_qsl(form.text("query"))))
        wanted = [s for s in verb.statuses if s in (filters.keywords["status"] or verb.statuses)]
        if not wanted:
            return []
        found: list[str] = []
        cursor: str | None = None
        while len(found) < MOST:
            page = await self._desk.source.client.list_workflows(
                **{**filters.keywords, "status": wanted}, limit=1000, cursor=cursor
            )
            found += [state.instance_id for state in page.items]
            cursor = page.cursor
            if cursor is None:
                break
        return found[:MOST]

    async def _each(self, verb: Verb, ids: list[str]) -> list[tuple[str, Any]]:
        """Do it to each, some at a time; a refusal of one stops no other."""
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(instance_id: str) -> tuple[str, Any]:
            async with places:
                try:
                    return instance_id, await verb.do(self._desk.source.client, instance_id)
                except WfqError as exc:
                    error = as_api_error(exc, "ERR_DASHBOARD")
                    return instance_id, ApiError(error.status, error.code, error.message)

        return list(await asyncio.gather(*map(one, ids)))

    async def raise_event(self, request: Request) -> Response:
        """Raise an external event; a page with scripts stays, others come back to the instance."""
        form = await self._desk.form(request)
        instance_id = parameters.instance_id(request)
        name = form.text("event").strip()
        stays = "hx-request" in request.headers
        try:
            await self._raise(instance_id, name, form.text("data"))
        except Exception as exc:
            if not stays:
                raise
            message = as_api_error(exc, "ERR_RAISE_EVENT_WORKFLOW").message
            return self._desk.page(request, "_raised.html", name=name, error=message)
        if stays:
            return self._desk.page(request, "_raised.html", name=name, error="")
        return self._desk.to(request, f"/instances/{instance_id}")

    async def _raise(self, instance_id: str, name: str, text: str) -> None:
        if not 1 <= len(name) <= parameters.MAX_NAME:
            raise ApiError(400, "ERR_MALFORMED_REQUEST", "the event needs a name")
        data = given_json(text, "data")
        await self._desk.source.client.raise_workflow_event(
            instance_id, name, data=data.value if data else None
        )


def given_json(text: str, what: str) -> Given | None:
    """Return the JSON value of a form's field, None where it is empty. Raises: ApiError 400."""
    if not text.strip():
        return None
    try:
        return Given(parse_json(text.encode()))
    except PayloadError as exc:
        message = f"the {what} is not JSON: {exc}; put quotes around a text"
        raise ApiError(400, "ERR_MALFORMED_REQUEST_DATA", message) from exc
