"""One embedded server for all that open a directory, for as long as one of them lives."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.embedded.conftest import watcher_of
from tests.servers import Processes, clean_env, command_client, find_binary, poll, runs
from wfq.storage.embedded import EmbeddedServer, ensure_server

#: Opens the store, says which server it got, and keeps it until its end of life.
USER = """
import sys, time
from pathlib import Path
import redis
from wfq.storage.embedded import ensure_server
server = ensure_server(Path(sys.argv[1]))
client = redis.Redis.from_url(server.url)
print("server", client.info("server")["process_id"], flush=True)
number = 0
while True:
    number = client.incr("counter")
    print("acknowledged", number, flush=True)
    time.sleep(0.005)
"""


def server_pid(server: EmbeddedServer) -> int:
    with command_client(server.url) as client:
        return int(client.info("server")["process_id"])


def acknowledged(log: str) -> int:
    """Return the last number that a USER was told."""
    # The last line may be cut off by the kill.
    return max(int(line.split()[1]) for line in log.split("\n")[:-1] if line.startswith("ackn"))


def test_the_last_user_ends_the_server_and_the_data_stays(store: Path) -> None:
    with ensure_server(store) as first, command_client(first.url) as client:
        pid = server_pid(first)
        client.set("kept", "yes")
    poll(lambda: not runs(pid))

    with ensure_server(store) as second, command_client(second.url) as client:
        assert client.get("kept") == b"yes"


def test_it_runs_privately_and_durably(store: Path) -> None:
    with ensure_server(store) as server, command_client(server.url) as client:
        set_ = {str(k): v for k, v in client.config_get("*").items()}
        socket = store / "wfq.sock"

        assert set_["port"] == "0"
        assert set_["appendonly"] == "yes"
        assert set_["appendfsync"] == "everysec"
        assert set_["save"] == ""
        assert set_["maxmemory-policy"] == "noeviction"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert stat.S_IMODE(store.stat().st_mode) == 0o700


def test_a_user_that_comes_while_another_is_there_gets_the_same_server(store: Path) -> None:
    with ensure_server(store) as first, ensure_server(store) as second:
        assert server_pid(first) == server_pid(second)

        pid = server_pid(first)
        first.release()
        first.release()

        assert server_pid(second) == pid


def test_a_command_that_follows_soon_finds_the_server_running(store: Path) -> None:
    with ensure_server(store) as first:
        pid = server_pid(first)

    with ensure_server(store) as second:
        assert server_pid(second) == pid


@pytest.mark.processes
def test_four_processes_at_the_same_moment_get_one_server(
    store: Path, processes: Processes
) -> None:
    users = [processes.python("-c", USER, store) for _ in range(4)]

    logs = [user.wait_for_log("acknowledged") for user in users]

    assert len({log.split()[1] for log in logs}) == 1
    pid = int(logs[0].split()[1])
    for user in users[:3]:
        user.kill()
    users[3].wait_for_log(f"acknowledged {acknowledged(users[3].log()) + 5}")
    assert runs(pid)
    users[3].kill()
    poll(lambda: not runs(pid))


@pytest.mark.processes
def test_a_killed_owner_leaves_no_orphan_and_loses_nothing_acknowledged(
    store: Path, processes: Processes
) -> None:
    owner = processes.python("-c", USER, store)
    pid = int(owner.wait_for_log("acknowledged 20\n").split()[1])

    # With everything in its process group, as a terminal or a job runner does it.
    os.killpg(owner.pid, signal.SIGKILL)
    owner.wait()

    poll(lambda: not runs(pid))
    with ensure_server(store) as server, command_client(server.url) as client:
        assert int(client.get("counter") or 0) >= acknowledged(owner.log())


@pytest.mark.processes
def test_the_owner_may_be_killed_while_others_work(store: Path, processes: Processes) -> None:
    owner = processes.python("-c", USER, store)
    pid = owner.wait_for_log("acknowledged").split()[1]
    other = processes.python("-c", USER, store)
    other.wait_for_log("acknowledged")

    owner.kill()

    other.wait_for_log(f"acknowledged {acknowledged(owner.log()) + 20}")
    assert other.log().split()[1] == pid


@pytest.mark.long
@pytest.mark.processes
@pytest.mark.slow
def test_opening_and_closing_all_the_time_loses_nothing(store: Path, processes: Processes) -> None:
    code = (
        "import random, sys, time\n"
        "from pathlib import Path\n"
        "import redis\n"
        "from wfq.storage import embedded\n"
        "for turn in range(6):\n"
        "    with embedded.ensure_server(Path(sys.argv[1])) as server:\n"
        "        with redis.Redis.from_url(server.url) as client:\n"
        "            client.incr('counter')\n"
        # Around the linger time: some meet a server that is just stopping.
        "    time.sleep(random.uniform(0.9, 1.2))\n"
    )
    users = [processes.python("-c", code, store) for _ in range(4)]

    codes = [user.wait(50) for user in users]

    assert codes == [0] * 4
    with ensure_server(store) as server, command_client(server.url) as client:
        assert client.get("counter") == b"24"


def test_threads_share_the_server_too(store: Path) -> None:
    servers: list[EmbeddedServer] = []
    threads = [
        threading.Thread(target=lambda: servers.append(ensure_server(store))) for _ in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({server_pid(server) for server in servers}) == 1
    assert len(servers) == 8
    for server in servers:
        server.release()


def test_a_forked_child_keeps_the_server_for_itself(store: Path) -> None:
    # In a process of its own: forking the test process would copy its threads' locks.
    code = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "import redis\n"
        "from wfq.storage.embedded import ensure_server\n"
        "server = ensure_server(Path(sys.argv[1]))\n"
        "if os.fork():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "time.sleep(3)\n"
        "print(redis.Redis.from_url(server.url).ping(), flush=True)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, store],
        capture_output=True,
        text=True,
        env=clean_env(),
    )

    assert ended.stdout == "True\n", ended.stderr


def test_the_supervisor_knows_none_of_our_secrets(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc")
    monkeypatch.setenv("WFQ_API_TOKEN", "hunter2-canary")

    with ensure_server(store) as server:
        for pid in (watcher_of(store), server_pid(server)):
            assert b"canary" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_redis_7_serves_as_well(store: Path) -> None:
    binary = find_binary("redis")
    if binary is None:
        pytest.skip("no redis-server >= 7.0 on PATH")

    with ensure_server(store, binary=binary) as server, command_client(server.url) as client:
        assert str(client.info("server")["redis_version"]).startswith(("7.", "8."))
        client.set("kept", "yes")
    poll(lambda: not runs(watcher_of(store)))

    with ensure_server(store, binary=binary) as server, command_client(server.url) as client:
        assert client.get("kept") == b"yes"
