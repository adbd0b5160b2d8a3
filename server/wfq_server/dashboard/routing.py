"""The addresses of the dashboard: all below ``/ui``, and a redirect from ``/``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from wfq_server.dashboard.actions import Actions
from wfq_server.dashboard.desk import HERE, POLICY, Desk, NeedsLogin, base
from wfq_server.dashboard.detail import Detail
from wfq_server.dashboard.entrance import Entrance
from wfq_server.dashboard.fleet import Fleet
from wfq_server.dashboard.home import Home
from wfq_server.dashboard.instances import Instances
from wfq_server.dashboard.live import Live
from wfq_server.dashboard.workflows import Workflows
from wfq_server.errors import as_api_error
from wfq_server.guard import OPERATION
from wfq_server.operations import Handler
from wfq_server.security import Role

_MEDIA = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def dashboard_routes(desk: Desk) -> list[BaseRoute]:
    """Return the routes of all pages."""
    instances, detail, actions = Instances(desk), Detail(desk), Actions(desk)
    workflows, fleet, home, entrance = Workflows(desk), Fleet(desk), Home(desk), Entrance(desk)
    live = Live(desk)
    pages: list[tuple[str, str, Handler, Role | None]] = [
        ("GET", "/", home.page, "read"),
        ("GET", "/rates", home.rates, "read"),
        ("GET", "/login", entrance.page, None),
        ("POST", "/login", entrance.enter, None),
        ("POST", "/logout", entrance.leave, None),
        ("GET", "/instances", instances.page, "read"),
        ("GET", "/instances/rows", instances.rows, "read"),
        ("GET", "/instances/counts", instances.counts, "read"),
        ("GET", "/live", live.follow, "read"),
        ("POST", "/act", actions.act, "operate"),
        ("GET", "/instances/{id}", detail.page, "read"),
        ("GET", "/instances/{id}/now", detail.now, "read"),
        ("GET", "/instances/{id}/history", detail.history, "read"),
        ("GET", "/instances/{id}/history.json", detail.download, "read"),
        ("POST", "/instances/{id}/raise", actions.raise_event, "operate"),
        ("GET", "/workflows", workflows.index, "read"),
        ("GET", "/workflows/{queue}/{name:path}", workflows.page, "read"),
        ("POST", "/start", workflows.start, "operate"),
        ("GET", "/workers", fleet.workers, "read"),
        ("GET", "/queues", fleet.queues, "read"),
        ("GET", "/dead", fleet.letters, "read"),
        ("POST", "/dead", fleet.act, "admin"),
    ]
    routes: list[BaseRoute] = [
        Route("/", _to_the_pages, methods=["GET"]),
        Route("/ui", _to_the_pages, methods=["GET"]),
        Route("/ui/static/{file}", _static, methods=["GET"]),
    ]
    routes += [
        Route(f"/ui{path}", _endpoint(desk, handler, role), methods=[method])
        for method, path, handler, role in pages
    ]
    return routes


def _endpoint(desk: Desk, handler: Handler, role: Role | None) -> Handler:
    """Return the route's function: who may, the page, and errors as pages."""

    async def endpoint(request: Request) -> Response:
        request.scope[OPERATION] = "Dashboard"
        try:
            if role is not None:
                desk.check(request, role)
            return await handler(request)
        except NeedsLogin:
            return _login(request)
        except Exception as exc:
            error = as_api_error(exc, "ERR_DASHBOARD")
            if "hx-request" in request.headers:
                return Response(error.document()["message"], error.status, error.headers)
            answer = desk.page(request, "error.html", status=error.status, error=error.document())
            answer.headers.update(error.headers)
            return answer

    return endpoint


def _login(request: Request) -> Response:
    address = f"{base(request)}/login"
    if "hx-request" in request.headers:
        # The page around the part goes there.
        return Response(status_code=401, headers={"hx-redirect": address})
    streams = "text/event-stream" in request.headers.get("accept", "")
    if request.method == "GET" and not streams:
        return RedirectResponse(address, 303)
    return Response("log in first", 401)


async def _to_the_pages(request: Request) -> Response:
    request.scope[OPERATION] = "Dashboard"
    return RedirectResponse(f"{base(request)}/", 307)


async def _static(request: Request) -> Response:
    request.scope[OPERATION] = "DashboardFile"
    path = HERE / "static" / request.path_params["file"]
    # One name in one folder: no path leads out of it.
    if path.parent != HERE / "static" or path.suffix not in _MEDIA or not path.is_file():
        return Response("no such file", 404)
    headers = {
        "cache-control": "public, max-age=31536000, immutable",
        "content-security-policy": POLICY,
    }
    return FileResponse(path, media_type=_MEDIA[path.suffix], headers=headers)
