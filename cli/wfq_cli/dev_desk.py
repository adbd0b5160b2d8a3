"""What `wfq dev` does while it runs: looks after its processes, and reloads on change."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import click

from wfq.logs import plain_text
from wfq_cli import exits
from wfq_cli.children import Child
from wfq_cli.reload import SourceWatch, syntax_error
from wfq_cli.session import Session

#: Seconds between two looks at files and processes.
_BEAT_S = 0.4
#: Seconds without a further change before a reload: editors and git write several files.
_SETTLE_S = 0.15
#: Seconds that running activities get when the code is reloaded or the command ends.
_DRAIN_S = 3.0
#: Seconds that a process gets beyond that before it is killed.
_MARGIN_S = 5.0
#: Seconds before a process that crashed is started again.
_PAUSE_S = 1.0
#: Seconds that importing the app may take when it is tried.
_TRY_S = 60.0

_COLOURS = {"worker": "cyan", "api": "magenta", "listener": "blue", "dev": "green"}


class Ending(Protocol):
    """Tells when the command is to end."""

    def wait(self, timeout_s: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: the app as it was named, and the folders whose changes matter."""

    app: str | None
    folders: Sequence[Path]
    reload: bool = True


class Printer:
    """Prints the lines of several processes, each behind its name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def line(self, name: str, text: str) -> None:
        """Print one line of a process to stderr."""
        label = click.style(f"{name:<8}", fg=_COLOURS.get(name), bold=name == "dev")
        with self._lock:
            # Threads other than the command's own know nothing of its context.
            click.echo(f"{label} {text}", err=True, color=exits.emphasis())

    def say(self, text: str) -> None:
        """Print a line of our own."""
        self.line("dev", plain_text(text))


class Desk:
    """The processes of one `wfq dev`. `run` returns when the command is to end."""

    def __init__(self, session: Session, plan: Plan) -> None:
        self._session = session
        self._plan = plan
        self._printer = Printer()
        self._env = {
            "WFQ_LOG_FORMAT": "text",
            "WFQ_DRAIN_S": str(_DRAIN_S),
            **session.environment(),
        }
        app = [plan.app] if plan.app else []
        settings = session.settings
        self._commands: dict[str, list[str]] = {
            "worker": ["worker", *app, "--lint", "--processes", str(settings.processes)],
            "api": ["server", "--host", settings.api_host, "--port", str(settings.api_port)],
        }
        if settings.listeners:
            self._commands["listener"] = ["listen"]
        self._children: dict[str, Child] = {}
        self._start_at: dict[str, float] = {}
        #: Whether the app cannot be run as it is: then a change is waited for.
        self._broken = False

    def run(self, stop: Ending) -> int:
        """Run until the end is asked for, or something cannot work; returns the exit code."""
        self._printer.say(f"state: {self._session.place}; Ctrl-C ends it, the state stays")
        watch = SourceWatch(self._plan.folders)
        try:
            for name in self._commands:
                self._start(name)
            while not stop.wait(_BEAT_S):
                if self._plan.reload and (changed := self._settled(watch, stop)):
                    self._reload(changed)
                if not self._look_after():
                    return exits.USAGE
            self._printer.say("stopping")
            return exits.OK
        finally:
            self._stop_all()

    def _start(self, name: str) -> None:
        self._start_at.pop(name, None)
        self._children[name] = Child(
            name, self._commands[name], sink=self._printer.line, env=self._env
        )

    def _stop_all(self) -> None:
        for child in self._children.values():
            child.ask_to_stop()
        for child in self._children.values():
            child.stop(_DRAIN_S + _MARGIN_S)

    def _look_after(self) -> bool:
        """Start again what crashed; False when the command makes no sense without it."""
        now = time.monotonic()
        for name, child in list(self._children.items()):
            if child.exit_code is None:
                continue
            if name in self._start_at:
                if now >= self._start_at[name]:
                    self._start(name)
            elif child.exit_code == exits.USAGE:
                if name != "worker" or not self._plan.reload:
                    return False
                if not self._broken:
                    self._broken = True
                    self._printer.say("waiting for a change of the files")
            else:
                code = child.exit_code
                self._printer.say(f"{name} ended with exit code {code}; starting it again")
                self._start_at[name] = now + _PAUSE_S
        return True

    # --- Reloading ---

    def _settled(self, watch: SourceWatch, stop: Ending) -> list[Path]:
        """Return what changed, once nothing changes any more."""
        changed: set[Path] = set()
        while more := watch.changes():
            changed.update(more)
            if stop.wait(_SETTLE_S):
                break
        return sorted(changed)

    def _reload(self, changed: list[Path]) -> None:
        names = ", ".join(path.name for path in changed[:3]) + (", ..." if changed[3:] else "")
        problem = syntax_error(changed) or self._try_app()
        if problem is not None:
            goes_on = "" if self._broken else "; the old code goes on"
            self._printer.say(f"{names} changed, but {problem}{goes_on}")
            return
        self._printer.say(f"{names} changed: reloading")
        self._broken = False
        # One after the other: old and new code must not take turns at the same instances.
        self._children["worker"].stop(_DRAIN_S + _MARGIN_S)
        self._start("worker")
        if any(path.suffix != ".py" for path in changed):
            for name in self._commands.keys() - {"worker"}:
                self._children[name].stop(_MARGIN_S)
                self._start(name)

    def _try_app(self) -> str | None:
        """Return why the app cannot be loaded, in one line, None when it can."""
        command = [sys.executable, "-m", "wfq_cli", *self._commands["worker"], "--check"]
        try:
            done = subprocess.run(
                command,
                check=False,
                env={**os.environ, **self._env},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TRY_S,
            )
        except subprocess.TimeoutExpired:
            return f"it takes longer than {_TRY_S:g} s to import"
        if done.returncode == 0:
            return None
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return lines[-1].removeprefix("wfq: ") if lines else f"exit code {done.returncode}"
