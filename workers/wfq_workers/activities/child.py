"""The program of a process that runs ``process=True`` activities for a worker.

Messages over the inherited socket, JSON each. In: ``{"do": "run", ...}`` and
``{"do": "cancel"}``. Out: ``["beat", details]``, then ``["done", result]`` or
``["failed", failure, names]``.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

import orjson

from wfq import logs
from wfq.activity_context import Facts
from wfq.codec import Codec
from wfq.depends import DependencyScope
from wfq.registry import Registry
from wfq_workers.activities.asyncio_thread import EventLoopThread
from wfq_workers.activities.attempt import Attempt, Stream
from wfq_workers.activities.execution import Handler, failure_of
from wfq_workers.tracing import traced

#: Bytes of a payload that passes between worker and child; the worker knows the real limit.
NO_LIMIT = 1 << 40

_NO_STREAM = Stream(0, "", "")


class ChildProgram:
    """Runs one attempt after the other until the worker closes the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._requests: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._registry = Registry(Codec(max_bytes=NO_LIMIT))
        self._loop = EventLoopThread(_no_attempts, name="wfq-child-loop")
        self._scope = DependencyScope(self._loop.loop)
        self._handlers: dict[str, Handler] = {}
        self._attempt: Attempt | None = None

    def serve(self) -> None:
        """Run what is asked for, until the worker has no more."""
        threading.Thread(target=self._listen, name="wfq-child-listen", daemon=True).start()
        while (request := self._requests.get()) is not None:
            self._send(self._answer(request))
        self._scope.close()
        self._loop.close()

    def _listen(self) -> None:
        while True:
            try:
                message = orjson.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                # The worker has gone: nobody waits for a result, and nobody else would end us.
                os._exit(0)
            match message["do"]:
                case "run":
                    self._requests.put(message)
                case "cancel":
                    attempt = self._attempt
                    if attempt is not None:
                        attempt.cancel()
                case "close":
                    self._requests.put(None)

    def _answer(self, request: dict[str, Any]) -> list[Any]:
        """Run one attempt; whatever it raises is its failure, and this process lives on."""
        try:
            delivery = (_NO_STREAM, b"", request["instance"], request["message"].encode(), 1)
            attempt = self._attempt = Attempt(delivery, 0.0)
            logs.ACTIVITY.set(attempt)
            # The worker has the span; what is started from here belongs to its trace.
            with traced(None, attempt):
                return ["done", self._run(self._handler(request), attempt)]
        except BaseException as exc:
            return ["failed", *failure_of(exc)]
        finally:
            logs.ACTIVITY.set(None)
            self._attempt = None

    def _run(self, handler: Handler, attempt: Attempt) -> Any:
        if handler.activity.is_async:
            running = handler.run_async(attempt)
            return asyncio.run_coroutine_threadsafe(running, self._loop.loop()).result()
        return handler.run(attempt)

    def _handler(self, request: dict[str, Any]) -> Handler:
        name = request["name"]
        if name not in self._handlers:
            function = load(request["module"], request["file"], request["function"])
            self._handlers[name] = Handler(
                self._registry.register_activity(function, name=name),
                self._scope,
                beat=self._beat,
                decode_details=self._registry.decode_plain,
            )
        return self._handlers[name]

    def _beat(self, _: Facts, details: Any) -> None:
        self._send(["beat", self._registry.encode_plain(details)])

    def _send(self, message: list[Any]) -> None:
        with self._sending:
            self._connection.send_bytes(orjson.dumps(message))


def load(module: str, file: str | None, name: str) -> Callable[..., Any]:
    """Return the function `name` of a module, imported by its name or else from its file.

    Raises: what importing the module raises.
    """
    found: Any = _import(module, file)
    for part in name.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function


def _import(module: str, file: str | None) -> Any:
    if module == "__main__":
        # The worker's main program, which must not run as such a second time.
        module = "__mp_main__"
    if module in sys.modules:
        return sys.modules[module]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        if file is None:
            raise
    spec = importlib.util.spec_from_file_location(module, file)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"cannot import {module!r} from {file!r}")
    made = importlib.util.module_from_spec(spec)
    sys.modules[module] = made
    spec.loader.exec_module(made)
    return made


async def _no_attempts(_: Attempt) -> None:
    """What the event loop of a child runs besides its one attempt: nothing."""


def main() -> None:
    """Serve the worker at the other end of the socket whose number is the argument."""
    # The worker decides when its children end: a Ctrl-C, or a stop of the whole group, is for
    # the worker, which lets running activities finish first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(handlers=[logs.handler(sys.argv[3])], level=int(sys.argv[2]))
    ChildProgram(Connection(int(sys.argv[1]))).serve()
