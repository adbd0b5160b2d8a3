"""What `wfq demo` prints: one line a result, and on a terminal a line that lives until then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from wfq_cli import exits, render

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_TITLE_WIDTH = 21


class WrongAnswer(Exception):
    """A pattern did not give the answer that it must give; the message says what came instead."""


def expect(found: object, wanted: object, what: str) -> None:
    """Raise WrongAnswer unless `found` equals `wanted`."""
    if found != wanted:
        raise WrongAnswer(f"{what} is {found!r}, expected {wanted!r}")


class Progress:
    """The line of a scene that is running; results may be printed above it."""

    def __init__(self, screen: Screen, title: str) -> None:
        self._screen = screen
        self._title = title
        self._text = ""
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def say(self, text: str) -> None:
        """Show what is going on; nothing of it stays."""
        self._text = text

    def result(self, text: str, *, title: str | None = None) -> None:
        """Print a line that stays. The first of a scene carries its title."""
        # Only the first line of a scene says how long it took.
        took = f"{time.monotonic() - self._began:.1f}s" if self._title else ""
        shown = self._title if title is None else title
        self._title = ""
        self._screen.print_result(True, shown, text, took)

    def fail(self, text: str) -> None:
        """Print that the scene went wrong."""
        self._screen.print_result(False, self._title, text, "")

    def start(self) -> None:
        """Begin to redraw the line, where somebody can see it."""
        if self._screen.live:
            self._thread = threading.Thread(target=self._spin, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take the line away."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._screen.clear()

    def _spin(self) -> None:
        turn = 0
        while not self._stop.wait(0.08):
            mark = click.style(_SPINNER[turn % len(_SPINNER)], fg="cyan")
            self._screen.redraw(mark, self._title, self._text)
            turn += 1


class Screen:
    """Prints to stdout. `live` is whether lines may be drawn over."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty() and exits.coloured()
        # What a terminal of another encoding cannot show is spelled out.
        fancy = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        self._good, self._bad = ("✓", "✗") if fancy else ("ok", "WRONG")
        self._lock = threading.Lock()
        self._drawn = False

    def title(self, *lines: str) -> None:
        """Print the heading."""
        click.secho(f"\n {lines[0]}", bold=True)
        for line in lines[1:]:
            click.secho(f" {line}", dim=True)
        click.echo()

    def text(self, *lines: str) -> None:
        """Print plain lines."""
        for line in lines:
            click.echo(f" {line}".rstrip())

    @contextmanager
    def scene(self, title: str) -> Iterator[Progress]:
        """Show that something runs until the block ends."""
        progress = Progress(self, title)
        progress.start()
        try:
            yield progress
        finally:
            progress.stop()

    def print_result(self, good: bool, title: str, text: str, took: str) -> None:
        """Print one line that stays."""
        mark = click.style(self._good, fg="green") if good else click.style(self._bad, fg="red")
        head = f" {mark} {click.style(title.ljust(_TITLE_WIDTH), bold=True)}"
        with self._lock:
            self._erase()
            click.echo(f"{head} {click.style(took.rjust(5), dim=True)}  {text}")

    def redraw(self, mark: str, title: str, text: str) -> None:
        """Draw over the line of the running scene."""
        room = render.terminal_width() - _TITLE_WIDTH - 14
        line = f" {mark} {title.ljust(_TITLE_WIDTH)}        {render.clip(text, max(room, 10))}"
        with self._lock:
            self._erase()
            click.echo(line, nl=False)
            sys.stdout.flush()
            self._drawn = True

    def clear(self) -> None:
        """Take the line of the running scene away."""
        with self._lock:
            self._erase()
            sys.stdout.flush()

    def _erase(self) -> None:
        if self._drawn:
            click.echo("\r\x1b[2K", nl=False)
            self._drawn = False

    def commands(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print commands to type next and what each is for."""
        width = max(len(command) for command, _ in rows)
        for command, purpose in rows:
            padded = click.style(command.ljust(width), fg="cyan")
            click.echo(f"   {padded}   {click.style(purpose, dim=True)}")
