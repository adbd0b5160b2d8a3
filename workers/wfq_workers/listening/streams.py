"""A Redis stream as a source: at least once, in a consumer group.

An entry is acknowledged after everything it asked for is done; a listener that dies before that
leaves it pending, and another takes it over. Events are known again by their id, so the second
delivery raises nothing new. Entries stay in the stream: it belongs to its senders.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from wfq import failpoints
from wfq.errors import StorageError
from wfq.logs import plain_text
from wfq.storage.link import SyncLink, Wire
from wfq.storage.scripts import Argument
from wfq_workers.backoff import Backoff
from wfq_workers.listening.counters import Counters
from wfq_workers.listening.courier import Courier
from wfq_workers.listening.messages import decode_entry, raw_entry

log = logging.getLogger("wfq.listener")

#: Entries in one read; they are acknowledged together.
BATCH = 64
#: Milliseconds of one blocking read: a listener that is told to stop ends no later.
BLOCK_MS = 1000
#: Milliseconds that a pending entry rests before it is taken from its consumer. A live one needs
#: far less; one that waits for Redis may lose it, and the event id makes up for that.
CLAIM_IDLE_MS = 15_000
#: Seconds between looks for such entries.
CLAIM_EVERY_S = 5.0
#: Milliseconds after which a consumer that holds nothing is forgotten.
FORGET_IDLE_MS = 24 * 3600 * 1000

#: Remove consumers that hold nothing, in one step: one that gets an entry meanwhile keeps it.
#: KEYS[1] stream; ARGV[1] group, ARGV[2] idle ms, ARGV[3] a consumer to remove however idle.
_FORGET = """
for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local found = {}
  for n = 1, #row, 2 do found[row[n]] = row[n + 1] end
  local gone = found.idle >= tonumber(ARGV[2]) or found.name == ARGV[3]
  if found.pending == 0 and gone then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], found.name)
  end
end
"""


class StreamSource:
    """Reads one stream in one consumer group and hands each entry to its courier."""

    def __init__(
        self,
        link: SyncLink,
        stream: str,
        group: str,
        consumer: str,
        courier: Courier,
        counters: Counters,
        stop: threading.Event,
        *,
        limit: int,
    ) -> None:
        self._link = link
        self._stream = stream
        self._group = group
        self._consumer = consumer
        self._courier = courier
        self._counters = counters
        self._stop = stop
        self._limit = limit
        self._backoff = Backoff(log, f"reading {plain_text(courier.source)}")
        self._claim_at = 0.0
        self.ready = threading.Event()

    def run(self) -> None:
        """Read until stopped; survives every outage of Redis and the loss of its group."""
        while not self._stop.is_set():
            try:
                self._serve()
            except StorageError as exc:
                self._backoff.wait(exc, self._stop)
            except Exception:
                log.exception("reading %s failed on an error of our own", self._courier.source)
                self._stop.wait(1.0)
        self._leave()

    def wake(self) -> None:
        """Nothing to do: no read lasts longer than `BLOCK_MS`."""

    def _serve(self) -> None:
        self._make_group()
        wire = self._link.wire(timeout_s=BLOCK_MS / 1000 + 5, key=self._stream)
        try:
            # A read whose reply was lost has left its entries with us: they come first.
            self._take_own(wire)
            self.ready.set()
            while not self._stop.is_set():
                entries = self._read_new(wire)
                self._backoff.clear()
                self._process(entries)
                if time.monotonic() >= self._claim_at:
                    self._claim(wire)
        finally:
            wire.close()

    def _make_group(self) -> None:
        """Create the group from the beginning of the stream, so that nothing is passed over."""
        try:
            self._link.command("XGROUP", "CREATE", self._stream, self._group, "0", "MKSTREAM")
        except StorageError as exc:
            if "BUSYGROUP" not in str(exc):
                raise

    def _take_own(self, wire: Wire) -> None:
        start = "0"
        while not self._stop.is_set():
            entries = _entries(_ask(wire, self._read_command(start, block=False)))
            if not entries:
                return
            self._process(entries)
            start = entries[-1][0].decode()

    def _read_new(self, wire: Wire) -> list[tuple[bytes, dict[bytes, bytes]]]:
        entries = _entries(_ask(wire, self._read_command(">", block=True)))
        if not entries and wire.memory:
            # The in-process store does not block on a read that has a COUNT.
            self._stop.wait(0.05)
        return entries

    def _read_command(self, start: str, *, block: bool) -> tuple[Argument, ...]:
        head = ("XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", BATCH)
        blocking: tuple[Argument, ...] = ("BLOCK", BLOCK_MS) if block else ()
        return (*head, *blocking, "STREAMS", self._stream, start)

    def _process(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        done: list[bytes] = []
        for entry_id, fields in entries:
            if self._deliver(entry_id, fields):
                done.append(entry_id)
            if self._stop.is_set():
                break
        if failpoints.ACTIVE:
            failpoints.hit("listen.before_ack")
        if done:
            # After the deliveries: a crash before this line repeats them, never loses one.
            self._link.command("XACK", self._stream, self._group, *done)

    def _deliver(self, entry_id: bytes, fields: dict[bytes, bytes]) -> bool:
        if not fields:
            return True  # the sender has deleted the entry since it was read
        return self._courier.deliver(
            raw_entry(fields),
            lambda: decode_entry(fields, limit=self._limit),
            f"{self._stream}-{entry_id.decode()}",
        )

    def _claim(self, wire: Wire) -> None:
        """Take over what dead listeners hold."""
        start = b"0-0"
        while not self._stop.is_set():
            command = ("XAUTOCLAIM", self._stream, self._group, self._consumer, CLAIM_IDLE_MS)
            reply = _ask(wire, (*command, start, "COUNT", BATCH))
            start, rows = reply[0], reply[1]
            entries = [(row[0], _fields(row[1])) for row in rows if row and row[0]]
            if entries:
                self._counters.add(self._courier.source, "claimed", len(entries))
                log.info("took over %d entries of %s", len(entries), plain_text(self._stream))
                self._process(entries)
            if start == b"0-0":
                break
        self._claim_at = time.monotonic() + CLAIM_EVERY_S
        self._forget()

    def _forget(self, consumer: str = "") -> None:
        """Take consumers that are long gone out of the group, and `consumer`, if they may."""
        self._link.command("EVAL", _FORGET, 1, self._stream, self._group, FORGET_IDLE_MS, consumer)

    def _leave(self) -> None:
        """Take our own consumer out of the group, unless it still holds entries."""
        try:
            self._forget(self._consumer)
        except StorageError as exc:
            log.debug("the consumer stays in its group: %s", exc)


def _ask(wire: Wire, command: tuple[Argument, ...]) -> Any:
    # Raw replies: redis-py's own reading of them collapses repeated fields.
    wire.send([command])
    return wire.receive()


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    if not reply:
        return []
    return [(entry_id, _fields(flat)) for entry_id, flat in reply[0][1]]


def _fields(flat: list[bytes] | None) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}
