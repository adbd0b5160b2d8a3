"""The API inside another application: what `wfq.asgi` returns."""

from __future__ import annotations

from starlette.applications import Starlette

from wfq.settings import Settings
from wfq_server.app import create_app
from wfq_server.client import ApiClient


def mounted_app(settings: Settings) -> Starlette:
    """Return the API; its client connects at the first request, in the loop of that request."""
    return create_app(settings, ApiClient(settings=settings), mounted=True)
