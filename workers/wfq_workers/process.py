"""One worker process: any loops together, signals, an orderly end.

The first SIGTERM or SIGINT drains: every loop takes no more work, finishes what it has within
the grace period and gives up the rest, and the process exits with 0. The second ends the
process at once; what it held comes back when its leases run out.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Protocol

log = logging.getLogger("wfq.worker")

#: Set by a supervisor for its child: the random part of the child's worker id.
TOKEN_VARIABLE = "WFQ_WORKER_TOKEN"
#: Set by a supervisor for its child: the number of a pipe that closes when it is gone.
TETHER_VARIABLE = "WFQ_WORKER_TETHER"
#: Seconds beyond the grace period that the loops get to report, hand back and leave.
MARGIN_S = 20.0
#: Exit status of a worker whose loops did not end in time.
STUCK_STATUS = 1

_NOT_IN_HOST = re.compile(r"[^A-Za-z0-9.]+")


class Loop(Protocol):
    """A part of a worker, with threads of its own."""

    def start(self) -> None:
        """Begin to work; returns at once."""

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until it works; False if it does not within `timeout_s`."""

    def stop(self, grace_s: float) -> None:
        """Take no more work, finish within `grace_s`, give up the rest, and return."""


#: What wakes the main thread: a signal, or None when all loops have stopped.
_Arrivals = SimpleQueue[signal.Signals | None]


def worker_id_of(pid: int, token: str) -> str:
    """Return the id of the worker process `pid` on this host: ``host-pid-token``."""
    host = _NOT_IN_HOST.sub("-", socket.gethostname())[:60].strip("-")
    return f"{host or 'host'}-{pid}-{token}"


def new_worker_id() -> str:
    """Return an id for this process that no other worker has, or ever will have.

    The first one made in a supervisor's child is the one that the supervisor expects.
    """
    token = os.environ.pop(TOKEN_VARIABLE, "")
    return worker_id_of(os.getpid(), token or secrets.token_hex(4))


def tune_interpreter() -> None:
    """Fit the interpreter to a process that does nothing but run loops.

    The loops leave next to no reference cycles, so collecting rarely costs no memory to speak
    of; over 100,000 short activities it saves a tenth of Python's time (measured).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def run_worker(
    loops: Sequence[Loop],
    *,
    grace_s: float = 30.0,
    on_ready: Callable[[], None] | None = None,
) -> int:
    """Run the loops until a signal asks for the end; returns the process's exit status.

    To be called in the main thread. `on_ready` is called, in another, once all loops work.
    """
    arrivals: _Arrivals = SimpleQueue()
    with _signals_into(arrivals):
        _follow_supervisor(arrivals)
        for loop in loops:
            loop.start()
        if on_ready is not None:
            _in_background(lambda: _report_ready(loops, on_ready), "wfq-ready")
        number = arrivals.get()
        assert number is not None
        log.info("%s: finishing what runs, for at most %g s", number.name, grace_s)
        return _drain(loops, arrivals, grace_s)


def _report_ready(loops: Sequence[Loop], on_ready: Callable[[], None]) -> None:
    for loop in loops:
        while not loop.wait_ready(1.0):
            pass
    on_ready()


def _drain(loops: Sequence[Loop], arrivals: _Arrivals, grace_s: float) -> int:
    """Stop all loops at the same time, so that they share one grace period."""
    threads = [_in_background(partial(loop.stop, grace_s), "wfq-stop") for loop in loops]

    def tell() -> None:
        for thread in threads:
            thread.join()
        arrivals.put(None)

    _in_background(tell, "wfq-stopped")
    try:
        number = arrivals.get(timeout=grace_s + MARGIN_S)
    except Empty:
        log.error("the worker did not stop in time; leaving what it holds to its leases")
        return STUCK_STATUS
    if number is not None:
        log.warning("%s again: ending at once", number.name)
        # Nothing of ours, and no finalizer of user code, may delay this.
        os._exit(128 + number)
    log.info("stopped")
    return 0


@contextmanager
def _signals_into(arrivals: _Arrivals) -> Iterator[None]:
    """Put SIGTERM and SIGINT into the queue; puts back what was there before."""

    def arrive(number: int, _: FrameType | None) -> None:
        # A SimpleQueue may be put to from a signal handler; an Event or a Lock may not.
        arrivals.put(signal.Signals(number))

    before = {number: signal.signal(number, arrive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow_supervisor(arrivals: _Arrivals) -> None:
    """Drain when the supervisor is gone, however it ended: nobody else would end us."""
    number = os.environ.pop(TETHER_VARIABLE, "")
    if not number.isdigit():
        return
    tether = int(number)
    os.set_inheritable(tether, False)

    def follow() -> None:
        while os.read(tether, 1):
            pass
        log.warning("the supervisor is gone")
        arrivals.put(signal.SIGTERM)

    _in_background(follow, "wfq-tether")


def _in_background(work: Callable[[], object], name: str) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread
