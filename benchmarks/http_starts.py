"""Starts over HTTP: 10,000 requests by `wrk` with keep-alive, beside an empty Starlette route.

``python -m benchmarks.http_starts`` runs an API server on a Redis of its own and an empty route
(uvicorn as it comes, answering 202) in turn, with the same client, and tells both rates. Each
start has an id of its own; afterwards every one of them must be there. Where `wrk` is missing, a
client of ours on asyncio takes its place, which is slower than both servers: it says so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.server import RedisMeter, start_server
from tests.servers import Processes, poll

REQUESTS = 10_000
CONNECTIONS = 64
ROUNDS = 3

BODY = '{"item": "lathe", "total": 9000}'

#: Sends exactly `N` starts and ends when as many were answered: wrk by itself goes on for a set
#: time. A connection that has no more to send while others wait asks for /livez, which does not
#: count.
_WRK = """
local ffi = require("ffi")
ffi.cdef("typedef struct {long s; long us;} wfq_time; int gettimeofday(wfq_time *t, void *zone);")
local function now()
  local t = ffi.new("wfq_time")
  ffi.C.gettimeofday(t, nil)
  return tonumber(t.s) + tonumber(t.us) / 1e6
end
-- wrk asks for one request in advance, to look at it, which is never sent.
local sent, answered, wrong, begun, N = -1, 0, 0, 0, %(requests)d
local start = {["Content-Type"] = "application/json"}
function request()
  if sent < 0 or sent >= N then
    if sent < 0 then sent = 0 end
    return wrk.format("GET", "/livez")
  end
  if sent == 0 then begun = now() end
  sent = sent + 1
  return wrk.format("POST", "%(path)s" .. sent, start, '%(body)s')
end
function response(status, headers, body)
  if status == 202 then answered = answered + 1
  elseif status ~= 200 then wrong = wrong + 1 end
  if answered + wrong >= N then
    local micros = (now() - begun) * 1e6
    io.write(string.format("RESULT %%d %%d %%d %%d\\n", sent, answered, wrong, micros))
    io.flush()
    os.exit(0)
  end
end
"""


@dataclass(frozen=True, slots=True)
class Round:
    """What one run of the client saw; `seconds` from the first request to the last answer."""

    sent: int
    answered: int
    wrong: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.answered / self.seconds


Client = Callable[[int, str, int], Round]


def by_wrk(port: int, path: str, requests: int) -> Round:
    """Send the requests with wrk, over `CONNECTIONS` connections that are kept alive."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "starts.lua")
        script.write_text(_WRK % {"requests": requests, "path": path, "body": BODY})
        command = [
            "wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", "120s",
            "--timeout", "60s", "--script", str(script), f"http://127.0.0.1:{port}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    found = re.search(r"^RESULT (\d+) (\d+) (\d+) (\d+)$", done.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"wrk did not get through:\n{done.stdout}{done.stderr}")
    sent, answered, wrong, micros = map(int, found.groups())
    return Round(sent, answered, wrong, micros / 1e6)


def by_asyncio(port: int, path: str, requests: int) -> Round:
    """The same by a client of ours."""
    return asyncio.run(_send(port, path, requests))


async def _send(port: int, path: str, requests: int) -> Round:
    numbers = iter(range(1, requests + 1))
    counts = {"answered": 0, "wrong": 0}

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            writer.write(
                f"POST {path}{number} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
                f"{BODY}".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            counts["answered" if head.startswith(b"HTTP/1.1 202") else "wrong"] += 1
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return Round(requests, counts["answered"], counts["wrong"], time.perf_counter() - begun)


def choose_client() -> tuple[str, Client]:
    """wrk where it is installed (apt-get install wrk)."""
    return ("wrk", by_wrk) if shutil.which("wrk") else ("asyncio", by_asyncio)


def serve_empty(port: int) -> None:
    """Serve one route that does nothing, by uvicorn as it comes."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def empty(request: Request) -> Response:
        return Response(status_code=202 if request.method == "POST" else 200)

    app = Starlette(routes=[Route("/{rest:path}", empty, methods=["GET", "POST"])])
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def measure(requests: int = REQUESTS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Run both servers and return the figures. Raises: AssertionError where a start was lost."""
    name, client = choose_client()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = start_server()
        stack.callback(server.close)
        processes = Processes(directory)
        stack.callback(processes.close)
        api, empty = free_port(), free_port()
        env = {"WFQ_REDIS_URL": server.url}
        processes.wfq("server", "--port", str(api), env=env)
        processes.python("-m", "benchmarks.http_starts", "--serve-empty", str(empty), cwd=Path())
        for port in (api, empty):
            poll(lambda port=port: _answers(port), 20)  # type: ignore[misc]
        meter = RedisMeter(server.url)
        stack.callback(meter.close)
        starts, nothing = [], []
        client(api, _path("warm"), min(requests, 500))
        client(empty, "/", min(requests, 500))
        before = meter.count("RUNNING")
        for number in range(rounds):
            nothing.append(client(empty, "/start?instanceID=", requests))
            starts.append(client(api, _path(f"r{number}"), requests))
        there = meter.count("RUNNING") - before
    for one in (*starts, *nothing):
        assert (one.sent, one.answered, one.wrong) == (requests, requests, 0), one
    assert there == requests * rounds, f"{requests * rounds} were accepted, {there} are there"
    return {
        "client": name,
        "requests": requests,
        "connections": CONNECTIONS,
        "starts": [asdict(one) for one in starts],
        "empty": [asdict(one) for one in nothing],
        "starts_a_second": median(one.rate for one in starts),
        "empty_a_second": median(one.rate for one in nothing),
        "lost": 0,
    }


def _path(prefix: str) -> str:
    return f"/v1.0/workflows/dapr/order/start?instanceID={prefix}-"


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def describe(found: dict[str, Any]) -> str:
    """The figures in one line."""
    starts, empty = found["starts_a_second"], found["empty_a_second"]
    return (
        f"{found['requests']:,} starts by {found['client']} over {found['connections']} "
        f"connections: {starts:,.0f}/s, none lost; an empty Starlette route {empty:,.0f}/s "
        f"(ratio {starts / empty:.2f})"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--serve-empty", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve_empty is not None:
        serve_empty(given.serve_empty)
        return 0
    print(machine.line(machine.describe()), file=sys.stderr)
    found = measure(given.requests, given.rounds)
    print(json.dumps(found) if given.json else describe(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
