"""Running the API: sockets, uvicorn, and an end in which nobody is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from wfq.errors import ConfigurationError
from wfq.settings import Settings
from wfq_server.app import create_app
from wfq_server.client import ApiClient
from wfq_server.protocol import Protocol
from wfq_server.security import check_bind

log = logging.getLogger("wfq.server")

#: Seconds that an idle connection is kept for its next request.
KEEP_ALIVE_S = 75
#: Bytes of a request head.
MAX_HEAD = 32 * 1024
#: Seconds that closing takes on top of the grace period.
LEAVE_S = 5.0
#: Connections that wait to be accepted.
BACKLOG = 2048


def bind(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for every address of `host`; port 0 picks a free one.

    Raises: ConfigurationError, one line that says what is in the way.
    """
    sockets: list[socket.socket] = []
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(addresses):
            if sockets:
                # The port that was picked holds for all addresses.
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            sockets.append(_listen(family, address))
    except OSError as exc:
        for opened in sockets:
            opened.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {(exc.strerror or str(exc)).lower()}; "
            "choose another with --port or WFQ_API_PORT"
        ) from exc
    return sockets


def _listen(family: int, address: tuple[object, ...]) -> socket.socket:
    # The protocol is named for asyncio's sake: it sets TCP_NODELAY on such sockets alone, and
    # without it each answer waits 40 ms for the caller's delayed acknowledgement.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handling, which ends the process by the signal itself."""

    def __init__(self, config: uvicorn.Config, draining: asyncio.Event) -> None:
        super().__init__(config)
        self._draining = draining

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Long polls and event streams end now; what else is under way is finished.
        self._draining.set()
        await super().shutdown(sockets)


class ServerLoop:
    """Serves an application in a thread of its own until it is stopped."""

    name = "server"

    def __init__(
        self, app: ASGIApp, draining: asyncio.Event, *, host: str, port: int, drain_s: float
    ) -> None:
        self._sockets = bind(host, port)
        self.host = host
        self.port: int = self._sockets[0].getsockname()[1]
        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(drain_s)),
            h11_max_incomplete_event_size=MAX_HEAD,
            backlog=BACKLOG,
        )
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        self._server = _Uvicorn(config, draining)
        self._thread = threading.Thread(target=self._run, name="wfq-server", daemon=True)
        self._error: BaseException | None = None

    @property
    def url(self) -> str:
        """Where the API answers, for people."""
        shown = "localhost" if self.host in ("127.0.0.1", "::1", "localhost") else self.host
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}"

    def start(self) -> None:
        """Start to serve."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether requests are answered. The sockets take connections from the beginning."""
        deadline = threading.Event()
        waited = 0.0
        while not self._server.started and self._thread.is_alive() and waited < timeout_s:
            deadline.wait(0.01)
            waited += 0.01
        return self._server.started

    def stop(self, grace_s: float = 30.0) -> None:
        """Take no new connections, answer what is under way within `grace_s`, and return."""
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        self.join(grace_s + LEAVE_S)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the loop has ended; False if it has not within `timeout_s`."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(self._sockets))
        except BaseException as exc:
            self._error = exc
            log.exception("the HTTP server failed")
        finally:
            for opened in self._sockets:
                opened.close()


def make_server(settings: Settings) -> ServerLoop:
    """Return the API of the settings, bound to its address; `start` begins to serve.

    Raises: ConfigurationError for an address that cannot be bound, or may not be without a token.
    """
    check_bind(settings)
    draining = asyncio.Event()
    app = create_app(settings, ApiClient(settings=settings), draining=draining)
    host, port = settings.api_host, settings.api_port
    return ServerLoop(app, draining, host=host, port=port, drain_s=settings.drain_s)
