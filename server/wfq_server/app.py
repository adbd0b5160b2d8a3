"""The ASGI application of the HTTP API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from wfq.settings import Settings
from wfq_server.client import ApiClient
from wfq_server.dashboard import dashboard_routes
from wfq_server.dashboard.desk import READ_ONLY, Desk
from wfq_server.dashboard.source import Source
from wfq_server.errors import ApiError, as_api_error, http_exception
from wfq_server.guard import OPERATION, Guard
from wfq_server.handlers import Handlers
from wfq_server.metrics import Metrics
from wfq_server.openapi import openapi_document
from wfq_server.operations import Handler, Operation
from wfq_server.parameters import check_given_once
from wfq_server.ports import Client
from wfq_server.probes import Probes
from wfq_server.security import Doorkeeper, Tokens
from wfq_server.table import make_operations
from wfq_server.watching import Gone, Watch


def create_app(
    settings: Settings,
    client: Client,
    *,
    draining: asyncio.Event | None = None,
    mounted: bool = False,
) -> Starlette:
    """Return the application: every route, behind the checks of `Guard`.

    The client is closed when the application is shut down. draining: set it when the server
    begins to stop, so that long polls and event streams end. mounted: it is a part of another
    application, which decides by which names it may be called.
    """
    draining = asyncio.Event() if draining is None else draining
    metrics = Metrics()
    watch = Watch(client, metrics, draining)
    handlers = Handlers(client, watch, max_body=int(settings.limits.payload_bytes))
    probes = Probes(client, metrics, draining)
    operations = make_operations(handlers, probes)
    probes.document = openapi_document(operations)
    tokens = Tokens.of(settings)
    doorkeeper = Doorkeeper(None if mounted else _hosts(settings))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await client.close()

    routes: list[BaseRoute] = [
        Route(path, _endpoint(operation, tokens, settings), methods=[operation.method])
        for operation in operations
        for path in operation.paths()
    ]
    if isinstance(client, ApiClient):
        source = Source(client, settings)
        routes += dashboard_routes(Desk(source, tokens, settings, metrics, draining))
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, doorkeeper=doorkeeper, metrics=metrics, draining=draining)],
        exception_handlers={HTTPException: http_exception},
        lifespan=lifespan,
    )


def _hosts(settings: Settings) -> list[str]:
    return [*settings.api_allowed_hosts, settings.api_host]


def _endpoint(operation: Operation, tokens: Tokens, settings: Settings) -> Handler:
    """Return the route's function: who may, the handler, and errors as answers."""

    singles = [
        name
        for parameter in operation.parameters
        if parameter.place == "query" and not parameter.repeatable
        for name in (parameter.name, *parameter.aliases)
    ]

    async def endpoint(request: Request) -> Response:
        request.scope[OPERATION] = operation.name
        try:
            if operation.role is not None:
                tokens.check(request.headers, operation.role)
                if settings.api_read_only and operation.role != "read":
                    raise ApiError(403, "ERR_READ_ONLY", READ_ONLY)
            check_given_once(request, singles)
            return await operation.handler(request)
        except Gone:
            return Response(status_code=499)  # nobody reads it; the counters do
        except Exception as exc:
            return as_api_error(exc, operation.code).response()

    return endpoint
