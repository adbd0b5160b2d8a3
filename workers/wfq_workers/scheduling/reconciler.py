"""Reconciles the shards of a cluster after one of them may have lost its last moments.

A server that was started again, promoted or emptied may hold less than it had acknowledged, while
the others hold what they were told by it. Each partition remembers, on its own server, which life
of that server has been reconciled: a random id that Redis makes anew at every start and
promotion. Where the two differ, parents and children that the loss has torn apart are put right,
as ``wfq doctor --repair`` would: once at once, and once more when a master that was cut off can
have told nobody anything for a while. Any number of schedulers may run; one at a time does it.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Collection
from itertools import chain

from wfq.checker.crossing import forsaken_children, torn_parents
from wfq.checker.repair import repair_instance
from wfq.errors import StorageError
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink, timeout_of
from wfq.storage.membership import turn_command
from wfq.storage.preflight import info_of
from wfq.storage.slots import server_of
from wfq_workers.backoff import Backoff

log = logging.getLogger("wfq.reconciler")

#: Seconds between two looks of all schedulers together.
PERIOD_S = 10.0
#: Seconds within which each scheduler looks for the first time.
FIRST_S = 2.0
#: Seconds from the first pass to the second.
SETTLE_S = 20.0
#: Seconds between two pages of a pass, so that it delays nobody.
PAUSE_S = 0.01
#: Milliseconds for which a pass keeps others from it, counted from its last page.
CLAIM_MS = 30_000
#: Seconds after which a pass renews its claim.
RENEW_S = CLAIM_MS / 4000
_DONE = "2"


class ReconcilerLoop:
    """Watches over the servers of a cluster. Any number may run."""

    def __init__(
        self,
        url: str,
        namespace: Namespace,
        *,
        period_s: float = PERIOD_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._url = url
        self._namespace = namespace
        self._period_s = period_s
        self._settle_s = settle_s
        self._token = secrets.token_hex(8)
        #: Partition -> server and its life, as of the last look.
        self._known: dict[int, tuple[str, str]] = {}
        self._round = 0
        self._refused = False
        self._stopping = threading.Event()
        self._backoff = Backoff(log, "reconciler")
        self._thread = threading.Thread(target=self._run, name="wfq-reconciler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """A reconciler has nothing to prepare."""
        return True

    def stop(self, grace_s: float = 30.0) -> None:
        """Finish the page in hand and return."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(grace_s)

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the loop has ended."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        link = SyncLink(self._url, timeout_s=timeout_of(self._url), patient=False)
        # Soon for the first time: what is not known cannot be missed later.
        wait_s = min(FIRST_S, self._period_s) * random.random()
        try:
            while not self._stopping.wait(wait_s):
                wait_s = self._period_s * random.uniform(1.0, 2.0)
                try:
                    self.look(link)
                    self._backoff.clear()
                except StorageError as exc:
                    self._backoff.wait(exc, self._stopping)
                except Exception:
                    log.exception("reconciler failed")
        finally:
            link.close()

    def look(self, link: SyncLink) -> None:
        """Look once, and do what there is to do. Raises: StorageError."""
        period_ms = round(self._period_s * 1000)
        mine = link.command(*turn_command(self._namespace, "lives", self._token, period_ms))
        if not mine:
            return
        lives = self._lives(link)
        asked = self._to_ask(lives)
        self._known = dict(lives)
        keys = [("GET", self._namespace.life(partition)) for partition in asked]
        told = dict(zip(asked, link.try_commands(keys), strict=True))
        first: dict[int, str] = {}
        second: dict[int, str] = {}
        for partition, stored in told.items():
            if isinstance(stored, StorageError):
                continue
            life, passes, since = [*(stored or b"").decode().split(" "), "", ""][:3]
            if life == lives[partition][1] and passes == _DONE:
                continue
            # Until it is done there is a reason to look.
            self._known.pop(partition, None)
            if life != lives[partition][1]:
                first[partition] = life
            elif not 0 <= time.time() - float(since or 0) < self._settle_s:
                second[partition] = life
        if (first or second) and self._claim(link):
            if any(first.values()):
                log.warning(
                    "the servers of partitions %s were started again, replaced or emptied: looking "
                    "for children and outcomes that were lost between them and the others",
                    ", ".join(str(partition) for partition in sorted(first)),
                )
            try:
                done = self._reconcile(link, [*first, *second])
            finally:
                self._release(link)
            if done:
                for partition in first:
                    self._note(link, partition, f"{lives[partition][1]} 1 {int(time.time())}")
                for partition in second:
                    self._note(link, partition, f"{lives[partition][1]} {_DONE}")

    def _lives(self, link: SyncLink) -> dict[int, tuple[str, str]]:
        """Where each partition is, and which life of that server it is; without those away."""
        found: dict[int, tuple[str, str]] = {}
        lives: dict[str, str] = {}
        for partition in range(self._namespace.partitions):
            key = self._namespace.life(partition)
            try:
                server = server_of(self._url, key)
                if server not in lives:
                    lives[server] = ""
                    lives[server] = info_of(link, key, "replication").get("master_replid", "")
            except StorageError as exc:
                self._note_refusal(exc)
                continue
            if lives[server]:
                found[partition] = server, lives[server]
        return found

    def _note_refusal(self, error: StorageError) -> None:
        if "NOPERM" in str(error) and not self._refused:
            self._refused = True
            log.warning(
                "this user may not ask INFO, so nobody notices what a server of the cluster loses: "
                "grant it, or run 'wfq doctor --repair' after a failover"
            )

    def _to_ask(self, lives: dict[int, tuple[str, str]]) -> list[int]:
        """Partitions whose server is another than at the last look, and one more of each."""
        self._round += 1
        by_server: dict[str, list[int]] = {}
        for partition, (server, _) in lives.items():
            by_server.setdefault(server, []).append(partition)
        asked = {here[self._round % len(here)] for here in by_server.values()}
        asked.update(p for p, life in lives.items() if self._known.get(p) != life)
        return sorted(asked)

    def _claim(self, link: SyncLink) -> bool:
        """Keep others from a pass, or go on keeping them."""
        turn = self._namespace.turn("reconcile")
        held = link.command("GET", turn)
        if held is None:
            return bool(link.command("SET", turn, self._token, "NX", "PX", CLAIM_MS))
        if held.decode() == self._token:
            link.command("SET", turn, self._token, "XX", "PX", CLAIM_MS)
            return True
        return False

    def _release(self, link: SyncLink) -> None:
        turn = self._namespace.turn("reconcile")
        if link.command("GET", turn) == self._token.encode():
            link.command("DEL", turn)

    def _reconcile(self, link: SyncLink, partitions: Collection[int]) -> bool:
        """One pass; False when it was given up. Raises: StorageError."""
        claimed_at, count = time.monotonic(), 0
        where = frozenset(partitions)
        # Who is to end with its parent shall not be told first that a child of its own has ended.
        pages = chain(
            forsaken_children(link, self._namespace, where),
            torn_parents(link, self._namespace, where),
        )
        for page in pages:
            for instance_id in page:
                done = self._repair(link, instance_id)
                count += len(done)
                for what in done:
                    told = f"instance {instance_id}: put back what a server has lost: {what}"
                    log.info(told, extra={"instance_id": instance_id})
            if time.monotonic() - claimed_at > RENEW_S:
                if not self._claim(link):
                    return False
                claimed_at = time.monotonic()
            if self._stopping.wait(PAUSE_S):
                return False
        if count:
            log.warning("put back %d things that a server of the cluster has lost", count)
        return True

    def _repair(self, link: SyncLink, instance_id: str) -> list[str]:
        """Repair one instance; what is damaged beyond that must not hold up the others."""
        try:
            return repair_instance(link, self._namespace, instance_id)
        except (ValueError, LookupError, TypeError):
            log.exception(
                "instance %s cannot be repaired: 'wfq doctor --deep' tells more",
                instance_id,
                extra={"instance_id": instance_id},
            )
            return []

    def _note(self, link: SyncLink, partition: int, life: str) -> None:
        link.command("SET", self._namespace.life(partition), life)
