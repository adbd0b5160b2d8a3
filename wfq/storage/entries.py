"""Ids of stream entries: ``milliseconds-number``."""

from __future__ import annotations


def entry_number(entry_id: bytes) -> tuple[int, int]:
    """An entry id as what it is compared by."""
    ms, _, seq = entry_id.partition(b"-")
    return int(ms), int(seq)


def id_after(entry_id: bytes) -> bytes:
    """The smallest stream id above `entry_id`."""
    ms, _, seq = entry_id.partition(b"-")
    return b"%b-%d" % (ms, int(seq) + 1)
