"""A path to the embedded server's socket that fits into a socket address."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from wfq.errors import ConfigurationError

#: Bytes of a socket's path, without the closing zero.
MAX_BYTES = 107 if sys.platform.startswith("linux") else 103


def reachable(socket: Path) -> Path:
    """Return `socket`, or where its path is too long a short way to it.

    The short way is a link to the socket's directory, in a directory of the temporary files that
    belongs to this user alone.

    Raises: ConfigurationError when even that is too long, or the place belongs to someone else.
    """
    if _fits(socket):
        return socket
    links = Path(tempfile.gettempdir(), f"wfq-{os.getuid()}")
    link = links / hashlib.sha256(os.fsencode(socket.parent)).hexdigest()[:16]
    short = link / socket.name
    if not _fits(short):
        raise ConfigurationError(
            f"the path of {str(socket)!r} is too long for a socket; "
            "set WFQ_EMBEDDED_DIR to a shorter one, or WFQ_REDIS_URL"
        )
    _private(links)
    _point(link, socket.parent)
    return short


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_BYTES


def _private(directory: Path) -> None:
    """Make a directory that nobody else may write to. Raises: ConfigurationError."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError as exc:
        raise ConfigurationError(f"cannot make {str(directory)!r}: {exc.strerror}") from exc
    # Temporary directories are shared: another user could have made it first.
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not own or stat.S_IMODE(found.st_mode) & 0o022:
        raise ConfigurationError(
            f"{str(directory)!r} belongs to someone else; set TMPDIR to a directory of your own"
        )


def _point(link: Path, target: Path) -> None:
    """Make `link` point to `target`, also when others do the same at this moment."""
    try:
        if os.path.lexists(link) and os.readlink(link) == str(target):
            return
        fresh = link.with_name(f"{link.name}.{os.getpid()}.{os.urandom(4).hex()}")
        fresh.symlink_to(target)
        fresh.replace(link)
    except OSError as exc:
        raise ConfigurationError(f"cannot make the link {str(link)!r}: {exc.strerror}") from exc
