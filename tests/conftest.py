"""Fixtures for all tests: servers of our own, and processes that end with the test.

``redis_url``       each test on fakeredis, the embedded Valkey and redis-server 7
``real_redis_url``  each test on the two real servers
``valkey_url``      the embedded Valkey alone (tests of processes, where one server is enough)
``start_server``    a server for this test alone, which it may kill, stop and fill
``any_url``         one kind: the embedded Valkey, or what ``--on`` names
``sentinel_group``, ``cluster``  groups of servers, see `tests.groups`
``processes``       starts processes and ends them; their logs are shown when the test fails
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.groups import ClusterGroup, SentinelGroup
from tests.known_keys import strangers
from tests.servers import WHY_SKIPPED, Kind, LocalServer, Processes, find_binary, is_setting

_processes_key = pytest.StashKey[Processes]()


@pytest.fixture
def anyio_backend() -> str:
    """Run `@pytest.mark.anyio` tests on asyncio only."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in filter(is_setting, list(os.environ)):
        monkeypatch.delenv(name)


def pytest_configure() -> None:
    # What a shell starts in the background ignores it, and so would every process of the tests.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--on", default="", choices=("valkey", "redis", "sentinel", "cluster"),
        help="what the end-to-end and conformance tests run on; the default is the embedded Valkey",
    )  # fmt: skip


Group = TypeVar("Group", SentinelGroup, ClusterGroup)


class _SharedServers:
    """One server of each kind for a whole session (each xdist worker has a session)."""

    def __init__(self) -> None:
        self._running: dict[Kind, LocalServer] = {}
        self._groups: list[SentinelGroup | ClusterGroup] = []

    def group(self, kind: type[Group]) -> Group:
        """Return the running group of that kind without data, or skip the test."""
        binary: Kind = "valkey" if find_binary("valkey") else "redis"
        if find_binary(binary) is None:
            pytest.skip(WHY_SKIPPED[binary])
        found = [group for group in self._groups if isinstance(group, kind)]
        if not found:
            found.append(kind(binary))
            self._groups.append(found[0])
        found[0].flush()
        return found[0]

    def empty(self, kind: Kind) -> LocalServer:
        """Return the running server of that kind without data, or skip the test."""
        if find_binary(kind) is None:
            pytest.skip(WHY_SKIPPED[kind])
        if kind not in self._running:
            self._running[kind] = LocalServer(kind)
        self._running[kind].flush()
        return self._running[kind]

    def url(self, kind: str) -> Iterator[str]:
        """Yield the URL of an empty server or group of that kind."""
        match kind:
            case "sentinel":
                yield self.group(SentinelGroup).url
            case "cluster":
                yield self.group(ClusterGroup).url
            case "valkey" | "redis":
                yield from _checked(self.empty(kind))

    def close(self) -> None:
        for server in (*self._running.values(), *self._groups):
            server.close()


@pytest.fixture(scope="session")
def _shared_servers() -> Iterator[_SharedServers]:
    servers = _SharedServers()
    yield servers
    servers.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run storage tests on every kind of server, or on the one that ``--on`` names."""
    on = metafunc.config.getoption("--on")
    for name, usual in (
        ("redis_url", ["memory", "valkey", "redis"]),
        ("real_redis_url", ["valkey", "redis"]),
    ):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, [on] if on else usual, indirect=True)


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, _shared_servers: _SharedServers) -> Iterator[str]:
    """The URL of an empty store: fakeredis (a name of its own), Valkey, redis-server."""
    if request.param == "memory":
        yield f"memory://{uuid.uuid4().hex}"
    else:
        yield from _shared_servers.url(request.param)


@pytest.fixture
def real_redis_url(
    request: pytest.FixtureRequest, _shared_servers: _SharedServers
) -> Iterator[str]:
    """The URL of an empty real server: Valkey, redis-server."""
    yield from _shared_servers.url(request.param)


@pytest.fixture
def valkey_url(_shared_servers: _SharedServers) -> Iterator[str]:
    """The URL of an empty embedded Valkey."""
    yield from _checked(_shared_servers.empty("valkey"))


@pytest.fixture
def sentinel_group(_shared_servers: _SharedServers) -> SentinelGroup:
    """A running Sentinel group without data, for tests that break nothing."""
    return _shared_servers.group(SentinelGroup)


@pytest.fixture
def cluster(_shared_servers: _SharedServers) -> ClusterGroup:
    """Three running masters of a cluster without data, for tests that break nothing."""
    return _shared_servers.group(ClusterGroup)


@pytest.fixture
def any_url(request: pytest.FixtureRequest, _shared_servers: _SharedServers) -> Iterator[str]:
    """The URL of an empty store of the kind that ``--on`` names."""
    yield from _shared_servers.url(request.config.getoption("--on") or "valkey")


def _checked(server: LocalServer) -> Iterator[str]:
    """Yield the URL; afterwards only keys that `wfq.storage.keys` lists may be there.

    With TEST_RESTRICTED_USER in the environment it is that of a user with few rights.
    """
    yield server.restricted_url if os.environ.get("TEST_RESTRICTED_USER") else server.url
    assert strangers(server.url) == []


@pytest.fixture
def start_server() -> Iterator[Callable[..., LocalServer]]:
    """Start servers for this test alone: ``start_server("valkey", "--appendonly", "yes")``."""
    started: list[LocalServer] = []

    def start(kind: Kind = "valkey", *options: str) -> LocalServer:
        if find_binary(kind) is None:
            pytest.skip(WHY_SKIPPED[kind])
        started.append(LocalServer(kind, options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes]:
    """Start processes that end with the test; see `tests.servers.Processes`."""
    started = Processes(tmp_path / "processes")
    request.node.stash[_processes_key] = started
    yield started
    started.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the test's processes wrote, where the test failed."""
    report = yield
    started = item.stash.get(_processes_key, None)
    if started is not None and report.failed:
        for process in started.spawned:
            report.sections.append((f"log of {process.log_path.name}", process.log()[-20_000:]))
    return report
