"""Which node of a cluster serves which hash slot.

Every key of a partition lies in one slot, so routing is: key, slot, node. One table per URL
and process is shared by all that talk to the cluster; whoever is redirected or cut off makes
it be asked for again. ASK is not followed: while a slot is moved key by key, no node has all
of it, and a script must see a whole partition. Who meets such a slot waits until it has
settled; nothing is written meanwhile, since every script that writes names a key that never
exists (the partition's prefix), which the old node then redirects before the script begins.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.crc import key_slot

from wfq.errors import StorageUnavailable
from wfq.storage.opening import COMMAND_TIMEOUT_S, Group, group_of, open_client, open_node, shown
from wfq.storage.refusals import translate
from wfq.storage.scripts import Argument
from wfq.urls import Address, is_cluster

#: Seconds between two questions for the table while nodes disagree or are away.
ASK_AGAIN_S = 0.1
#: Seconds one node may take to tell the table.
ASK_TIMEOUT_S = 1.0

#: Commands without a key: any node may answer.
_KEYLESS = frozenset(
    ("PING", "TIME", "INFO", "CLIENT", "CONFIG", "PUBLISH", "PUBSUB", "SCRIPT", "SCAN", "DBSIZE",
     "CLUSTER", "ROLE", "COMMAND", "ACL", "SUBSCRIBE", "PSUBSCRIBE")
)  # fmt: skip
#: Commands whose key follows a subcommand.
_SECOND = frozenset(("XGROUP", "XINFO", "OBJECT", "MEMORY"))


def key_of(command: tuple[Argument, ...]) -> str | bytes | None:
    """The first key of a command that wfq sends; None where it has none."""
    name = str(command[0]).upper()
    if name in _KEYLESS or len(command) < 2:
        return None
    if name in ("EVAL", "EVALSHA"):
        return _text(command[3]) if int(command[2]) else None
    if name in ("XREAD", "XREADGROUP"):
        return _text(command[command.index("STREAMS") + 1])
    return _text(command[2 if name in _SECOND else 1])


def _text(word: Argument) -> str | bytes:
    return str(word) if isinstance(word, int) else word


class SlotTable:
    """The masters of a cluster by slot, as its nodes told last. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.server = shown(url)
        self.group: Group = group_of(url)
        self._lock = threading.Lock()
        self._slots: list[Address | None] = [None] * 16_384
        self._masters: list[Address] = []
        #: Every node that was ever told of; asked in turn.
        self._known: list[Address] = list(self.group.addresses)
        self._stale = True
        self._asked_at = -1e9

    def address(self, key: str | bytes | None) -> Address:
        """The node that serves a key; one of the masters for None.

        Raises: StorageUnavailable when no node answers, or none serves the slot.
        """
        if self._stale:
            self._ask()
        if key is None:
            if not self._masters:
                raise StorageUnavailable(f"no master of {self.server} is known; is it running?")
            return random.choice(self._masters)
        slot = key_slot(key.encode() if isinstance(key, str) else key)
        found = self._slots[slot]
        if found is None:
            self._stale = True
            raise StorageUnavailable(f"no node of {self.server} serves slot {slot}")
        return found

    def masters(self) -> list[Address]:
        """Every master that serves slots. Raises: StorageUnavailable."""
        self.address(None)
        return list(self._masters)

    def learn(self, error: object) -> None:
        """Take from a reply or a failure what it tells about the table."""
        if isinstance(error, redis.exceptions.MovedError) and error.host:
            self._slots[error.slot_id] = (error.host, int(error.port))
        # The nodes know more than one redirection tells, or this one is gone.
        self._stale = True

    def _ask(self) -> None:
        with self._lock:
            now = time.monotonic()
            if not self._stale or (self._masters and now < self._asked_at + ASK_AGAIN_S):
                return
            failure: Exception | None = None
            for address in list(self._known):
                try:
                    rows = self._rows(address)
                except (redis.RedisError, OSError) as exc:
                    # Whoever does not answer is asked last the next time.
                    self._known.remove(address)
                    self._known.append(address)
                    failure = exc
                    continue
                if rows:
                    self._take(address, rows)
                    # Another one next time: this one may be cut off from the rest.
                    self._known.remove(address)
                    self._known.append(address)
                    break
            else:
                self._asked_at = time.monotonic()
                if not self._masters:
                    reason = failure or redis.ConnectionError("no node serves any slot yet")
                    raise translate(reason, self.server) from failure
                return
            self._asked_at = time.monotonic()
            self._stale = False

    def _rows(self, address: Address) -> list[Any]:
        client = open_node(self.group, address, timeout_s=ASK_TIMEOUT_S)
        client.connection_pool.connection_kwargs["socket_connect_timeout"] = ASK_TIMEOUT_S
        try:
            connection = client.connection_pool.get_connection()
            connection.send_command("CLUSTER", "SLOTS")
            rows: list[Any] = connection.read_response(disable_decoding=True)
            return rows
        finally:
            client.close()

    def _take(self, told_by: Address, rows: list[Any]) -> None:
        slots: list[Address | None] = [None] * 16_384
        masters: dict[Address, None] = {}
        for first, last, *nodes in rows:
            found = [_node(node, told_by) for node in nodes]
            for address in found:
                if address not in self._known:
                    self._known.append(address)
            masters[found[0]] = None
            slots[int(first) : int(last) + 1] = [found[0]] * (int(last) - int(first) + 1)
        self._slots, self._masters = slots, list(masters)


def _node(row: list[Any], told_by: Address) -> Address:
    """A node of CLUSTER SLOTS; one that does not know its own host is where we asked it."""
    host = row[0].decode() if row[0] else ""
    return (host if host not in ("", "?") else told_by[0]), int(row[1])


_tables: dict[str, SlotTable] = {}
_tables_lock = threading.Lock()


def table_of(url: str, make: Callable[[str], SlotTable] = SlotTable) -> SlotTable:
    """The table of a cluster, one per URL and process. Raises: ConfigurationError."""
    with _tables_lock:
        table = _tables.get(url)
        if table is None:
            table = _tables[url] = make(url)
        return table


def open_any(url: str, *, timeout_s: float | None = COMMAND_TIMEOUT_S) -> redis.Redis:
    """A client of the one server of a URL, or of some master of its cluster that can be reached.

    Raises: StorageUnavailable, ConfigurationError.
    """
    if not is_cluster(url):
        return open_client(url, timeout_s=timeout_s)
    table = table_of(url)
    masters = table.masters()
    random.shuffle(masters)
    for last, address in enumerate(masters, 1 - len(masters)):
        client = open_node(table.group, address, timeout_s=timeout_s)
        try:
            pool = client.connection_pool
            pool.release(pool.get_connection())
        except (redis.RedisError, OSError) as exc:
            client.close()
            table.learn(exc)
            if last == 0:
                raise translate(exc, shown(url)) from exc
        else:
            return client
    raise StorageUnavailable(f"no master of {shown(url)} is known; is it running?")


def server_of(url: str, key: str) -> str:
    """A name of the server that holds a key: the same for keys that one connection reaches.

    Raises: StorageUnavailable.
    """
    return "{}:{}".format(*table_of(url).address(key)) if is_cluster(url) else url
