"""Signals as bytes to wait for, in the main thread.

Python runs its handlers in the main thread only, and that thread may sleep in a lock while
the kernel hands the signal to another one: seen after SIGSTOP and SIGCONT. The wake-up
descriptor is written to by the C handler itself, whichever thread it runs in.
"""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: What `Inbox.tell` says without naming a signal.
NO_SIGNAL = 0


class Inbox:
    """Signals, and words of other threads, in the order in which they came."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Return the next signal's number, or NO_SIGNAL; None after `timeout_s`."""
        ready, _, _ = select.select([self._ours], [], [], timeout_s)
        return self._ours.recv(1)[0] if ready else None

    def tell(self, number: int = NO_SIGNAL) -> None:
        """Wake the waiting thread, from any thread, as if `number` had arrived."""
        try:
            self._theirs.send(bytes([number]))
        except OSError:
            pass  # closed, or full of others: nobody waits, or it wakes anyway

    def fileno(self) -> int:
        """The descriptor that the interpreter writes signals to."""
        return self._theirs.fileno()

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


@contextmanager
def signals_into_inbox(*numbers: signal.Signals) -> Iterator[Inbox]:
    """Send these signals to an inbox instead of what they did; in the main thread only."""
    inbox = Inbox()
    before = {number: signal.signal(number, _ignore) for number in numbers}
    fd_before = signal.set_wakeup_fd(inbox.fileno(), warn_on_full_buffer=False)
    try:
        yield inbox
    finally:
        signal.set_wakeup_fd(fd_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        inbox.close()


def _ignore(_: int, __: FrameType | None) -> None:
    """The inbox has it already."""
