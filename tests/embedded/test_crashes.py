"""The embedded server and its supervisor are killed, in every combination."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.embedded.conftest import watcher_of
from tests.embedded.test_sharing import USER, acknowledged, server_pid
from tests.servers import Processes, command_client, poll, runs
from wfq.errors import StorageUnavailable
from wfq.storage import embedded_watch
from wfq.storage.embedded import EmbeddedServer, ensure_server

pytestmark = pytest.mark.processes


def write_until_saved(server: EmbeddedServer, count: int) -> None:
    """Write, and wait until no write waits for a slow disk (see `server_arguments`)."""
    with command_client(server.url) as client:
        for number in range(count):
            client.set(f"key:{number}", number)

        def saved() -> bool:
            info = client.info("persistence")
            return not info["aof_buffer_length"] and not info["aof_pending_bio_fsync"]

        poll(saved)


def keys_left(server: EmbeddedServer) -> int:
    with command_client(server.url) as client:
        return int(client.dbsize())


def test_a_killed_server_comes_back_at_its_address(store: Path) -> None:
    with ensure_server(store) as server:
        write_until_saved(server, 200)
        pid = server_pid(server)

        os.kill(pid, signal.SIGKILL)

        poll(lambda: server_pid(server) != pid)
        assert keys_left(server) == 200


def test_a_killed_supervisor_is_replaced_and_two_servers_never_meet(store: Path) -> None:
    with ensure_server(store) as server:
        write_until_saved(server, 200)
        pid, watcher = server_pid(server), watcher_of(store)

        os.kill(watcher, signal.SIGKILL)

        poll(lambda: watcher_of(store) != watcher and server_pid(server) != pid)
        assert not runs(pid)
        assert keys_left(server) == 200


def test_everything_killed_at_once_starts_again_from_the_data(
    store: Path, processes: Processes
) -> None:
    owner = processes.python("-c", USER, store)
    pid = int(owner.wait_for_log("acknowledged 50\n").split()[1])

    for victim in (watcher_of(store), pid, owner.pid):
        os.kill(victim, signal.SIGKILL)
    owner.wait()

    assert (store / embedded_watch.SOCKET).is_socket()
    with ensure_server(store) as server, command_client(server.url) as client:
        # The disk may have been slow for the last one, see `server_arguments`.
        assert int(client.get("counter") or 0) >= acknowledged(owner.log()) - 1


def test_a_killed_supervisor_without_users_leaves_nothing(
    store: Path, processes: Processes
) -> None:
    owner = processes.python("-c", USER, store)
    pid = int(owner.wait_for_log("acknowledged").split()[1])

    os.kill(owner.pid, signal.SIGKILL)
    os.kill(watcher_of(store), signal.SIGKILL)
    owner.wait()

    if sys.platform.startswith("linux"):
        poll(lambda: not runs(pid))
    with ensure_server(store) as server:
        assert server_pid(server) != pid
    poll(lambda: not runs(pid))


def test_a_server_that_keeps_dying_is_given_up_by_its_supervisor(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ensure_server(store) as server:
        first = watcher_of(store)
        for _ in range(embedded_watch.RESTARTS + 1):
            pid = server_pid(server)
            os.kill(pid, signal.SIGKILL)
            poll(lambda pid=pid: server_pid(server) != pid)  # type: ignore[misc]

        # Its users have started another one.
        assert watcher_of(store) != first


def test_stale_files_of_a_dead_machine_do_not_matter(store: Path) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    poll(lambda: not runs(zombie.pid))
    store.mkdir()
    for name in ("wfq.lock", "watch.lock", "users.lock", "server.lock"):
        (store / name).write_text(f"{zombie.pid}\n")
    (store / embedded_watch.SOCKET).write_text("not even a socket")

    with ensure_server(store) as server:
        assert keys_left(server) == 0

    zombie.wait()


def test_a_hanging_server_is_one_clear_line(store: Path) -> None:
    with ensure_server(store) as server:
        pid = server_pid(server)
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(StorageUnavailable, match=r"does not answer; look at server\.log"):
                ensure_server(store, timeout_s=0.5)
            assert time.monotonic() - began < 5
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_ruined_append_only_file_is_one_clear_line(store: Path) -> None:
    with ensure_server(store) as server:
        write_until_saved(server, 5)
    watcher = watcher_of(store)
    poll(lambda: not runs(watcher))
    (saved,) = (store / "data" / "appendonlydir").glob("*.incr.aof")
    saved.write_bytes(b"*9\r\nnonsense\r\n" + saved.read_bytes())

    with pytest.raises(StorageUnavailable) as caught:
        ensure_server(store)

    assert "did not start: Bad file format reading the append only file" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_write_that_was_cut_off_is_dropped_and_the_rest_is_kept(store: Path) -> None:
    with ensure_server(store) as server:
        write_until_saved(server, 5)
    watcher = watcher_of(store)
    poll(lambda: not runs(watcher))
    (saved,) = (store / "data" / "appendonlydir").glob("*.incr.aof")
    saved.write_bytes(saved.read_bytes()[:-3])

    with ensure_server(store) as server:
        assert keys_left(server) == 4


def test_a_directory_removed_below_its_server_can_be_made_again(store: Path) -> None:
    import shutil

    with ensure_server(store) as lost:
        pid, watcher = server_pid(lost), watcher_of(store)
        shutil.rmtree(store)

        with ensure_server(store) as fresh:
            assert server_pid(fresh) != pid
            assert keys_left(fresh) == 0
    poll(lambda: not runs(watcher))
