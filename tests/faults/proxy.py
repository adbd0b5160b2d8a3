"""A proxy on the way to Redis that loses, holds, delays, tears and refuses, on demand.

It knows nothing of the protocol: it works on the chunks that arrive, which for a client that
sends one command at a time are whole requests and replies. Each client role gets a proxy of its
own, so that a fault can strike one worker and spare the others.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

#: Bytes moved at once.
CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to traffic. Probabilities are per chunk.

    drop_reply: the request was carried out, its reply is lost with the connection.
    drop_request: the connection is lost before the request arrives.
    swallow: the request is carried out, and the connection stays silent for ever.
    tear: half of a reply arrives, then the connection is lost.
    delay_s: each reply comes so much later.
    hold: nothing moves, in either direction, until the weather changes; then it arrives late.
    refuse: new connections are closed at once.
    """

    drop_reply: float = 0.0
    drop_request: float = 0.0
    swallow: float = 0.0
    tear: float = 0.0
    delay_s: float = 0.0
    hold: bool = False
    refuse: bool = False


CLEAR = Weather()


class ProxyLoop:
    """The thread that moves the bytes of all proxies of a test."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        """Drop every connection and end the thread."""
        self.run(self._cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _cancel(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Proxy:
    """Listens on a unix socket, or on a TCP port of loopback, and passes on to `target`.

    `target` is the path of the server's unix socket. `url` is what clients are given; `password`
    goes into it.
    """

    def __init__(
        self,
        loop: ProxyLoop,
        target: str,
        *,
        tcp: bool = False,
        password: str = "",
        seed: object = 0,
    ) -> None:
        self._loop = loop
        self._target = target
        self._rng = Random(f"proxy {seed}")
        self._weather = CLEAR
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        #: Chunks that were lost, torn, swallowed or sent into a lost connection.
        self.strikes = 0
        user = f":{password}@" if password else ""
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        if tcp:
            self._socket = socket.create_server(("127.0.0.1", 0))
            self.url = f"redis://{user}127.0.0.1:{self._socket.getsockname()[1]}/0"
        else:
            self._directory = tempfile.TemporaryDirectory(prefix="wfq-proxy-")
            path = Path(self._directory.name, "p")
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.bind(str(path))
            self._socket.listen(128)
            self.url = f"unix://{user}{path}"
        self._server = loop.run(self._listen())

    async def _listen(self) -> asyncio.Server:
        if self._socket.family == socket.AF_UNIX:
            return await asyncio.start_unix_server(self._serve, sock=self._socket)
        return await asyncio.start_server(self._serve, sock=self._socket)

    def set(self, weather: Weather) -> None:
        """Change the weather, for connections that exist and those to come."""
        self._loop.run(self._set(weather))

    def cut(self) -> None:
        """Lose every connection."""
        self._loop.run(self._cut())

    def close(self) -> None:
        """Stop listening and lose every connection."""
        self._loop.run(self._close())
        if self._directory is not None:
            self._directory.cleanup()

    @property
    def connections(self) -> int:
        return len(self._pairs)

    async def _set(self, weather: Weather) -> None:
        self._weather = weather
        if weather.hold:
            self._flowing.clear()
        else:
            self._flowing.set()

    async def _cut(self) -> None:
        for pair in list(self._pairs):
            for writer in pair:
                writer.transport.abort()

    async def _close(self) -> None:
        self._server.close()
        await self._cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._weather.refuse:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, server_writer)
        self._pairs.add(pair)
        requests = asyncio.ensure_future(self._requests(reader, server_writer))
        replies = asyncio.ensure_future(self._replies(server_reader, writer))
        try:
            await asyncio.wait({requests, replies}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._pairs.discard(pair)
            for task in (requests, replies):
                task.cancel()
            await asyncio.gather(requests, replies, return_exceptions=True)
            for end in pair:
                end.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            await self._flowing.wait()
            if self._strikes(self._weather.drop_request):
                return
            writer.write(chunk)
            await writer.drain()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent = False
        while chunk := await reader.read(CHUNK):
            if self._weather.delay_s:
                await asyncio.sleep(self._weather.delay_s)
            await self._flowing.wait()
            weather = self._weather
            silent = silent or self._strikes(weather.swallow)
            if silent:
                continue
            if self._strikes(weather.drop_reply):
                return
            if self._strikes(weather.tear):
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                return
            writer.write(chunk)
            await writer.drain()

    def _strikes(self, probability: float) -> bool:
        hit = probability > 0 and self._rng.random() < probability
        self.strikes += hit
        return hit
