"""Which Redis keys wfq may leave behind: those that `wfq.storage.keys` lists, and no other."""

from __future__ import annotations

import re

import redis

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


#: Keys of one kind whose type and TTL are asked for; the names of all are looked at.
_ASKED = 200


def strangers(url: str) -> list[str]:
    """Return what is wrong with the keys of a server, one line each.

    Keys that do not begin with ``wfq`` are the test's own.
    """
    known = documented()
    wrong = []
    asked: dict[tuple[bool, str], list[str]] = {}
    with command_client(url) as client:
        for raw in client.scan_iter("wfq*", count=5000):
            key = raw.decode()
            match = _KEY.fullmatch(key)
            if match is None:
                wrong.append(f"{key}: not in the form of keys.py")
                continue
            head, colon, _ = match["rest"].partition(":")
            row = (match["partition"] is not None, head + colon)
            if row not in known:
                wrong.append(f"{key}: not listed in keys.py")
            elif len(some := asked.setdefault(row, [])) < _ASKED:
                some.append(key)
        for row, keys_of_row in asked.items():
            wrong += _misfits(client, keys_of_row, *known[row])
    return wrong


def _misfits(client: redis.Redis, names: list[str], kind: str, has_ttl: bool) -> list[str]:
    """Return which of the keys are of another type than listed, or live for another time."""
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.type(name)
        pipeline.ttl(name)
    answers = pipeline.execute()
    wrong = []
    for name, found, ttl in zip(names, answers[::2], answers[1::2], strict=True):
        found = found.decode()
        # A key that has just expired is of no type.
        if _TYPE_NAMES.get(found, found) not in (kind, "none"):
            wrong.append(f"{name}: a {found}, listed as {kind}")
        elif has_ttl != (ttl != -1) and found != "none":
            wrong.append(f"{name}: {'needs a' if has_ttl else 'must not have a'} TTL")
    return wrong
