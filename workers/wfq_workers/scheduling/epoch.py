"""Notices that the store is not the one it was: emptied, or made anew with other partitions."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import open_namespace
from wfq.urls import is_cluster

log = logging.getLogger("wfq.worker")

#: Exit status of a worker whose namespace was made anew with other partitions.
REMADE_STATUS = 78


def end_process() -> None:
    """End this process at once: it would look for instances in the wrong places."""
    os._exit(REMADE_STATUS)


class EpochWatch:
    """Compares the namespace's epoch, random at its creation, with the one seen first.

    `on_remade` is called when the namespace has another number of partitions now.
    """

    def __init__(
        self, link: SyncLink, namespace: Namespace, on_remade: Callable[[], None] | None = None
    ) -> None:
        self._link = link
        self._namespace = namespace
        self._on_remade = on_remade
        self._epoch: bytes | None = None

    def look(self) -> None:
        """Look once; says what has happened in one line. Raises: StorageError."""
        name = self._namespace.name
        epoch, partitions = self._link.command("HMGET", self._namespace.meta, "epoch", "partitions")
        if epoch is None and self._epoch is None:
            return
        if epoch is None:
            open_namespace(self._link, name, partitions=self._namespace.partitions)
            epoch, partitions = self._link.command(
                "HMGET", self._namespace.meta, "epoch", "partitions"
            )
        if self._epoch not in (None, epoch):
            log.error(
                "the store was emptied (its epoch changed): every instance of namespace %r%s is "
                "gone; going on with what comes now",
                name,
                " on that node" if is_cluster(self._link.url) else "",
            )
        self._epoch = epoch
        if int(partitions) != self._namespace.partitions:
            log.critical(
                "namespace %r was made anew with %d partitions, this worker knows %d: "
                "start it again",
                name,
                int(partitions),
                self._namespace.partitions,
            )
            if self._on_remade is not None:
                self._on_remade()
