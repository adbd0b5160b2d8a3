"""The port on which a worker process answers Prometheus. Off unless a setting names it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wfq_workers.process import Loop

log = logging.getLogger("wfq.metrics")

#: Seconds until a port that is taken is tried again: a worker that is replaced leaves it soon.
AGAIN_S = 2.0
#: Seconds in which a request has to come in whole.
REQUEST_S = 5.0


class MetricsLoop:
    """Answers ``GET /metrics`` with the counts of the loops, and what user code counts.

    Port 0 takes a free one; see `port`. A port that is taken keeps no worker from its work: it
    is said once, and tried again.
    """

    def __init__(self, host: str, port: int, loops: Sequence[Loop]) -> None:
        self._address = (host, port)
        self._loops = loops
        self._server: ThreadingHTTPServer | None = None
        self._stop = threading.Event()
        self._bound = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="wfq-metrics", daemon=True)

    @property
    def port(self) -> int | None:
        """The port that answers; None before that."""
        server = self._server
        return None if server is None else int(server.server_address[1])

    def start(self) -> None:
        """Begin to answer, in a thread."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Never keeps a worker from being ready."""
        return True

    def wait_bound(self, timeout_s: float) -> bool:
        """Wait until the port answers; False if it does not within `timeout_s`."""
        return self._bound.wait(timeout_s)

    def stop(self, grace_s: float = 30.0) -> None:
        """Close the port and return. The last scrape comes before the worker's end, or never."""
        self._stop.set()
        server = self._server
        if server is not None:
            server.shutdown()
        if self._thread.ident is not None:
            self._thread.join(grace_s)

    def _serve(self) -> None:
        handler = _handler(self._loops)
        said = False
        while not self._stop.is_set():
            try:
                self._server = _Server(self._address, handler)
                break
            except OSError as exc:
                if not said:
                    host, port = self._address
                    what = (exc.strerror or str(exc)).lower()
                    log.warning(
                        "no metrics on %s:%d yet: %s; trying again until it is free", host, port,
                        what,
                    )  # fmt: skip
                said = True
                self._stop.wait(AGAIN_S)
        if self._server is None:
            return
        with self._server:
            self._bound.set()
            log.info("metrics on http://%s:%s/metrics", self._address[0], self.port)
            if not self._stop.is_set():
                self._server.serve_forever(poll_interval=0.2)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Two workers on one port would answer in turns, with counters that jump.
    allow_reuse_port = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a scrape was cut off", exc_info=True)


def _handler(loops: Sequence[Loop]) -> type[BaseHTTPRequestHandler]:
    # late import: a worker without the port does not need the library in memory.
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

    from wfq_workers.metrics.collector import WorkerCollector

    registry = CollectorRegistry()
    registry.register(WorkerCollector(loops))

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404, "the metrics are at /metrics")
                return
            # The default registry has the process, and whatever user code counts.
            body = generate_latest(registry) + generate_latest(REGISTRY)
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's name
            log.debug(format, *args)

    return Handler
