"""``--follow``: the events of an instance on stderr as they are recorded."""

from __future__ import annotations

import sys
import time

import click

from wfq.errors import WaitTimeout
from wfq.logs import plain_text
from wfq_cli import events, render
from wfq_cli.endings import State
from wfq_cli.session import Session

#: Seconds between two looks; a person does not see the difference to less.
_BEAT_S = 0.2
#: Between looks that take long (a large history), so much longer than one of them.
_REST = 5


def follow(session: Session, instance_id: str, timeout_s: float | None) -> State:
    """Show events until the instance has ended; return its final state.

    Raises: WaitTimeout, InstanceNotFound.
    """
    end = None if timeout_s is None else time.monotonic() + timeout_s
    shown = _Shown()
    while True:
        began = time.monotonic()
        # The state first: an instance that it calls ended has all its events in the history.
        state = session.state(instance_id)
        shown.show([event.to_json() for event in session.client.get_workflow_history(instance_id)])
        if state.runtime_status.is_final:
            return state
        shown.status(state)
        if end is not None and time.monotonic() > end:
            raise WaitTimeout(
                f"instance {instance_id!r} is still {state.runtime_status.name} "
                f"after {timeout_s:g} s; 'wfq wait {instance_id}' waits on"
            )
        time.sleep(max(_BEAT_S, _REST * (time.monotonic() - began)))


class _Shown:
    """Remembers what was printed; numbers begin again with each generation."""

    def __init__(self) -> None:
        self._began = ""
        self._next = 0
        self._status = ""

    def show(self, rows: list[render.Row]) -> None:
        """Print the events that are new."""
        began = str(rows[0]["timestamp"]) if rows else self._began
        if began != self._began:
            self._began, self._next = began, 0
        for row in rows[self._next :]:
            line = events.line(row)
            if sys.stderr.isatty():
                line = render.clip(line, render.terminal_width())
            click.echo(line, err=True)
        self._next = max(self._next, len(rows))

    def status(self, state: State) -> None:
        """Say why nothing happens, once."""
        name = state.runtime_status.name
        if name in ("SUSPENDED", "STALLED") and name != self._status:
            reason = f": {state.stalled_reason}" if state.stalled_reason else ""
            click.echo(f"{name}{plain_text(reason)}", err=True)
        self._status = name
