"""Which Redis keys wfq may leave behind: those that `wfq.storage.keys` lists, and no other."""

from __future__ import annotations

import re

from tests.servers import command_client
from wfq.storage import keys

#: ``wfq:{ns:p}:`` or ``wfq:{ns}:``, then the rest.
_KEY = re.compile(r"wfq:\{(?P<namespace>[^{}:]+)(?::(?P<partition>\d+))?\}:(?P<rest>.+)", re.DOTALL)
#: A row of the table in the docstring of `keys`.
_ROW = re.compile(
    r"^``wfq:\{ns(?P<partition>:p)?\}:(?P<rest>[\w-]+:?)(?:<\w+>)?``\s+"
    r"(?P<type>sorted set|stream|string|hash|list|set)\s+(?P<holds>.*)$",
    re.MULTILINE,
)
_TYPE_NAMES = {"zset": "sorted set"}


def documented() -> dict[tuple[bool, str], tuple[str, bool]]:
    """Return the table of `keys`: (in a partition, rest) -> (type, has a TTL)."""
    return {
        (bool(row["partition"]), row["rest"]): (row["type"], "TTL" in row["holds"])
        for row in _ROW.finditer(keys.__doc__ or "")
    }


def strangers(url: str) -> list[str]:
    """Return what is wrong with the keys of a server, one line each.

    Keys that do not begin with ``wfq`` are the test's own.
    """
    known = documented()
    wrong = []
    with command_client(url) as client:
        for raw in client.scan_iter("wfq*", count=1000):
            key = raw.decode()
            match = _KEY.fullmatch(key)
            if match is None:
                wrong.append(f"{key}: not in the form of keys.py")
                continue
            head, colon, _ = match["rest"].partition(":")
            expected = known.get((match["partition"] is not None, head + colon))
            kind = client.type(raw).decode()
            if expected is None:
                wrong.append(f"{key}: not listed in keys.py")
            elif _TYPE_NAMES.get(kind, kind) not in (expected[0], "none"):
                wrong.append(f"{key}: a {kind}, listed as {expected[0]}")
            elif expected[1] != (client.ttl(raw) != -1):
                wrong.append(f"{key}: {'needs a' if expected[1] else 'must not have a'} TTL")
    return wrong
