"""Ports of 127.0.0.1 for the servers that tests start.

A port that was free a moment ago may be taken when a server comes to listen on it: by another
test process that asked as well, or as the near end of somebody's connection. So processes claim
ports from each other, and look for them where systems do not pick near ends from.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

#: Below the range from which Linux (32768) and macOS (49152) take the near ends of connections.
_PORTS = range(20_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """Return a port that nobody listens on, and that no other gets while this process lives."""
    for port in random.sample(_PORTS, len(_PORTS)):
        if port not in _given and _claim(port) and _is_free(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port in {_PORTS}")


def free_ports(count: int) -> list[int]:
    """Return as many of them."""
    return [free_port() for _ in range(count)]


def _claim(port: int) -> bool:
    """Keep other processes off: each port is a byte of one file, locked until this process ends."""
    try:
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _claims() -> int:
    path = Path(tempfile.gettempdir()) / f"wfq-test-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a closed connection that lingers is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
