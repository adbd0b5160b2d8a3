"""Several worker processes under one: started, restarted when they crash, stopped together."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from wfq_workers.process import MARGIN_S, TETHER_VARIABLE, TOKEN_VARIABLE, worker_id_of
from wfq_workers.signals import Inbox, signals_into_inbox

log = logging.getLogger("wfq.supervisor")

#: Seconds before a crashed child is started again; doubles with each crash in a row.
FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
#: Seconds of life after which a crash is no longer one in a row.
STEADY_S = 30.0
#: Exit status that says "what I was given cannot work": starting again would not help.
USAGE_STATUS = 2

#: Called with the worker id of a child that died, to give up what it held.
Release = Callable[[str], None]


class WorkerChild:
    """One place among the supervised processes, and the process that fills it now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.crashes = 0
        self.start_at = 0.0
        self.started_at = 0.0
        self.worker_id = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        tether: int,
        numbered: Mapping[str, int],
    ) -> None:
        """Start a process in this place."""
        token = secrets.token_hex(4)
        own = {name: str(first + self.number) for name, first in numbered.items()}
        self.process = subprocess.Popen(
            list(command),
            env={**env, **own, TOKEN_VARIABLE: token, TETHER_VARIABLE: str(tether)},
            pass_fds=[tether],
            # A Ctrl-C at the terminal is for the supervisor, which then stops its children.
            start_new_session=True,
        )
        self.started_at = time.monotonic()
        self.worker_id = worker_id_of(self.process.pid, token)

    def note_end(self) -> float:
        """Count a crash and return the seconds to wait before the next start."""
        now = time.monotonic()
        self.crashes = 1 if now - self.started_at >= STEADY_S else self.crashes + 1
        delay_s = min(FIRST_DELAY_S * 2.0 ** min(self.crashes - 1, 20), LONGEST_DELAY_S)
        self.start_at = now + delay_s
        self.process = None
        return delay_s


class Supervisor:
    """Keeps `processes` children running `command` until a signal asks for the end.

    Children are fresh interpreters in sessions of their own; they drain when this process is
    gone, however it ended. `release` is called, in a thread, for each child that died.
    `numbered` are variables that count up from child to child, such as ports.
    """

    def __init__(
        self,
        command: Sequence[str],
        processes: int,
        *,
        grace_s: float = 30.0,
        release: Release | None = None,
        env: Mapping[str, str] | None = None,
        numbered: Mapping[str, int] | None = None,
    ) -> None:
        self._numbered = numbered or {}
        self._command = command
        self._grace_s = grace_s
        self._release = release
        self._env = dict(os.environ if env is None else env)
        self._children = [WorkerChild(number) for number in range(processes)]
        self._releases: list[threading.Thread] = []

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; returns the exit status. For the main thread.

        The signal is passed on, and so is a second one, which ends the children at once.
        """
        theirs, ours = os.pipe()
        try:
            with signals_into_inbox(signal.SIGTERM, signal.SIGINT, signal.SIGCHLD) as inbox:
                status = self._supervise(inbox, theirs)
                return self._stop(inbox, status)
        finally:
            os.close(ours)
            os.close(theirs)

    def _supervise(self, inbox: Inbox, tether: int) -> int:
        while True:
            for child in self._children:
                if child.process is None and time.monotonic() >= child.start_at:
                    child.start(self._command, self._env, tether, self._numbered)
                    log.info("worker %s started", child.worker_id)
            number = inbox.wait(self._until_next_start())
            if number in (signal.SIGTERM, signal.SIGINT):
                name = signal.Signals(number).name
                log.info("%s: stopping %d workers", name, len(self._children))
                return 0
            for child in self._ended():
                if self._give_up_on(child):
                    return USAGE_STATUS

    def _until_next_start(self) -> float | None:
        due = [c.start_at for c in self._children if c.process is None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _ended(self) -> Iterator[WorkerChild]:
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                yield child

    def _give_up_on(self, child: WorkerChild) -> bool:
        """Note a child's end; True if none is to be started in its place."""
        assert child.process is not None
        status = child.process.returncode
        self._release_later(child.worker_id)
        if status == USAGE_STATUS:
            log.error("worker %s cannot run as it was asked to", child.worker_id)
            child.process = None
            return True
        delay_s = child.note_end()
        log.warning(
            "worker %s %s; starting another in %.1f s", child.worker_id, _ending(status), delay_s
        )
        return False

    def _release_later(self, worker_id: str) -> None:
        """Give up what a dead worker held, without keeping the living waiting."""
        if self._release is None:
            return
        release = self._release

        def work() -> None:
            try:
                release(worker_id)
            except Exception as exc:
                log.warning(
                    "what worker %s held is not given up: %s; its leases run out", worker_id, exc
                )

        self._releases = [thread for thread in self._releases if thread.is_alive()]
        self._releases.append(threading.Thread(target=work, name="wfq-release", daemon=True))
        self._releases[-1].start()

    def _stop(self, inbox: Inbox, status: int) -> int:
        """Pass the signal on and wait; what does not end in time is killed."""
        end = time.monotonic() + self._grace_s + MARGIN_S
        self._signal_all(signal.SIGTERM)
        while any(child.process is not None for child in self._children):
            for child in self._ended():
                assert child.process is not None
                code = child.process.returncode
                if code:
                    status = status or 1
                    log.warning("worker %s %s", child.worker_id, _ending(code))
                    self._release_later(child.worker_id)
                child.process = None
            if all(child.process is None for child in self._children):
                break
            number = inbox.wait(max(0.0, end - time.monotonic()))
            if number is None:
                log.error("workers did not stop in time; killing them")
                self._signal_all(signal.SIGKILL)
                end = time.monotonic() + MARGIN_S
            elif number != signal.SIGCHLD:
                self._signal_all(signal.SIGTERM)
        for thread in self._releases:
            thread.join(5.0)
        return status

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.process is not None:
                child.process.send_signal(number)


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
