"""Which pages are made from the code, and by what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.docs.markdown import DOCS
from tests.docs.references import command_line, http, python, settings

GENERATED: dict[Path, Callable[[], str]] = {
    DOCS / "cli.md": command_line.page,
    DOCS / "http.md": http.page,
    DOCS / "python.md": python.page,
    DOCS / "settings.md": settings.page,
}
