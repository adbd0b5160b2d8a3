"""Reports a worker process alive, for `wfq workers`, the dashboard and idle hints."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import WORKER_TTL_MS, WorkerInfo, forget_worker, register_worker
from wfq_workers.backoff import Backoff, one_line
from wfq_workers.scheduling.epoch import EpochWatch

log = logging.getLogger("wfq.worker")

#: Seconds between reports: a third of what a silent worker is remembered for.
BEAT_S = WORKER_TTL_MS / 3000


class Presence:
    """Registers a worker until it stops; `details` says what it serves, asked at each report.

    It also looks whether the store is still the same; see `EpochWatch` for `on_remade`.
    publish: called once, after the first report, and again until it has succeeded.
    """

    def __init__(
        self,
        url: str,
        namespace: Namespace,
        worker_id: str,
        details: Callable[[], dict[str, Any]],
        *,
        on_remade: Callable[[], None] | None = None,
        publish: Callable[[SyncLink], None] | None = None,
    ) -> None:
        self._link = SyncLink(url)
        self._epoch = EpochWatch(self._link, namespace, on_remade)
        self._namespace = namespace
        self._worker_id = worker_id
        self._details = details
        self._publish = publish
        self._backoff = Backoff(log, "cannot report this worker alive")
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="wfq-presence", daemon=True)

    def start(self) -> None:
        """Report at once, then regularly, in a thread of its own."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the worker is registered; False if it is not within `timeout_s`."""
        return self._ready.wait(timeout_s)

    def stop(self, grace_s: float = 30.0) -> None:
        """Take the worker off the register and return."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(grace_s)
        try:
            forget_worker(self._link, self._namespace, self._worker_id)
        except Exception as exc:
            log.debug("the worker stays registered until that expires: %s", one_line(exc))
        self._link.close()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the loop has ended."""
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                self._epoch.look()
                info = WorkerInfo(self._worker_id, 0, self._details())
                register_worker(self._link, self._namespace, info)
                self._ready.set()
                if self._publish is not None:
                    self._publish(self._link)
                    self._publish = None
                self._backoff.clear()
            except Exception as exc:
                self._backoff.wait(exc, self._stop)
                continue
            self._stop.wait(BEAT_S)
