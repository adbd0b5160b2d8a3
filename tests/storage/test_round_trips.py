"""round_trips.py: one command at a time over sockets of our own, and what ends one of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1

import pytest
import redis

from tests.servers import Kind, LocalServer, find_binary
from wfq.storage import round_trips
from wfq.storage.link import SyncLink
from wfq.storage.opening import open_client
from wfq.storage.rawsocket import WaitingSocket
from wfq.storage.round_trips import RoundTrips
from wfq.storage.scripts import Call, Script

WRITE = ("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", 1, "k")


class Site:
    """A server, a client of it, and its connections."""

    def __init__(self, kind: Kind) -> None:
        self.server = LocalServer(kind)
        self.client = open_client(self.server.url)
        self.trips = RoundTrips(self.client, 30.0)

    def connection(self) -> int:
        return int(self.trips.run(("CLIENT", "ID")))

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site("redis" if find_binary("redis") else "valkey")
    yield site
    site.close()


def test_one_connection_serves_who_comes_after_one_another(site: Site) -> None:
    first = site.connection()

    with pytest.raises(redis.ResponseError):
        site.trips.run(("NOSUCH",))
    site.trips.run(("SET", "big", b"x" * 300_000))

    assert len(site.trips.run(("GET", "big"))) == 300_000
    assert site.trips.run(("GET", "nothing")) is None
    assert site.connection() == first


def test_threads_have_one_each_and_their_own_replies(site: Site) -> None:
    together = threading.Barrier(8)

    def echo(number: int) -> bool:
        together.wait(30)
        return all(
            site.trips.run(("ECHO", f"{number}.{n}")) == f"{number}.{n}".encode()
            for n in range(200)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(echo, range(8)))


def test_a_connection_that_ended_while_nobody_used_it_is_not_noticed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_trips, "LOOK_AFTER_S", 0.0)
    first = site.connection()
    site.client.client_kill_filter(_id=str(first))

    assert site.connection() != first


def test_one_that_ends_in_use_is_an_error_and_not_used_again(site: Site) -> None:
    first = site.connection()
    site.client.client_kill_filter(_id=str(first))

    with pytest.raises(redis.ConnectionError):
        site.trips.run(("PING",))

    assert site.trips.run(("PING",)) == b"PONG"


def test_a_reply_that_came_too_late_is_nobodys(site: Site) -> None:
    trips = RoundTrips(site.client, 0.05)
    site.client.client_pause(300, all=True)

    with pytest.raises(redis.TimeoutError):
        trips.run(("ECHO", "late"))

    patient = RoundTrips(site.client, 30.0)
    assert [patient.run(("ECHO", "next")), patient.run(("ECHO", "last"))] == [b"next", b"last"]
    # Only now, when the server answers again.
    assert trips.run(("ECHO", "mine")) == b"mine"


def test_what_interrupts_a_wait_leaves_no_reply_behind(site: Site) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupted):
            site.trips.run(("BLPOP", "nothing", 30))
    finally:
        signal.signal(signal.SIGALRM, before)

    assert site.trips.run(("ECHO", "mine")) == b"mine"


def test_a_server_that_became_a_replica_is_asked_over_a_new_connection(site: Site) -> None:
    first = site.connection()
    site.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(redis.exceptions.ReadOnlyError):
            site.trips.run((*WRITE, "v"))
    finally:
        site.client.execute_command("REPLICAOF", "NO", "ONE")

    assert site.connection() != first
    assert site.trips.run((*WRITE, "v")) == b"OK"


FORK = """
import os, sys
from wfq.storage.opening import open_client
from wfq.storage.round_trips import RoundTrips
from wfq.storage.scripts import Call, Script
trips = RoundTrips(open_client(sys.argv[1]), 30.0)
first = trips.run(("CLIENT", "ID"))
if not os.fork():
    assert trips.run(("CLIENT", "ID")) != first
    assert trips.run(("ECHO", "child")) == b"child"
    os._exit(0)
_, status = os.wait()
assert trips.run(("CLIENT", "ID")) == first
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_parent_and_child_of_a_fork_have_connections_of_their_own(site: Site) -> None:
    # In a process of its own: this one may have threads, which no fork likes.
    subprocess.run([sys.executable, "-c", FORK, site.server.url], check=True, timeout=30)


@pytest.mark.parametrize("managed", [False, True])
def test_where_redis_py_keeps_the_socket_it_gets_the_connection_back(
    site: Site, *, managed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not managed:
        # As for a socket with TLS.
        monkeypatch.setattr(WaitingSocket, "of", lambda *_: None)
    trips = RoundTrips(site.client, 30.0, managed=managed)

    ids = {int(trips.run(("CLIENT", "ID"))) for _ in range(3)}

    assert len(ids) == 1
    assert not trips._idle


SAID = Call(Script("one", "return 1", sha1(b"return 1").hexdigest()), [], [], bool)


def used_at_once(url: str, count: int) -> SyncLink:
    """A link that as many threads have just used at once."""
    link = SyncLink(url)
    trips = link._round_trips
    assert trips is not None
    for line in [trips._take() for _ in range(count)]:
        trips._keep(line)
    return link


def test_a_call_outlasts_a_server_that_ended_every_connection_just_now(site: Site) -> None:
    link = used_at_once(site.server.url, 8)
    site.client.client_kill_filter(_type="normal", skipme=True)

    assert link.run(SAID)

    link.close()


def test_calls_that_share_a_trip_get_a_connection_where_few_are_allowed(site: Site) -> None:
    mark = "&" if "?" in site.server.url else "?"
    link = used_at_once(f"{site.server.url}{mark}max_connections=2", 2)

    assert link.run_many([SAID, SAID]) == [True, True]

    link.close()
