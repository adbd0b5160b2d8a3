"""Giving up workflow code that does not yield, in commands that run it here."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from wfq.core.ports import TurnAborted

#: Seconds that one replay, or one fuzzed run, may take unless a command says otherwise.
TIMEOUT_S = 20.0


@contextmanager
def given_up_after(seconds: float) -> Iterator[None]:
    """Raise TurnAborted in the main thread after `seconds`, and again each second after."""
    if threading.current_thread() is not threading.main_thread() or seconds <= 0:
        yield
        return

    def abort(_: int, __: FrameType | None) -> None:
        raise TurnAborted(f"the code ran longer than {seconds:g} s without waiting")

    before = signal.signal(signal.SIGALRM, abort)
    # Again and again: the workflow may swallow whatever is raised into it.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
