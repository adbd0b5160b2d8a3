"""A part of the terminal that is drawn again and again."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

import click

from wfq_cli import exits


class Screen:
    """Draws lines in the place of those drawn before.

    Where stdout is no terminal, or one without escape codes, each drawing follows the one before.
    """

    def __init__(self) -> None:
        self._drawn = 0
        self._before: list[str] = []

    def show(self, lines: Sequence[str]) -> None:
        """Draw lines; what does not fit on the terminal's height is left out at the end."""
        shown = list(lines)
        if not (sys.stdout.isatty() and exits.coloured()):
            if shown != self._before:
                click.echo("\n".join(shown))
            self._before = shown
            return
        height = shutil.get_terminal_size().lines - 2
        if len(shown) > height:
            shown = [*shown[: height - 1], f"… and {len(lines) - height + 1} more lines"]
        # Up to the first line, then clear what is below: a shorter picture leaves no rest.
        start = f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""
        click.echo(start + "\n".join(shown))
        self._drawn = len(shown)
