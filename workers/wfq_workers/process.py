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
from typing import Protocol

from wfq_workers.signals import Inbox, signals_into_inbox

log = logging.getLogger("wfq.worker")

#: Set by a supervisor for its child: the random part of the child's worker id.
TOKEN_VARIABLE = "WFQ_WORKER_TOKEN"
#: Set by a supervisor for its child: the number of a pipe that closes when it is gone.
TETHER_VARIABLE = "WFQ_WORKER_TETHER"
#: Seconds beyond the grace period that the loops get to report, hand back and leave.
MARGIN_S = 20.0
#: Exit status of a worker whose loops did not end in time, or died.
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
    with signals_into_inbox(signal.SIGTERM, signal.SIGINT) as inbox, _ends_with_its_threads():
        _follow_supervisor(inbox)
        for loop in loops:
            loop.start()
        tune_interpreter()
        if on_ready is not None:
            _in_background(partial(_report_ready, loops, on_ready), "wfq-ready")
        number = inbox.wait()
        log.info("%s: finishing what runs, for at most %g s", _name(number), grace_s)
        return _drain(loops, inbox, grace_s)


@contextmanager
def _ends_with_its_threads() -> Iterator[None]:
    """End the process when a thread of ours dies of a bug.

    A loop that has lost a thread would go on to renew its leases and do nothing with them.
    """
    usual = threading.excepthook

    def look(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else ""
        if not name.startswith("wfq-"):
            usual(args)
            return
        error = args.exc_value or args.exc_type()
        log.critical("thread %s died: this worker ends, others take over", name, exc_info=error)
        os._exit(STUCK_STATUS)

    threading.excepthook = look
    try:
        yield
    finally:
        threading.excepthook = usual


def _report_ready(loops: Sequence[Loop], on_ready: Callable[[], None]) -> None:
    for loop in loops:
        while not loop.wait_ready(1.0):
            pass
    on_ready()


def _drain(loops: Sequence[Loop], inbox: Inbox, grace_s: float) -> int:
    """Stop all loops at the same time, so that they share one grace period."""
    threads = [_in_background(partial(loop.stop, grace_s), "wfq-stop") for loop in loops]

    def tell() -> None:
        for thread in threads:
            thread.join()
        inbox.tell()

    _in_background(tell, "wfq-stopped")
    number = inbox.wait(grace_s + MARGIN_S)
    if number is None:
        log.error("the worker did not stop in time; leaving what it holds to its leases")
        return STUCK_STATUS
    if number:
        log.warning("%s again: ending at once", _name(number))
        # Nothing of ours, and no finalizer of user code, may delay this.
        os._exit(128 + number)
    log.info("stopped")
    return 0


def _name(number: int | None) -> str:
    return signal.Signals(number).name if number else "the end"


def _follow_supervisor(inbox: Inbox) -> None:
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
        inbox.tell(signal.SIGTERM)

    _in_background(follow, "wfq-tether")


def _in_background(work: Callable[[], object], name: str) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread
