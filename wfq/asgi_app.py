"""The HTTP API as a part of another ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wfq.settings import Settings, load_settings

if TYPE_CHECKING:
    from starlette.applications import Starlette


def asgi(
    *,
    redis_url: str | None = None,
    namespace: str | None = None,
    app_id: str | None = None,
    settings: Settings | None = None,
) -> Starlette:
    """Return the HTTP API for mounting in a FastAPI or Starlette application.

    ::

        app = FastAPI()
        app.mount("/engine", wf.asgi())     # POST /engine/v1.0/workflows/dapr/NAME/start

    Options: as of `WorkflowClient`; what is not given comes from the settings. Tokens of the
    settings (WFQ_API_TOKEN) are asked for. Without any, whoever reaches the application may do
    everything here: put its own authentication in front. By which host names it may be called
    is the outer application's business; pages of other sites are refused.

    Connects at the first request. An outer application closes the connections at its own end by
    ``async with api.router.lifespan_context(api): ...`` in its lifespan.
    """
    # late import: the server stands above the library, and costs what programs seldom need.
    from wfq_server.mounting import mounted_app

    if settings is None or not redis_url is namespace is app_id is None:
        given = {} if settings is None else settings.model_dump(exclude_unset=True)
        named = {"redis_url": redis_url, "namespace": namespace, "app_id": app_id}
        settings = load_settings(**given | {k: v for k, v in named.items() if v is not None})
    return mounted_app(settings)
