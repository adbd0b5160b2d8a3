"""Which source files have changed, by looking at them now and then.

Polling is slower than the kernel's notices but works everywhere: containers, network mounts,
editors that replace files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Folders that hold no source of the app, however deep.
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "dist", "build"})
_SUFFIXES = (".py", ".toml", ".env")

#: Time of the last change and size, as `os.stat` gives them.
Stamp = tuple[int, int]


class SourceWatch:
    """Remembers the Python and settings files below some folders; `changes` tells what changed."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self._seen = dict(self._look())

    def changes(self) -> list[Path]:
        """Return the files that were changed, made or removed since the last call, sorted."""
        before, self._seen = self._seen, dict(self._look())
        paths = before.keys() | self._seen.keys()
        return sorted(path for path in paths if before.get(path) != self._seen.get(path))

    def _look(self) -> Iterator[tuple[Path, Stamp]]:
        for folder in self._folders:
            for parent, folders, files in os.walk(folder):
                folders[:] = [f for f in folders if not _is_skipped(parent, f)]
                for name in files:
                    if name.endswith(_SUFFIXES):
                        path = Path(parent, name)
                        stamp = _stamp(path)
                        if stamp is not None:
                            yield path, stamp


def _is_skipped(parent: str, name: str) -> bool:
    """Whether a folder is generated, hidden or a virtual environment."""
    hidden = name in _SKIPPED or name.startswith(".")
    return hidden or Path(parent, name, "pyvenv.cfg").exists()


def _stamp(path: Path) -> Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        # Removed between the listing and now, as editors do when they save.
        return None
    return stat.st_mtime_ns, stat.st_size


def syntax_error(paths: Iterable[Path]) -> str | None:
    """Return the first syntax error in these files as one line, None when all can be compiled."""
    for path in paths:
        if path.suffix != ".py" or not path.exists():
            continue
        try:
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        except SyntaxError as exc:
            return f"{path.name}:{exc.lineno}: {exc.msg}"
        except ValueError as exc:
            return f"{path.name}: {exc}"
    return None
